"""Cells of the training grid: one model trained on the rows of one arm, of one task or of several, with one seed."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from targen.config.arms import ARMS, ArmName
from targen.config.diff import differences
from targen.config.groups.training import Train
from targen.config.original_data import shows_original
from targen.config.settings import Settings
from targen.runtime.errors import UserError, did_you_mean
from targen.runtime.jsonl import Json, read_json
from targen.runtime.paths import RunPaths
from targen.tasks.registry import PAPER_TASKS
from targen.tasks.task import Row
from train.grid.self_instruct import instruction_task
from train.models.checkpoints import MARKER, complete_checkpoints

DONE = "done.json"
ALL = "all"  # the mixture of the paper's tasks in cell names
# Keys of conf/train that say how a model is trained, not what it learns.
RUNNING_KEYS = frozenset(
    {"device_batch_size", "gradient_checkpointing", "attention", "compile", "merge_export", "save_every", "launch"}
)
# Keys that play no part where train.freeze fits a linear layer.
FITTED_IDLE = frozenset(
    {
        "epochs",
        "batch_size",
        "learning_rate",
        "warmup_ratio",
        "weight_decay",
        "precision",
        "max_length",
        "group_by_length",
        "select",
    }
)


@dataclass(frozen=True)
class Cell:
    """One trained model of the grid.

    `task` names its task, or the mixture of its `tasks`; `selection` says which of its synthetic rows are kept, if not all;
    `digest` tells apart cells that would otherwise have the same name.
    To learn what a cell is, read these fields: its name cannot be split, since tasks and models may contain `-` and `_`.
    """

    model: str
    setting: str
    task: str
    arm: ArmName
    seed: int
    tasks: tuple[str, ...]
    digest: str = ""
    selection: str = ""

    @property
    def name(self) -> str:
        """Its folder below models/, and its name in scores.jsonl."""
        parts = (self.model, self.setting, self.task, self.arm, self.selection, f"s{self.seed}", self.digest)
        return "-".join(filter(None, parts))

    @property
    def trained(self) -> bool:
        """False: the model as it is."""
        return ARMS[self.arm].trained

    def predictions_name(self, task: str) -> str:
        """The name of the cell's predictions for one of its tasks."""
        return self.name if self.tasks == (task,) else f"{self.name}.{task}"


def cells(settings: Settings) -> list[Cell]:
    """The grid of a run in a fixed order, or the one cell of it that `cell` names.

    A mixture is the same in whichever order its tasks are listed. A model that is not trained has no training seed, only
    one for the examples that it is shown.
    Raises: UserError if the grid has no such cell.
    """
    grid = _grid(settings)
    if settings.cell is None:
        return grid
    named = [cell for cell in grid if cell.name == settings.cell]
    if not named:
        hint = did_you_mean(settings.cell, [cell.name for cell in grid])
        raise UserError(f"cell: got {settings.cell!r}, expected one of the {len(grid)} cells of the grid. {hint}")
    return named


def _grid(settings: Settings) -> list[Cell]:
    names = settings.tasks
    mixtures: dict[tuple[str, ...], str] = {(name,): name for name in names}
    if settings.train.setting == "multi":
        tasks = tuple(sorted(names))
        mixtures = {tasks: ALL if _was_called_all(settings, tasks) else mixture_name(tasks)}
    model, setting = settings.model.name, setting_name(settings.train)
    return [
        Cell(model, setting, name, arm, seed, tasks, selection=selection_name(settings.train, arm))
        for tasks, name in mixtures.items()
        for arm in settings.arms
        for seed in (settings.seeds if ARMS[arm].trained or shows_original(settings) else settings.seeds[:1])
    ]


def trained_cells(settings: Settings) -> list[Cell]:
    """The cells of the grid that are finetuned."""
    return [cell for cell in cells(settings) if cell.trained]


def setting_name(train: Train) -> str:
    """How a cell was trained, as its name says it: settings that one run may hold side by side."""
    adapters = {None: "lora", "4bit": "qlora"}[train.quantize] if train.lora else ""
    loss = train.loss if train.loss != "ce" else ""
    frozen = "frozen" if train.freeze else ""
    suffixes = ["instruct" if train.instruct else "", adapters, frozen, loss, "init" if train.init_from else ""]
    return "-".join([train.setting, *filter(None, suffixes)])


def selection_name(train: Train, arm: ArmName) -> str:
    """Which synthetic rows a cell was trained on, as its name says it: checker75; empty: all, or it has none."""
    selects = train.select_rows is not None and ARMS[arm].uses_synthetic
    return f"{train.select_rows}{100 * train.select_share:.6g}" if selects else ""


def mixture_name(tasks: Sequence[str]) -> str:
    """`all` for the paper's eight tasks, otherwise their names joined by `_`."""
    return ALL if sorted(tasks) == sorted(PAPER_TASKS) else "_".join(tasks)


def _was_called_all(settings: Settings, tasks: tuple[str, ...]) -> bool:
    """Whether the run has a cell of these tasks called `all`: any eight tasks once were, and keep their name there."""
    if len(tasks) != len(PAPER_TASKS):
        return False
    folders = settings.paths.model(ALL).parent.glob(f"*-{ALL}-*")
    markers = [path for folder in folders for path in (folder / DONE, *folder.glob(f"*/{MARKER}")) if path.is_file()]
    return any(all(f"tasks.{name}" in read_json(path).get("fingerprint", {}) for name in tasks) for path in markers)


def fingerprint(settings: Settings, cell: Cell, rows: Sequence[Row] | None = None) -> Json:
    """What a trained model depends on; without the rows if they are not at hand."""
    model = asdict(settings.model)
    parts: Json = {
        "train": _learning_settings(settings, cell),
        # the defaults that training takes from the model are in train
        "model": {key: value for key, value in model.items() if key not in ("learning_rate", "precision")},
    }
    parts |= {f"tasks.{name}": _task_fingerprint(settings, name) for name in cell.tasks}
    if cell.arm == "self_instruct":
        layout = instruction_task()
        parts["tasks.self_instruct"] = {"question": layout.question, "instance": layout.instance}
    if settings.train.init_from is not None:
        parts["init_from"] = _initial_fingerprint(settings)
    if settings.train.equal_size:
        parts["arms"] = [arm for arm in settings.arms if ARMS[arm].trained]
    if rows is not None:
        parts["training rows"] = hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]
    return parts


def _task_fingerprint(settings: Settings, name: str) -> Json:
    """What a model is taught of a task beside its rows."""
    task = settings.tasks[name]
    layout: Json = {"encoder": asdict(task.encoder), "choices": task.choices}
    if not settings.model.has_head:
        layout |= {
            "question": task.question,
            "instance": task.instance,
            "long_field": task.long_field,
            "verbalizers": [label.verbalizer for label in task.classes],
        }
    if settings.train.instruct:
        layout |= {"description": task.description}
    return layout


def _learning_settings(settings: Settings, cell: Cell) -> dict[str, Any]:
    """The training settings without those that play no part in this cell."""
    train = settings.train
    idle = set(RUNNING_KEYS)
    if len(cell.tasks) == 1:
        idle |= {"mixture", "mixture_cap"}
    if len(cell.tasks) == 1 or train.mixture != "temperature":
        idle |= {"mixture_temperature"}
    if not train.instruct:
        idle |= {"instruct_examples"}
    if not ARMS[cell.arm].mixes:
        idle |= {"mixed_original"}
    selects = train.select_rows is not None and ARMS[cell.arm].uses_synthetic
    if not selects:
        idle |= {"select_rows", "select_share", "select_student"}
    if not train.checkers:
        idle |= {"checker_model"} if selects and train.select_rows == "checker" else {"checker_rows", "checker_model"}
    idle |= FITTED_IDLE if train.freeze else {"freeze"}  # markers from before there was the key lack it
    if train.validate_every is None:
        idle |= {"validate_on", "hold_out"}
    return {key: value for key, value in asdict(train).items() if key not in idle}


def _initial_fingerprint(settings: Settings) -> Json:
    """The fingerprint of the cell of train.init_from. Raises: UserError if there is none, or it is of another model."""
    folder = settings.paths.start(settings.train.init_from or "")
    marker = folder / DONE
    if not marker.is_file():
        raise UserError(
            f"train.init_from: got {settings.train.init_from}, expected a trained cell, but {marker} is missing. Name a cell of "
            "this run, or the folder models/<cell> of another one; train it first."
        )
    initial: Json = read_json(marker).get("fingerprint", {})
    if initial.get("train", {}).get("freeze"):
        raise UserError(
            f"train.init_from: {folder} was trained with train.freeze=true and has a linear layer only, expected whole "
            "weights. Choose another cell."
        )
    trained_model, model = initial.get("model", {}), settings.model
    if (trained_model.get("family"), trained_model.get("name")) != (model.family, model.name):
        raise UserError(
            f"train.init_from: {folder} is {trained_model.get('name')} ({trained_model.get('family')}), expected {model.name} "
            f"({model.family}). Choose the same model, or another cell to start from."
        )
    return initial


def read_done_marker(paths: RunPaths, cell: Cell) -> Json | None:
    """The done marker of a cell; None while it is not trained."""
    path = paths.model(cell.name) / DONE
    return read_json(path) if path.is_file() else None


def check_unchanged(folder: Path, trained: Json, now: Json) -> None:
    """Raises: UserError if what is in `folder` was trained with other settings or rows than the run has now."""
    changed = [change for name, value in now.items() for change in differences(name, trained.get(name), value)]
    if changed:
        raise UserError(
            f"{folder}: was trained with different settings or rows: {'; '.join(changed)}. Choose another run.dir, restore "
            "the settings, or remove this folder to train it again."
        )


def check_trained(settings: Settings) -> None:
    """Compares every trained cell and every checkpoint with the settings of the run, rows left out.

    Raises: UserError as check_unchanged.
    """
    for cell in trained_cells(settings):
        folder = settings.paths.model(cell.name)
        if (marker := read_done_marker(settings.paths, cell)) is not None:
            check_unchanged(folder, marker["fingerprint"], fingerprint(settings, cell))
        else:
            for checkpoint in complete_checkpoints(folder):
                check_unchanged(checkpoint.folder, checkpoint.fingerprint, fingerprint(settings, cell))
