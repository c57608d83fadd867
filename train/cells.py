"""Cells of the training grid: one model trained on one task's rows of one arm with one seed."""

import hashlib
import json
import logging
from dataclasses import asdict, dataclass

from targen.config import Arm, Settings, differences, task_from_file
from targen.data import original_train_split, read_rows
from targen.errors import UserError
from targen.jsonl import Json, read_json
from targen.paths import RunPaths
from targen.slots import rng
from targen.task import Row, TaskSpec

log = logging.getLogger(__name__)
DONE = "done.json"
MEMORY_KEYS = frozenset({"device_batch_size"})  # what fits at once, not what is learnt


@dataclass(frozen=True)
class Cell:
    """One trained model of the grid."""

    model: str
    setting: str
    task: str
    arm: Arm
    seed: int

    @property
    def name(self) -> str:
        return f"{self.model}-{self.setting}-{self.task}-{self.arm}-s{self.seed}"


def cells(settings: Settings) -> list[Cell]:
    """The grid of a run, in a fixed order."""
    return [
        Cell(settings.model.name, "single", task, arm, seed)
        for task in settings.tasks
        for arm in settings.arms
        for seed in settings.seeds
    ]


def training_rows(settings: Settings, cell: Cell) -> tuple[TaskSpec, tuple[Row, ...]] | None:
    """The rows that a cell is trained on, and the task whose format they have.

    None: the original arm of a run that fell back to the fixture, which has no training rows.
    Raises: UserError where rows are missing that should be there.
    """
    task = settings.tasks[cell.task]
    if cell.arm == "synthetic":
        path = settings.paths.synthetic(task.name) / "train.jsonl"
        if not path.is_file():
            raise UserError(
                f"{path}: not there, expected the synthetic rows of {task.name}. Run phases=[generate] first."
            )
        rows = read_rows(path, task)
    else:
        task = _original_task(settings, task)
        split = original_train_split(settings.data, task)
        if split is None:
            return None
        rows = split.rows
    return task, _at_most(rows, settings.train.max_rows, cell)


def _original_task(settings: Settings, task: TaskSpec) -> TaskSpec:
    """The task itself, or the one whose train split stands in for it (AX-g: RTE, with the same labels)."""
    if task.original_train is None:
        return task
    return settings.tasks.get(task.original_train) or task_from_file(task.original_train)


def _at_most(rows: tuple[Row, ...], count: int | None, cell: Cell) -> tuple[Row, ...]:
    """All rows, or so many drawn by the cell's seed, in their order."""
    if count is None or len(rows) <= count:
        return rows
    picked = rng(cell.seed, cell.task, cell.arm, "rows").sample(range(len(rows)), count)
    return tuple(rows[place] for place in sorted(picked))


def fingerprint(settings: Settings, cell: Cell, rows: tuple[Row, ...] | None = None) -> Json:
    """What a trained model depends on; without the rows where these are not at hand."""
    task = settings.tasks[cell.task]
    train = {key: value for key, value in asdict(settings.train).items() if key not in MEMORY_KEYS}
    found: Json = {
        "train": train,
        "model": asdict(settings.model),
        f"tasks.{task.name}": {"encoder": asdict(task.encoder), "choices": task.choices},
    }
    if settings.model.family == "seq2seq":
        found[f"tasks.{task.name}"] |= {
            "question": task.question,
            "instance": task.instance,
            "long_field": task.long_field,
            "verbalizers": [label.verbalizer for label in task.labels],
        }
    if rows is not None:
        found["training rows"] = hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]
    return found


def done(paths: RunPaths, cell: Cell) -> Json | None:
    """The done marker of a cell, None while it is not trained."""
    path = paths.model(cell.name) / DONE
    if not path.is_file():
        return None
    return read_json(path)


def check_unchanged(settings: Settings, cell: Cell, marker: Json, now: Json) -> None:
    """Raises: UserError when a trained cell was trained on something else than what the run has now."""
    changed = [
        change
        for name, value in now.items()
        for change in differences(name, marker.get("fingerprint", {}).get(name), value)
    ]
    if changed:
        raise UserError(
            f"{settings.paths.model(cell.name)}: was trained otherwise: {'; '.join(changed)}. Take another run.dir, restore "
            "the settings, or remove this folder to train it anew."
        )


def check_trained(settings: Settings) -> None:
    """Holds every trained cell against the settings of the run, rows left out. Raises: UserError as check_unchanged."""
    for cell in cells(settings):
        if (marker := done(settings.paths, cell)) is not None:
            check_unchanged(settings, cell, marker, fingerprint(settings, cell))
