"""The headline table: every arm on every task with its interval, their difference, the average, and the paper's numbers."""

from collections.abc import Sequence
from dataclasses import dataclass

from eval.scoring.scores import SUPERGLUE
from eval.statistics.comparisons import AVERAGE, Estimate
from eval.tables.comparison_tables import ComparisonTable, Line
from eval.tables.published import paper
from eval.tables.sentences import p_text, percent


@dataclass(frozen=True)
class Score:
    """In percent: what is written, and where its bar and its interval lie."""

    level: str
    text: str
    value: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Difference:
    """In points; `told` where it is told from none, `detail` its interval and p-value."""

    text: str
    detail: str
    told: bool


@dataclass(frozen=True)
class HeadLine:
    """One metric of one task, or the average."""

    title: str
    metric: str
    majority: float | None
    scores: tuple[Score | None, ...]
    differences: tuple[Difference | None, ...]  # of each pair of levels
    examples: str  # rows × seeds
    unreadable: int | None  # None of the average
    evaluated_on: str
    is_average: bool


@dataclass(frozen=True)
class PaperLine:
    """What the paper says of one comparison: a column each level, None where it says nothing."""

    model: str
    values: tuple[float | None, ...]
    difference: float
    source: str


@dataclass(frozen=True)
class Headline:
    """One group of the table: results that differ in nothing but the arm."""

    name: str
    levels: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    lines: tuple[HeadLine, ...]
    papers: tuple[PaperLine, ...]


def headlines(found: ComparisonTable) -> list[Headline]:
    """One for each group of `original_vs_synthetic`."""
    levels = found.levels
    every = []
    for group in found.groups:
        lines = [line for line in found.lines if line.group is group and line.levels]
        pairs = list(dict.fromkeys((one.level, one.reference) for line in lines for one in line.comparisons.values()))
        own = tuple(_head_line(line, levels, pairs) for line in lines)
        every.append(Headline(group.name, tuple(levels), tuple(pairs), own, tuple(paper_lines(levels))))
    return every


def _head_line(line: Line, levels: Sequence[str], pairs: Sequence[tuple[str, str]]) -> HeadLine:
    scores = tuple(_score(level, line.levels[level]) if level in line.levels else None for level in levels)
    return HeadLine(
        title=line.title,
        metric=line.metric,
        majority=None if line.majority is None else 100 * line.majority,
        scores=scores,
        differences=tuple(_difference(line, one, other) for one, other in pairs),
        examples=", ".join(dict.fromkeys(f"{one.n}×{one.seeds}" for one in line.levels.values())),
        unreadable=sum(scores.unparsed for scores in line.scores.values()) if line.scores else None,
        evaluated_on=line.evaluated_on,
        is_average=line.is_average,
    )


def _score(level: str, found: Estimate) -> Score:
    spread = f" ± {percent(found.spread)}" if found.spread is not None else ""
    bounds = None if found.bounds is None else (100 * found.bounds[0], 100 * found.bounds[1])
    return Score(level, percent(found.value) + spread, 100 * found.value, bounds)


def _difference(line: Line, one: str, other: str) -> Difference | None:
    found = line.comparisons.get(one)
    if found is None or found.reference != other:
        return None
    bounds = [] if found.bounds is None else [f"{percent(found.bounds[0])} to {percent(found.bounds[1])}"]
    p = [] if found.corrected is None else [f"p {p_text(found.corrected)}"]
    return Difference(f"{100 * found.difference:+.1f}", ", ".join(bounds + p), found.is_significant)


def paper_lines(levels: Sequence[str]) -> list[PaperLine]:
    """The averages over all eight tasks that are published, those with instructions apart."""
    found = []
    own = [one for one in paper().scores if one.benchmark == SUPERGLUE and one.task == AVERAGE]
    for instruct in (False, True):
        values = {one.arm: one for one in own if one.instruct == instruct}
        if {"original", "synthetic"} <= set(values):
            found.append(
                PaperLine(
                    model="Flan-T5" + (", instructions" if instruct else ""),
                    values=tuple(values[level].value if level in values else None for level in levels),
                    difference=values["synthetic"].value - values["original"].value,
                    source=values["original"].source,
                )
            )
    return found
