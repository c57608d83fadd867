"""The rows that a cell is validated on."""

from dataclasses import replace

from targen.config.settings import Settings
from targen.data.evaluation import evaluation_split
from targen.data.original import evenly_spread
from targen.runtime.errors import UserError
from targen.runtime.randomness import rng
from train.grid.cells import Cell
from train.grid.rows import TaskRows


def hold_out(
    settings: Settings, cell: Cell, sources: tuple[TaskRows, ...]
) -> tuple[tuple[TaskRows, ...], tuple[TaskRows, ...]]:
    """(rows to train on, rows for validation), both in their order; without validation all are trained on.

    The cell's seed draws whole instances from each source of the cell's own rows: from a synthetic arm synthetic ones, so
    that no original row is seen. The evaluation rows are used only if train.validate_on names them.
    Raises: UserError if there are too few.
    """
    train = settings.train
    if train.validate_every is None:
        return sources, ()
    if train.validate_on == "evaluation":
        return sources, tuple(_evaluation_rows(settings, name) for name in cell.tasks)
    divided = [_divide(source, train.hold_out, cell) for source in sources]
    held_out = tuple(part for _, part in divided if part.rows)
    if not held_out:
        count = sum(source.count for source in sources)
        raise UserError(
            f"train.hold_out: {cell.name} has {count} rows, too few to hold any out. Set train.validate_every=null."
        )
    return tuple(part for part, _ in divided), held_out


def _evaluation_rows(settings: Settings, name: str) -> TaskRows:
    task = settings.tasks[name]
    rows = evaluation_split(settings, task).rows
    return TaskRows(task, evenly_spread(rows, settings.eval.max_rows, task.rows_per_slot), real=True)


def _divide(source: TaskRows, share: float, cell: Cell) -> tuple[TaskRows, TaskRows]:
    """The source without the held-out instances, and these; none are held out if none would be left to train on."""
    instances = len(source.rows) // source.task.rows_per_slot
    count = max(1, round(share * instances))
    draws = rng(cell.seed, source.task.name, cell.arm, "held out", source.real)
    held_out_instances = set(draws.sample(range(instances), count)) if count < instances else set()
    is_held_out = [index // source.task.rows_per_slot in held_out_instances for index in range(len(source.rows))]
    trained_on, held_out = (
        tuple(row for row, is_out in zip(source.rows, is_held_out, strict=True) if is_out == side)
        for side in (False, True)
    )
    return replace(source, rows=trained_on), replace(source, rows=held_out)
