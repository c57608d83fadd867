"""The rows of each arm, at equal size where arms are to be compared."""

from dataclasses import replace
from functools import partial

from targen.config.arms import ARMS, ArmName
from targen.config.settings import Settings
from targen.data.arm_sizes import arms_of_tasks, mixed_count
from targen.runtime.errors import UserError
from targen.runtime.randomness import rng
from targen.tasks.task import Task
from train.grid.cells import Cell
from train.grid.rows import (
    TaskRows,
    apportion,
    drawn_original_rows,
    limit_rows,
    original_rows,
    sample_by_label,
    synthetic_rows,
)
from train.grid.selection import Choose, first_kept_rows, select_rows
from train.grid.self_instruct import instruction_rows, instruction_task


def _rows_of_task(
    settings: Settings, task: Task, arm: ArmName, seed: int, choose: Choose
) -> tuple[TaskRows, ...] | None:
    """The sources that targen/config/arms.py names for the arm, the original rows first; next to synthetic rows, of which `choose`
    keeps the best, there are as many original ones as train.mixed_original says. None: the fixture has no original rows."""
    if not ARMS[arm].uses_original:
        synthetic = choose(task, synthetic_rows(settings, task, seed))
        return None if synthetic is None else (synthetic,)
    if not ARMS[arm].uses_synthetic:
        original = original_rows(settings, task)
        if original is None:
            return None
        return (limit_rows(settings, original, task, arm, seed),)
    synthetic = choose(task, synthetic_rows(settings, task, seed))
    if synthetic is None:
        return None
    count = mixed_count(settings.train.mixed_original, synthetic.count)
    original = drawn_original_rows(settings, task, count, rng(seed, task.name, arm, "original"))
    return None if original is None else (original, synthetic)


def training_rows(settings: Settings, cell: Cell) -> tuple[TaskRows, ...] | None:
    """The rows that a cell is trained on.

    None: they include original rows, and the run fell back to the fixture, which has none to train on.
    Raises: UserError if rows are missing.
    """
    if not ARMS[cell.arm].uses_task_rows:
        return (_instructions(settings, cell),)
    return _rows_of_tasks(settings, cell, partial(select_rows, settings, cell))


def _rows_of_tasks(settings: Settings, cell: Cell, choose: Choose) -> tuple[TaskRows, ...] | None:
    cell_rows: list[TaskRows] = []
    for name in cell.tasks:
        sources = _equally_sized(settings, settings.tasks[name], cell.arm, cell.seed, choose)
        if sources is None:
            return None
        # RTE's rows stand in for those of AX-g and AX-b, once; if RTE itself is in the mixture they are there already
        covered_tasks = {*cell.tasks, *(source.task.name for source in cell_rows)}
        cell_rows += [source for source in sources if source.task.name == name or source.task.name not in covered_tasks]
    return tuple(cell_rows)


def _instructions(settings: Settings, cell: Cell) -> TaskRows:
    """Instruction data instead of the tasks' rows: with train.equal_size as many as the smallest other arm has in all,
    otherwise all, or train.max_rows for each task of the mixture."""
    train = settings.train
    if not train.equal_size:
        count = None if train.max_rows is None else train.max_rows * len(cell.tasks)
        return TaskRows(instruction_task(), instruction_rows(settings, cell.seed, count), real=False)
    choose = partial(first_kept_rows, settings)
    count = _smallest([_rows_of_tasks(settings, replace(cell, arm=arm), choose) for arm in arms_of_tasks(settings)])
    rows = instruction_rows(settings, cell.seed, count)
    if len(rows) < count:
        raise UserError(
            f"train.equal_size: got true, but {settings.data.self_instruct} has {len(rows)} rows and the other arms have {count}. "
            f"Set train.max_rows={max(1, len(rows) // len(cell.tasks))}, or train.equal_size=false."
        )
    return TaskRows(instruction_task(), rows, real=False)


def _equally_sized(
    settings: Settings, task: Task, arm: ArmName, seed: int, choose: Choose
) -> tuple[TaskRows, ...] | None:
    """The arm's rows of a task; with train.equal_size as many as the smallest arm of the run has, each source and label in
    proportion."""
    sources = _rows_of_task(settings, task, arm, seed, choose)
    if sources is None or not settings.train.equal_size:
        return sources
    others = [other for other in arms_of_tasks(settings) if other != arm]
    choose_as_many = partial(first_kept_rows, settings)
    smallest = _smallest([sources, *(_rows_of_task(settings, task, other, seed, choose_as_many) for other in others)])
    quotas = apportion([source.count for source in sources], smallest)
    return tuple(
        sample_by_label(source, quota, rng(seed, task.name, arm, "equal size", number))
        for number, (source, quota) in enumerate(zip(sources, quotas, strict=True))
    )


def _smallest(arms: list[tuple[TaskRows, ...] | None]) -> int:
    """Examples of the smallest of these arms."""
    return min(sum(source.count for source in sources) for sources in arms if sources is not None)
