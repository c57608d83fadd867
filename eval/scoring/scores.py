"""scores.jsonl: one row for each cell, task and metric, with the counts, the baseline and the origin of the rows."""

from collections.abc import Sequence
from dataclasses import field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass as checked_dataclass

from eval.scoring.metrics import METRICS
from targen.config.settings import Settings
from targen.data.original import RowsSource
from targen.runtime.errors import UserError
from targen.runtime.jsonl import Json, read_jsonl, write_jsonl
from targen.runtime.paths import RunPaths, visible_paths
from targen.tasks.registry import SUPERGLUE_TASKS

SUPERGLUE = "superglue"
Number = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Name = Annotated[str, Field(min_length=1)]


@checked_dataclass(frozen=True, config=ConfigDict(extra="ignore", strict=True))
class Score:
    """A metric of a cell on a task: one row of scores.jsonl; `row` is that row, unchanged."""

    benchmark: Literal["superglue", "openllm_4", "openllm_6", "openllm_v2"]
    cell: Name
    model: Name
    setting: Name
    task: Name
    arm: Name
    seed: int
    instruct: bool
    scoring: Name
    shots: Count | None  # None: an average over tasks
    train_rows: Count | None
    real_rows: Count | None
    method: str | None
    self_correct: str | None
    generator: str | None
    metric: Name
    value: Number
    majority: Number | None
    n: Positive
    rows: Positive
    rows_in_split: Count
    unparsed: Count
    origin: str
    evaluated: str
    is_fixture: bool
    source: RowsSource | None = None  # of the evaluation rows; None in rows of earlier versions, and of OpenLLM tasks
    place: str = ""  # their file, or their data set on the Hub
    split: str = ""  # what the split is called there
    tasks: list[Name] | None = None  # of the cell; None in rows of earlier versions
    harness: str | None = None
    task_version: str | float | None = None
    stderr: float | None = None
    precision: str | None = None  # of arithmetic and weights: train.precision; None in rows of earlier versions
    ties: Count | None = None  # rows where two options have the best score; None: of earlier versions, or OpenLLM
    selection: str | None = (
        None  # which synthetic rows were kept, as in the name of the cell: checker75; None: all, or there are none
    )
    cut_answers: Count = 0  # texts that reached eval.max_new_tokens, readable or not
    row: Json = field(default_factory=dict, repr=False, compare=False)
    where: str = field(default="", repr=False, compare=False)  # file and line

    @property
    def is_superglue(self) -> bool:
        """Whether it was scored on SuperGLUE's own rows of the task, not on a user's, synthetic ones or the fixture's."""
        if self.source is None:
            return self.benchmark == SUPERGLUE and not self.is_fixture
        return self.source == "superglue"

    @property
    def key(self) -> tuple[str, str, str, str]:
        """Unique within a file of scores."""
        return self.benchmark, self.cell, self.task, self.metric

    @property
    def name_end(self) -> str:
        """The end of the cell's name, behind its tasks: `-synthetic-checker75-s0`."""
        return "".join(f"-{part}" for part in (self.arm, self.selection, f"s{self.seed}") if part)

    @property
    def fixture_mark(self) -> str:
        """The mark in tables of a score on this project's own few rows; empty for any other score."""
        if not self.is_fixture:
            return ""
        return "NOT SuperGLUE" if self.task in SUPERGLUE_TASKS else "FIXTURE ONLY"


def as_score(row: Json, where: str) -> Score:
    """The score in a row. Raises: UserError if a key is missing or has an impossible value."""
    try:
        score = Score(**{**row, "row": row, "where": where})
    except ValidationError as err:
        error = err.errors()[0]
        key = str(error["loc"][0])
        expected = error["msg"].removeprefix("Input should be ")
        problem = f"got {repr(row[key])[:60]}, expected {expected}" if key in row else "is missing"
        raise UserError(f"{where}: {key}: {problem}. Evaluate again, or remove the line.") from None
    metric = METRICS.get(score.metric)
    lowest, highest = (metric.lowest, metric.highest) if metric is not None else (0.0, 1.0)
    for name, value in (("value", score.value), ("majority", score.majority)):
        if value is not None and not lowest <= value <= highest:
            raise UserError(
                f"{where}: {name}: got {value}, expected {lowest:g} to {highest:g}, the range of {score.metric}. Evaluate again, "
                "or remove the line."
            )
    return score


def read_scores(path: Path) -> list[Score]:
    """The scores of a file; none if it does not exist. Raises: UserError with the line of a score that is damaged or repeated."""
    scores: list[Score] = []
    lines: dict[tuple[str, ...], int] = {}
    for number, row in read_jsonl(path) if path.is_file() else ():
        score = as_score(row, f"{path}:{number}")
        if score.key in lines:
            raise UserError(
                f"{path}:{number}: {' '.join(score.key)} is already on line {lines[score.key]}. Remove one of them."
            )
        lines[score.key] = number
        scores.append(score)
    return scores


def write_scores(settings: Settings, scores: Sequence[Score]) -> None:
    """Replaces the scores of the same cells and benchmark, in the cells' own files and in scores.jsonl.

    A process that scores a single cell (`cell=`) leaves scores.jsonl to `join_scores`, since others may run at the same time.
    """
    for cell in dict.fromkeys(score.cell for score in scores):
        path = settings.paths.cell_scores(cell)
        _write(path, _replaced(read_scores(path), [score for score in scores if score.cell == cell]))
    if settings.cell is None:
        _write(settings.paths.scores, _replaced(read_scores(settings.paths.scores), scores))


def join_scores(paths: RunPaths) -> int:
    """Merges the scores in the cells' own files into scores.jsonl; returns how many it then has."""
    cell_scores = [
        score for path in visible_paths(paths.scores.with_suffix(""), "*.jsonl") for score in read_scores(path)
    ]
    joined = _replaced(read_scores(paths.scores), cell_scores)
    if joined:
        _write(paths.scores, joined)
    return len(joined)


def _replaced(old: Sequence[Score], new: Sequence[Score]) -> list[Score]:
    rescored = {(score.cell, score.benchmark) for score in new}
    kept = [score for score in old if (score.cell, score.benchmark) not in rescored]
    return sorted([*kept, *new], key=lambda score: (score.cell, score.benchmark, score.task, score.metric))


def _write(path: Path, scores: Sequence[Score]) -> None:
    write_jsonl(path, (score.row for score in scores))
