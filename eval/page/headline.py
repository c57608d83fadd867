"""The headline table: every arm on every task with its interval, their difference, the average, and the paper's numbers."""

from collections.abc import Sequence
from dataclasses import dataclass

from eval.scoring.scores import SUPERGLUE
from eval.statistics.comparisons import AVERAGE
from eval.tables.comparison_tables import ComparisonTable, Line, is_as_in_paper
from eval.tables.published import paper
from eval.tables.sentences import p_text, percent


@dataclass(frozen=True)
class Score:
    """A score in percent: its text, and the positions of its bar and its interval."""

    level: str
    text: str
    value: float
    interval: tuple[float, float] | None
    train_rows: str  # of the model; empty if it was not finetuned


@dataclass(frozen=True)
class Difference:
    """A difference in points; `details` are its interval and its p-value."""

    text: str
    details: tuple[str, ...]
    is_significant: bool


@dataclass(frozen=True)
class HeadlineRow:
    """One metric of one task, or the average."""

    title: str
    metric: str
    majority: float | None
    scores: tuple[Score | None, ...]
    differences: tuple[Difference | None, ...]  # one per pair of levels
    examples: str  # rows × seeds
    unreadable: int | None  # None for the average
    evaluated_on: str
    is_average: bool


@dataclass(frozen=True)
class PaperLine:
    """The paper's numbers for one comparison: a value per level, None if it has none."""

    model: str
    values: tuple[float | None, ...]
    difference: float
    source: str


@dataclass(frozen=True)
class Headline:
    """One group of the table: results that differ only in the arm."""

    name: str
    levels: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    lines: tuple[HeadlineRow, ...]
    paper_lines: tuple[PaperLine, ...]  # empty unless the eight tasks of the paper were scored on SuperGLUE


def headlines(table: ComparisonTable) -> list[Headline]:
    """One per comparison group of the table."""
    levels = table.levels
    result = []
    for group in table.groups:
        lines = [line for line in table.lines if line.group is group and line.levels]
        comparisons = [comparison for line in lines for comparison in line.comparisons.values()]
        pairs = list(dict.fromkeys((comparison.level, comparison.reference) for comparison in comparisons))
        rows = tuple(_row(line, levels, pairs) for line in lines)
        result.append(
            Headline(
                group.name,
                tuple(levels),
                tuple(pairs),
                rows,
                tuple(paper_lines(levels)) if is_as_in_paper(group) else (),
            )
        )
    return result


def _row(line: Line, levels: Sequence[str], pairs: Sequence[tuple[str, str]]) -> HeadlineRow:
    scores = tuple(_score(line, level) if level in line.levels else None for level in levels)
    return HeadlineRow(
        title=line.title,
        metric=line.metric,
        majority=None if line.majority is None else 100 * line.majority,
        scores=scores,
        differences=tuple(_difference(line, first, second) for first, second in pairs),
        examples=", ".join(dict.fromkeys(f"{estimate.n}×{estimate.seeds}" for estimate in line.levels.values())),
        unreadable=sum(scores.unparsed for scores in line.scores.values()) if line.scores else None,
        evaluated_on=line.evaluated_on,
        is_average=line.is_average,
    )


def _score(line: Line, level: str) -> Score:
    estimate = line.levels[level]
    spread = f" ± {percent(estimate.spread)}" if estimate.spread is not None else ""
    bounds = None if estimate.bounds is None else (100 * estimate.bounds[0], 100 * estimate.bounds[1])
    return Score(level, percent(estimate.value) + spread, 100 * estimate.value, bounds, line.train_rows.get(level, ""))


def _difference(line: Line, first: str, second: str) -> Difference | None:
    comparison = line.comparisons.get(first)
    if comparison is None or comparison.reference != second:
        return None
    bounds = (
        [] if comparison.bounds is None else [f"{percent(comparison.bounds[0])} to {percent(comparison.bounds[1])}"]
    )
    p = [] if comparison.corrected is None else [f"{'Holm ' * (comparison.tests > 1)}p {p_text(comparison.corrected)}"]
    decides = ["; p decides"] * comparison.disagrees
    details = (*bounds, *("".join(p + decides),) * bool(p))
    return Difference(f"{100 * comparison.difference:+.1f}", details, comparison.is_significant)


def paper_lines(levels: Sequence[str]) -> list[PaperLine]:
    """The published averages over all eight tasks, without and with instructions."""
    lines = []
    averages = [score for score in paper().scores if score.benchmark == SUPERGLUE and score.task == AVERAGE]
    for instruct in (False, True):
        values = {score.arm: score for score in averages if score.instruct == instruct}
        if {"original", "synthetic"} <= set(values):
            lines.append(
                PaperLine(
                    model="Flan-T5" + (", instructions" if instruct else ""),
                    values=tuple(values[level].value if level in values else None for level in levels),
                    difference=values["synthetic"].value - values["original"].value,
                    source=values["original"].source,
                )
            )
    return lines
