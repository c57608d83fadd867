"""What the evaluation would do: `python -m eval.run plan=true`. Reads rows, loads no model and writes nothing."""

from eval.scoring.evaluation_rows import evaluation_rows
from eval.scoring.ready_cells import scoring_of
from targen.config.original_data import rows_to_hold_out
from targen.config.settings import Settings
from targen.data.evaluation import HELD_OUT, HELD_OUT_WORDS
from targen.runtime.errors import Unreachable, UserError
from targen.tasks.task import Task
from train.grid.cells import Cell, cells, read_done_marker

ANSWER_TOKENS = 8  # of each possible answer, for models that answer in words


def lines(settings: Settings) -> list[str]:
    """A line for each cell: whether it can be scored, and on what. Raises: UserError if local rows are missing."""
    if not settings.eval.superglue:
        return ["evaluate: eval.superglue=false, nothing to plan"]
    rows = {name: _rows_text(settings, task) for name, task in settings.tasks.items()}
    return [*(_cell_line(settings, cell, rows) for cell in cells(settings)), *_hours(settings)]


def _hours(settings: Settings) -> list[str]:
    """The GPU-hours of what is not predicted yet, if price.gpu names a GPU."""
    if settings.price.gpu is None:
        return []
    from train.loop.saving import load_shapes  # torch
    from train.planning.gpu_hours import gpu_hours, matmul_parameters

    grid = cells(settings)
    try:
        model = load_shapes(settings, grid[0]).model
    except UserError:
        return gpu_hours(settings, "evaluate", None, f"{settings.model.name} is not on this machine")
    input_parameters, answer_parameters = matmul_parameters(model)
    flops, row_count = 0.0, 0
    counts = {name: _count(settings, task) for name, task in settings.tasks.items()}
    for cell in grid:
        for name in cell.tasks:
            if settings.paths.predictions(cell.predictions_name(name)).is_file():
                continue
            task = settings.tasks[name]
            choices = len(task.classes) or settings.train.max_choices
            sequences = choices if settings.model.has_head and not task.classes else 1  # an encoder reads each choice
            per_row = input_parameters * settings.train.max_length * sequences
            per_row += answer_parameters * ANSWER_TOKENS * choices
            flops += 2 * counts[name] * per_row
            row_count += counts[name]
    workload = f"{row_count:,} rows of train.max_length tokens, 2 operations for each parameter and token"
    return gpu_hours(settings, "evaluate", flops, workload, at_most=True)


def _count(settings: Settings, task: Task) -> int:
    """The rows on which a task is scored, as published if they are not on this machine."""
    try:
        return len(evaluation_rows(settings, task).examples)
    except UserError:
        sizes = task.sizes | task.example_sizes
        published = sizes.get(task.eval_split) or rows_to_hold_out(settings, task)
        return min(published, settings.eval.max_rows or published)


def _rows_text(settings: Settings, task: Task) -> str:
    """The rows on which a task is scored, in words."""
    held_out = settings.paths.synthetic(task.name) / HELD_OUT
    if settings.data.source_of(task) == "none" and not held_out.is_file():
        return f"about {rows_to_hold_out(settings, task)} {HELD_OUT_WORDS} of {task.folder}, once they are generated"
    try:
        rows = evaluation_rows(settings, task)
    except Unreachable as err:
        return f"rows of {task.folder} that are missing here ({err})"
    return f"{len(rows.sample.rows)} of {len(rows.split.rows)} rows of {task.folder} ({rows.split.origin})"


def _cell_line(settings: Settings, cell: Cell, rows: dict[str, str]) -> str:
    scored_on = ", ".join(rows[name] for name in cell.tasks)
    predicted = sum(settings.paths.predictions(cell.predictions_name(name)).is_file() for name in cell.tasks)
    state = f"{cell.name}: {_training_state(settings, cell)}, scored by {scoring_of(settings)} on {scored_on}"
    predictions = f"predictions of {predicted} of {len(cell.tasks)} tasks exist" if predicted else "no predictions yet"
    return f"{state}; {predictions}"


def _training_state(settings: Settings, cell: Cell) -> str:
    if not cell.trained:
        return f"not finetuned, {settings.eval.shots} examples shown"
    return "trained" if read_done_marker(settings.paths, cell) is not None else "skipped until it is trained"
