"""What the evaluation would do: `python -m eval.run plan=true`. Reads rows, loads no model and writes nothing."""

from eval.scoring.evaluation_rows import EvaluationRows, evaluation_rows
from eval.scoring.scores import scoring_of
from targen.config.settings import Settings
from train.grid.cells import Cell, cells, done


def lines(settings: Settings) -> list[str]:
    """A line for each cell: whether it can be scored, and on what. Raises: UserError where evaluation rows are missing."""
    if not settings.eval.superglue:
        return ["evaluate: eval.superglue=false, nothing to plan"]
    on = {name: evaluation_rows(settings, task) for name, task in settings.tasks.items()}
    return [_line(settings, cell, on) for cell in cells(settings)]


def _line(settings: Settings, cell: Cell, on: dict[str, EvaluationRows]) -> str:
    asked = ", ".join(_asked(on[name], settings.tasks[name].folder) for name in cell.tasks)
    predicted = sum(settings.paths.predictions(cell.predictions_name(name)).is_file() for name in cell.tasks)
    return f"{cell.name}: {_state(settings, cell)}, scored by {scoring_of(settings)} on {asked}; {_predicted(predicted, cell)}"


def _state(settings: Settings, cell: Cell) -> str:
    if not cell.trained:
        return f"as it is, {settings.eval.shots} examples shown"
    return "trained" if done(settings.paths, cell) is not None else "left out until it is trained"


def _asked(rows: EvaluationRows, folder: str) -> str:
    return f"{len(rows.sample.rows)} of {len(rows.split.rows)} rows of {folder} ({rows.split.origin})"


def _predicted(count: int, cell: Cell) -> str:
    return f"predictions of {count} of {len(cell.tasks)} tasks are there" if count else "nothing is predicted yet"
