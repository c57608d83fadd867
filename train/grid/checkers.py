"""Training jobs: a cell with its rows, and the checkers of its weighted loss.

A checker is a cell like any other. It is named by everything it depends on, so that one checker serves every cell that
asks for the same, and a changed setting trains another.
"""

import hashlib
import json
from dataclasses import dataclass, replace

from targen.config.group_files import model_from_file
from targen.config.losses import Checker
from targen.config.settings import Settings
from targen.runtime.jsonl import Json
from targen.runtime.randomness import rng
from targen.tasks.task import Row, Task
from train.grid.arms import training_rows
from train.grid.cells import Cell, fingerprint, setting_name
from train.grid.held_out import hold_out
from train.grid.rows import TaskRows, drawn_original_rows, synthetic_rows


@dataclass(frozen=True)
class TrainingJob:
    """A cell to be trained: its settings, the rows it is trained on, those held out for validation, the fingerprint of
    all it depends on, and the checkers to be trained before it."""

    settings: Settings
    cell: Cell
    rows: tuple[TaskRows, ...]
    held_out: tuple[TaskRows, ...]
    fingerprint: Json
    checkers: "tuple[TrainingJob, ...]" = ()

    @property
    def row_count(self) -> int:
        """Examples of the training set."""
        return sum(source.count for source in self.rows)

    @property
    def real_row_count(self) -> int:
        """Examples with real labels, those of its checkers included."""
        real = sum(
            source.count if source.real else source.selection.original if source.selection else 0
            for source in self.rows
        )
        return real + sum(checker.real_row_count for checker in self.checkers)


def training_job(settings: Settings, cell: Cell) -> TrainingJob | None:
    """The cell with everything its training needs. None: it needs original rows, and they are not available."""
    rows = training_rows(settings, cell)
    checkers = _checkers(settings, cell)
    if rows is None or checkers is None:
        return None
    job = _job(settings, cell, rows)
    weighted_by = {"checkers": [checker.cell.name for checker in checkers]} if checkers else {}
    return replace(job, fingerprint=job.fingerprint | weighted_by, checkers=checkers)


def _job(settings: Settings, cell: Cell, rows: tuple[TaskRows, ...]) -> TrainingJob:
    all_rows = tuple(row for source in rows for row in (*source.rows, *_counted_ids(source)))
    return TrainingJob(settings, cell, *hold_out(settings, cell, rows), fingerprint(settings, cell, all_rows))


def _counted_ids(source: TaskRows) -> tuple[Row, ...]:
    """A further row for the fingerprint: the ids of the examples that count, where not all do."""
    return () if source.only is None else ({"only": sorted(source.only)},)


def _checkers(settings: Settings, cell: Cell) -> tuple[TrainingJob, ...] | None:
    """The checkers of the cell's loss. None: they need original rows, and these are not available."""
    jobs = []
    for checker in settings.train.checkers:
        job = _checker(checker_settings(settings), replace(cell, arm=checker), checker)
        if job is None:
            return None
        jobs.append(job)
    return tuple(jobs)


def checker_settings(settings: Settings) -> Settings:
    """The settings of the cell with the plain loss; with train.checker_model those of that model."""
    train = replace(settings.train, loss="ce", label_smoothing=0.0, equal_size=False, merge_export=False)
    train = replace(train, validate_every=None, select="last")
    if train.checker_model is None:
        return replace(settings, train=train)
    model = model_from_file(train.checker_model)
    train = replace(train, learning_rate=model.learning_rate, precision=model.precision, init_from=None, lora=None)
    train = replace(train, quantize=None, instruct=train.instruct and not model.has_head)
    return replace(settings, train=train, model=model)


def _checker(settings: Settings, cell: Cell, checker: Checker) -> TrainingJob | None:
    rows = [_checker_rows(settings, settings.tasks[name], cell.seed, checker) for name in cell.tasks]
    available = tuple(source for source in rows if source is not None)
    if len(available) < len(rows):
        return None
    checker_cell = replace(cell, model=settings.model.name, setting=f"checker-{setting_name(settings.train)}")
    job = _job(settings, checker_cell, available)
    digest = hashlib.sha256(json.dumps(job.fingerprint, sort_keys=True).encode()).hexdigest()[:8]
    return replace(job, cell=replace(checker_cell, digest=digest))


def _checker_rows(settings: Settings, task: Task, seed: int, checker: Checker) -> TaskRows | None:
    if checker == "synthetic":
        return synthetic_rows(settings, task, seed)
    return drawn_original_rows(settings, task, settings.train.checker_rows, rng(seed, task.name, "checker"))
