"""Cells of the training grid: one model trained on the rows of one arm, of one task or of several, with one seed."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from targen.config.arms import ArmName
from targen.config.diff import differences
from targen.config.groups.training import Train
from targen.config.original_data import shows_original
from targen.config.settings import Settings
from targen.runtime.errors import UserError, did_you_mean
from targen.runtime.jsonl import Json, read_json
from targen.runtime.paths import RunPaths
from targen.tasks.task import Row
from train.grid import self_instruct
from train.models.checkpoints import complete

DONE = "done.json"
# How it is trained, not what is learnt.
RUNNING_KEYS = frozenset(
    {"device_batch_size", "gradient_checkpointing", "attention", "merge_export", "save_every", "launch"}
)
ALL_TASKS = 8


@dataclass(frozen=True)
class Cell:
    """One trained model of the grid. `task` names a task, or the mixture of several; `mark` tells checkers apart."""

    model: str
    setting: str
    task: str
    arm: ArmName
    seed: int
    tasks: tuple[str, ...]
    mark: str = ""

    @property
    def name(self) -> str:
        return f"{self.model}-{self.setting}-{self.task}-{self.arm}-s{self.seed}" + (
            f"-{self.mark}" if self.mark else ""
        )

    @property
    def trained(self) -> bool:
        """False: the model as it is."""
        return self.arm != "none"

    def part(self, task: str) -> str:
        """The name of the cell's predictions of one of its tasks."""
        return self.name if self.tasks == (task,) else f"{self.name}.{task}"


def cells(settings: Settings) -> list[Cell]:
    """The grid of a run, in a fixed order, or the one cell of it that `cell` names; a mixture is the same in whichever order
    its tasks were named.

    A model that is not trained has no seed of training, only one of the examples that it is shown.
    Raises: UserError where the grid has no such cell.
    """
    grid = _grid(settings)
    if settings.cell is None:
        return grid
    found = [cell for cell in grid if cell.name == settings.cell]
    if not found:
        hint = did_you_mean(settings.cell, [cell.name for cell in grid])
        raise UserError(f"cell: got {settings.cell!r}, expected one of the {len(grid)} cells of the grid. {hint}")
    return found


def _grid(settings: Settings) -> list[Cell]:
    names = settings.tasks
    multi = settings.train.setting == "multi"
    return [
        Cell(settings.model.name, setting_name(settings.train), mixture_name(own), arm, seed, own)
        for own in ([tuple(sorted(names))] if multi else [(name,) for name in names])
        for arm in settings.arms
        for seed in (settings.seeds if arm != "none" or shows_original(settings) else settings.seeds[:1])
    ]


def trained_cells(settings: Settings) -> list[Cell]:
    """Those of the grid that there is anything to train for."""
    return [cell for cell in cells(settings) if cell.trained]


def setting_name(train: Train) -> str:
    """What a cell's name says about how it was trained: settings that one run may hold side by side."""
    adapters = {None: "lora", "4bit": "qlora"}[train.quantize] if train.lora else ""
    loss = train.loss if train.loss != "ce" else ""
    marks = ["instruct" if train.instruct else "", adapters, loss, "init" if train.init_from else ""]
    return "-".join([train.setting, *filter(None, marks)])


def mixture_name(tasks: Sequence[str]) -> str:
    return "all" if len(tasks) == ALL_TASKS else "_".join(tasks)


def fingerprint(settings: Settings, cell: Cell, rows: Sequence[Row] | None = None) -> Json:
    """What a trained model depends on; without the rows where these are not at hand."""
    model = asdict(settings.model)
    found: Json = {
        "train": _learnt(settings, cell),
        # the defaults that training takes from the model stand under train
        "model": {key: value for key, value in model.items() if key not in ("learning_rate", "precision")},
    }
    for name in cell.tasks:
        task = settings.tasks[name]
        found[f"tasks.{name}"] = {"encoder": asdict(task.encoder), "choices": task.choices}
        if settings.model.family != "encoder":
            found[f"tasks.{name}"] |= {
                "question": task.question,
                "instance": task.instance,
                "long_field": task.long_field,
                "verbalizers": [label.verbalizer for label in task.labels],
            }
        if settings.train.instruct:
            found[f"tasks.{name}"] |= {"description": task.description}
    if cell.arm == "self_instruct":
        layout = self_instruct.spec()
        found["tasks.self_instruct"] = {"question": layout.question, "instance": layout.instance}
    if settings.train.init_from is not None:
        found["init_from"] = initial_mark(settings)
    if settings.train.equal_size:
        found["arms"] = [arm for arm in settings.arms if arm != "none"]
    if rows is not None:
        found["training rows"] = hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]
    return found


def _learnt(settings: Settings, cell: Cell) -> dict[str, Any]:
    """The settings of training without those that play no part in this cell."""
    train = settings.train
    idle = set(RUNNING_KEYS)
    if len(cell.tasks) == 1:
        idle |= {"mixture", "mixture_cap"}
    if len(cell.tasks) == 1 or train.mixture != "temperature":
        idle |= {"mixture_temperature"}
    if not train.instruct:
        idle |= {"instruct_examples"}
    if cell.arm != "mixed":
        idle |= {"mixed_original"}
    if train.loss == "ce":
        idle |= {"checker_rows", "checker_model"}
    if train.validate_every is None:
        idle |= {"validate_on", "hold_out"}
    return {key: value for key, value in asdict(train).items() if key not in idle}


def initial_mark(settings: Settings) -> Json:
    """What the cell of `train.init_from` was trained on. Raises: UserError where it is none, or of another model."""
    folder = settings.paths.start(settings.train.init_from or "")
    marker = folder / DONE
    if not marker.is_file():
        raise UserError(
            f"train.init_from: got {settings.train.init_from}, expected a trained cell, but {marker} is not there. Name a cell of "
            "this run, or the folder models/<cell> of another; train it first."
        )
    mark: Json = read_json(marker).get("fingerprint", {})
    model, own = mark.get("model", {}), settings.model
    if (model.get("family"), model.get("name")) != (own.family, own.name):
        raise UserError(
            f"train.init_from: {folder} is {model.get('name')} ({model.get('family')}), expected {own.name} ({own.family}). "
            "Choose the same model, or another cell to start from."
        )
    return mark


def done(paths: RunPaths, cell: Cell) -> Json | None:
    """The done marker of a cell, None while it is not trained."""
    path = paths.model(cell.name) / DONE
    if not path.is_file():
        return None
    return read_json(path)


def check_unchanged(folder: Path, trained: Json, now: Json) -> None:
    """Raises: UserError when what lies in `folder` was trained on something else than what the run has now."""
    changed = [change for name, value in now.items() for change in differences(name, trained.get(name), value)]
    if changed:
        raise UserError(
            f"{folder}: was trained otherwise: {'; '.join(changed)}. Take another run.dir, restore the settings, or remove "
            "this folder to train it anew."
        )


def check_trained(settings: Settings) -> None:
    """Holds every trained cell and every checkpoint against the settings of the run, rows left out.

    Raises: UserError as check_unchanged.
    """
    for cell in trained_cells(settings):
        folder = settings.paths.model(cell.name)
        if (marker := done(settings.paths, cell)) is not None:
            check_unchanged(folder, marker["fingerprint"], fingerprint(settings, cell))
        else:
            for checkpoint in complete(folder):
                check_unchanged(checkpoint.folder, checkpoint.fingerprint, fingerprint(settings, cell))
