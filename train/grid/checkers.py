"""The checkers of weighted losses: P', trained on real rows, and Q, trained on the synthetic ones.

Each is a cell like any other, named by all that it depends on, so that one checker serves every cell that asks for the
same, and a changed setting trains another.
"""

import hashlib
import json
from dataclasses import dataclass, replace

from targen.config.group_files import model_from_file
from targen.config.settings import Settings
from targen.runtime.jsonl import Json
from targen.synthesis.slots import rng
from train.grid.arms import Part, hold_out, real_part, synthetic_part, training_parts
from train.grid.cells import Cell, fingerprint, setting_name


@dataclass(frozen=True)
class Job:
    """A cell to be trained: with its settings, its rows, those held out for validation, what it depends on, and the
    checkers to be trained before it."""

    settings: Settings
    cell: Cell
    parts: tuple[Part, ...]
    held: tuple[Part, ...]
    mark: Json
    checkers: "tuple[Job, ...]" = ()

    @property
    def rows(self) -> int:
        return sum(len(part.rows) for part in self.parts)

    @property
    def real_rows(self) -> int:
        """Rows with real labels, those of its checkers included."""
        own = sum(len(part.rows) for part in self.parts if part.real)
        return own + sum(checker.real_rows for checker in self.checkers)


def job_of(settings: Settings, cell: Cell) -> Job | None:
    """The cell with all that its training needs. None: that needs original rows, and there are none at hand."""
    parts = training_parts(settings, cell)
    checkers = _checkers(settings, cell)
    if parts is None or checkers is None:
        return None
    job = _job(settings, cell, parts)
    weighed_by = {"checkers": [checker.cell.name for checker in checkers]} if checkers else {}
    return replace(job, mark=job.mark | weighed_by, checkers=checkers)


def _job(settings: Settings, cell: Cell, parts: tuple[Part, ...]) -> Job:
    rows = tuple(row for part in parts for row in part.rows)
    return Job(settings, cell, *hold_out(settings, cell, parts), fingerprint(settings, cell, rows))


def _checkers(settings: Settings, cell: Cell) -> tuple[Job, ...] | None:
    """P' and, for IMP, Q of a cell; none for `ce`. None: there are no original rows at hand."""
    train = settings.train
    if train.loss == "ce":
        return ()
    own = checker_settings(settings)
    tasks = [settings.tasks[name] for name in cell.tasks]
    real = [real_part(own, task, train.checker_rows, rng(cell.seed, task.name, "checker")) for task in tasks]
    known = tuple(part for part in real if part is not None)
    if len(known) < len(real):
        return None
    quality = _checker(own, replace(cell, arm="original"), known)
    if train.loss == "dimp":
        return (quality,)
    made = tuple(synthetic_part(own, task, cell.seed) for task in tasks)
    return quality, _checker(own, replace(cell, arm="synthetic"), made)


def checker_settings(settings: Settings) -> Settings:
    """The settings of the cell with the plain loss; those of another model where one is named for the checkers."""
    train = replace(settings.train, loss="ce", label_smoothing=0.0, equal_size=False, merge_export=False)
    train = replace(train, validate_every=None, select="last")
    if train.checker_model is None:
        return replace(settings, train=train)
    model = model_from_file(train.checker_model)
    train = replace(train, learning_rate=model.learning_rate, precision=model.precision, init_from=None, lora=None)
    train = replace(train, quantize=None, instruct=train.instruct and model.family != "encoder")
    return replace(settings, train=train, model=model)


def _checker(settings: Settings, cell: Cell, parts: tuple[Part, ...]) -> Job:
    named = replace(cell, model=settings.model.name, setting=f"checker-{setting_name(settings.train)}")
    job = _job(settings, named, parts)
    mark = hashlib.sha256(json.dumps(job.mark, sort_keys=True).encode()).hexdigest()[:8]
    return replace(job, cell=replace(named, mark=mark))
