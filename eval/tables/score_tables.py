"""Scores as tables: one line a task and metric, one column an arm."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from eval.scoring.metrics import METRIC_NAMES
from targen.runtime.errors import UserError
from targen.runtime.jsonl import Json
from targen.tasks.task import Task


@dataclass(frozen=True)
class ArmScore:
    """Mean over seeds, in percent; `spread` is the standard deviation over seeds, None for one seed."""

    mean: float
    spread: float | None
    seeds: int
    unparsed: int

    def __str__(self) -> str:
        return f"{self.mean:.1f}" + (f" ± {self.spread:.1f}" if self.spread is not None else "")


@dataclass(frozen=True)
class Line:
    """One metric of one task: the baseline and every arm, on the same rows."""

    task: str
    title: str
    metric: str
    majority: float
    arms: dict[str, ArmScore | None]  # None: not run
    examples: int
    rows: int
    rows_in_split: int
    origin: str
    is_fixture: bool


NOT_RUN = "--"


def lines(tasks: Sequence[Task], arms: Sequence[str], scores: Sequence[Json]) -> list[Line]:
    """The table's lines, in the order of tasks and of their metrics; tasks without a score have none."""
    found = []
    for task in tasks:
        for metric in task.metrics:
            own = [row for row in scores if row["task"] == task.name and row["metric"] == metric]
            if own:
                found.append(_line(task, metric, arms, own))
    return found


def _line(task: Task, metric: str, arms: Sequence[str], own: list[Json]) -> Line:
    first = own[0]
    for row in own[1:]:
        different = [key for key in ("origin", "rows", "n", "evaluated") if row[key] != first[key]]
        if different:
            raise UserError(
                f"scores.jsonl: {first['cell']} was scored on {first['origin']} ({first['rows']} rows, {first['evaluated']}), "
                f"{row['cell']} on {row['origin']} ({row['rows']} rows, {row['evaluated']}); one line of a table has one set of rows. Evaluate both on the same data."
            )
    by_arm = {arm: [row for row in own if row["arm"] == arm] for arm in arms}
    return Line(
        task=task.name,
        title=task.folder,
        metric=METRIC_NAMES.get(metric, metric),
        majority=100 * first["majority"],
        arms={arm: _arm_score(rows) for arm, rows in by_arm.items()},
        examples=first["n"],
        rows=first["rows"],
        rows_in_split=first["rows_in_split"],
        origin=first["origin"],
        is_fixture=first["is_fixture"],
    )


def _arm_score(rows: list[Json]) -> ArmScore | None:
    if not rows:
        return None
    values = [100 * row["value"] for row in rows]
    spread = stdev(values) if len(values) > 1 else None
    return ArmScore(fmean(values), spread, len(values), sum(row["unparsed"] for row in rows))


def markdown(title: str, warning: str | None, note: str | None, arms: Sequence[str], table: Sequence[Line]) -> str:
    """The scores as Markdown. A warning about the evaluation data is part of the title."""
    parts = [f"# {title}" + (f": {warning}" if warning else "")]
    if note:
        parts.append(note.strip())
    header = ["task", "metric", "majority", *arms, "examples", "unreadable", "evaluated on"]
    body = [
        [
            line.title,
            line.metric,
            f"{line.majority:.1f}",
            *(str(score) if (score := line.arms[arm]) else NOT_RUN for arm in arms),
            str(line.examples),
            str(sum(score.unparsed for score in line.arms.values() if score)),
            evaluated_on(line),
        ]
        for line in table
    ]
    rule = ["---", "---", *(["---:"] * (len(header) - 3)), "---"]
    rows = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in [header, rule, *body]]
    return "\n\n".join([*parts, "\n".join(rows)]) + "\n"


def evaluated_on(line: Line) -> str:
    part = "" if line.rows == line.rows_in_split else f"{line.rows} of "
    return f"{line.origin}, {part}{line.rows_in_split} rows"


def warning(scored: Iterable[tuple[str, bool]]) -> str | None:
    """Words that nobody can overlook where a score is not of SuperGLUE; `scored` says of each its task and whether it is so."""
    found = list(scored)
    fixture = [title for title, is_fixture in found if is_fixture]
    if not fixture:
        return None
    where = "all tasks" if len(fixture) == len(found) else ", ".join(dict.fromkeys(fixture))
    return f"NOT SuperGLUE ({where}: scored on this project's own few hand-written rows)"
