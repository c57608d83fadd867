"""Scores as a table: one line for each task and metric, one column for each arm."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from eval.scoring.metrics import metric_title
from eval.scoring.scores import Score
from eval.tables.sentences import NOT_RUN, evaluated_on, trained_on
from targen.runtime.errors import UserError
from targen.tasks.task import Task
from targen.text.markdown import markdown_table


@dataclass(frozen=True)
class ArmScore:
    """Mean over seeds, in percent; `spread` is the standard deviation over seeds, None for one seed."""

    mean: float
    spread: float | None
    unparsed: int
    train_rows: int | None = None  # None: not finetuned

    def __str__(self) -> str:
        return f"{self.mean:.1f}" + (f" ± {self.spread:.1f}" if self.spread is not None else "")


@dataclass(frozen=True)
class ScoreLine:
    """One metric of one task: the baseline and every arm, on the same rows."""

    title: str
    metric: str
    majority: float
    arms: dict[str, ArmScore | None]  # None: not run
    examples: int
    evaluated_on: str
    fixture_mark: str  # empty: not on a fixture

    @property
    def train_rows(self) -> dict[str, str]:
        """The number of training rows of each arm that was finetuned."""
        return {
            arm: f"{score.train_rows:,}" for arm, score in self.arms.items() if score and score.train_rows is not None
        }


def score_lines(tasks: Sequence[Task], arms: Sequence[str], scores: Sequence[Score]) -> list[ScoreLine]:
    """The lines of the table, in the order of tasks and of their metrics; tasks without a score have none.

    Raises: UserError if a line would mix scores on different evaluation data.
    """
    lines = []
    for task in tasks:
        for metric in task.metrics:
            line_scores = [score for score in scores if (score.task, score.metric) == (task.name, metric)]
            if line_scores:
                lines.append(_line(task, metric, arms, line_scores))
    return lines


def _line(task: Task, metric: str, arms: Sequence[str], scores: list[Score]) -> ScoreLine:
    first = scores[0]
    for score in scores[1:]:
        if _rows_of(score) != _rows_of(first):
            raise UserError(
                f"scores.jsonl: {first.cell} was scored on {first.origin} ({first.rows} rows, {first.evaluated}), {score.cell} on "
                f"{score.origin} ({score.rows} rows, {score.evaluated}); one line of a table has one set of rows. Evaluate both on "
                "the same data."
            )
    return ScoreLine(
        title=task.folder,
        metric=metric_title(metric),
        majority=100 * (first.majority or 0.0),
        arms={arm: _arm_score([score for score in scores if score.arm == arm]) for arm in arms},
        examples=first.n,
        evaluated_on=evaluated_on(first),
        fixture_mark=first.fixture_mark,
    )


def _rows_of(score: Score) -> tuple[object, ...]:
    return score.origin, score.rows, score.n, score.evaluated


def _arm_score(scores: list[Score]) -> ArmScore | None:
    if not scores:
        return None
    values = [100 * score.value for score in scores]
    spread = stdev(values) if len(values) > 1 else None
    return ArmScore(fmean(values), spread, sum(score.unparsed for score in scores), scores[0].train_rows)


def markdown(title: str, warning: str | None, note: str | None, arms: Sequence[str], lines: Sequence[ScoreLine]) -> str:
    """The scores as Markdown. A warning about the evaluation data is part of the title."""
    parts = [f"# {title}" + (f": {warning}" if warning else "")]
    if note:
        parts.append(note.strip())
    header = ["task", "metric", "majority", *arms, "training rows", "examples", "unreadable", "evaluated on"]
    rows = [
        [
            line.title,
            line.metric,
            f"{line.majority:.1f}",
            *(str(score) if (score := line.arms[arm]) else NOT_RUN for arm in arms),
            trained_on(line.train_rows),
            str(line.examples),
            str(sum(score.unparsed for score in line.arms.values() if score)),
            line.evaluated_on,
        ]
        for line in lines
    ]
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return "\n\n".join([*parts, markdown_table(header, escaped, range(2, len(header) - 1))]) + "\n"


def fixture_warning(scored: Iterable[tuple[str, str]]) -> str | None:
    """A warning if scores are on a fixture; `scored` has each score's task and its mark, see `Score.fixture_mark`."""
    by_mark: dict[str, list[str]] = {}
    for title, mark in scored:
        by_mark.setdefault(mark, []).append(title)
    warnings = []
    for mark, titles in by_mark.items():
        where = "all tasks" if len(by_mark) == 1 else ", ".join(dict.fromkeys(titles))
        warnings += [f"{mark} ({where}: scored on this project's own few hand-written rows)"] * bool(mark)
    return "; ".join(warnings) or None
