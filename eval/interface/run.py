"""A run on disk, read only: rows, rejects, scores, predictions."""

from collections.abc import Mapping
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from eval.scoring.metric_kinds import Prediction
from eval.scoring.run_tasks import run_tasks
from eval.scoring.scores import Score, read_scores
from targen.interface.rows import (
    LearnabilityScore,
    Reject,
    Rows,
    read_held_out,
    read_learnability,
    read_rejects,
    read_rows,
    read_stats,
)
from targen.interface.tables import Table
from targen.runtime.errors import UserError, did_you_mean
from targen.runtime.jsonl import Json, read_jsonl
from targen.runtime.paths import RunPaths, visible_paths
from targen.tasks.task import Task

_PREDICTION = TypeAdapter(Prediction)


class Run:
    """A run folder. Every call reads the files anew, so a run that is in progress can be read.

    Where a run has one task, its name may be left out. Raises: UserError if the folder holds no run.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).expanduser()
        self._paths = RunPaths(self.folder)
        if not (self._paths.config.is_file() or self._paths.scores.is_file()):
            raise UserError(
                f"run: got {self.folder}, expected the folder of a run, with a config.yaml in it. Correct the path."
            )

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r}): {', '.join(self.tasks) or 'no task'}"

    @property
    def tasks(self) -> Mapping[str, Task]:
        """The tasks by name, as the run specifies them."""
        return run_tasks(self._paths.config, (score.task for score in read_scores(self._paths.scores)))

    @property
    def cells(self) -> list[str]:
        """The names of the cells with predictions, ending in `.<task>` where a cell was scored on several tasks."""
        return [path.stem for path in visible_paths(self.folder / "predictions", "*.jsonl")]

    def rows(self, task: str | None = None) -> Rows:
        """The rows with their provenance. Raises: UserError if the task has none yet."""
        return read_rows(self._paths, self._task(task))

    def held_out(self, task: str | None = None) -> Rows:
        """The rows, from contexts of their own, that are kept out of training to score models on; empty if there are none."""
        return read_held_out(self._paths, self._task(task))

    def rejects(self, task: str | None = None) -> Table[Reject]:
        """What was rejected, each with its step and reason."""
        return read_rejects(self._paths, self._task(task))

    def stats(self, task: str | None = None) -> Json:
        """The counts in stats.json: rows per label, rejects per reason, duplicates, flips, calls."""
        return read_stats(self._paths, self._task(task))

    def learnability(self, task: str | None = None) -> Table[LearnabilityScore]:
        """What small students learn from the rows about their own labels. Raises: UserError if it was not measured."""
        return read_learnability(self._paths, self._task(task))

    def scores(self) -> Table[Score]:
        """The scores of all cells; empty before the evaluation."""
        return Table(Score, read_scores(self._paths.scores), lambda score: dict(score.row))

    def predictions(self, cell: str) -> Table[Prediction]:
        """The answers of a cell, one of `cells`, beside the right ones. Raises: UserError with the line of one that is damaged."""
        path = self._paths.predictions(_checked_name("cell", cell, self.cells))
        predictions = []
        for number, line in read_jsonl(path):
            try:
                predictions.append(_PREDICTION.validate_python(line))
            except ValidationError as err:
                error = err.errors()[0]
                raise UserError(f"{path}:{number}: {error['loc'][0]}: {error['msg']}. Evaluate again.") from None
        return Table(Prediction, predictions)

    def _task(self, name: str | None) -> Task:
        tasks = self.tasks
        if name is None and len(tasks) != 1:
            raise UserError(f"task: got no name, expected one of {', '.join(tasks)}. Name it.")
        return tasks[_checked_name("task", name or next(iter(tasks)), tasks)]


def _checked_name(kind: str, name: str, options: Mapping[str, object] | list[str]) -> str:
    """The name. Raises: UserError if it is not among the options."""
    if name not in options:
        raise UserError(f"{kind}: got {name!r}, expected a {kind} of the run. {did_you_mean(name, options)}")
    return name
