"""Cells of the training grid: one model trained on one task's rows of one arm with one seed."""

import hashlib
import json
import logging
from dataclasses import asdict, dataclass

from targen.config import Arm, Settings, task_from_file
from targen.data import original_train_split, read_rows
from targen.errors import UserError
from targen.jsonl import Json
from targen.paths import RunPaths
from targen.slots import rng
from targen.task import Row, TaskSpec

log = logging.getLogger(__name__)
DONE = "done.json"


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
    """What a trained model depends on, each part hashed on its own so that a change can be named."""
    task = settings.tasks[cell.task]
    parts: Json = {
        "train settings": asdict(settings.train),
        "model": asdict(settings.model),
        "templates": {"encoder": asdict(task.encoder), "choices": task.choices},
    }
    if rows is not None:
        parts["rows"] = rows
    return {
        name: hashlib.sha256(json.dumps(part, sort_keys=True).encode()).hexdigest()[:16] for name, part in parts.items()
    }


def done(paths: RunPaths, cell: Cell) -> Json | None:
    """The done marker of a cell, None while it is not trained."""
    path = paths.model(cell.name) / DONE
    if not path.is_file():
        return None
    marker: Json = json.loads(path.read_text(encoding="utf-8"))
    return marker


def check_unchanged(paths: RunPaths, cell: Cell, marker: Json, now: Json) -> None:
    """Raises: UserError when a trained cell was trained on something else than what the run has now."""
    changed = [name for name, value in now.items() if marker["fingerprint"].get(name) != value]
    if changed:
        raise UserError(
            f"{paths.model(cell.name)}: was trained with other {' and '.join(changed)} than the run has now. "
            "Take another run.dir, or remove this folder to train it anew."
        )
