"""The paper's tables from our results: one line a task and metric, one column a level, the published number beside it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from eval.scoring.metrics import METRIC_NAMES
from eval.scoring.runs import SUPERGLUE, RunScore, Score, task_specs
from eval.statistics.comparison_groups import AXES, ComparisonAxis, ComparisonGroup, SeedScores, groups
from eval.statistics.comparisons import AVERAGE, Comparison, Estimate
from eval.statistics.significance import ScoreStatistics, mixes_fixture
from eval.tables.formats import Table
from eval.tables.published import Number, published_difference, published_score
from eval.tables.records import Record, of_comparison, of_estimate, of_published, record
from eval.tables.score_tables import NOT_RUN
from eval.tables.sentences import difference_text, percent, score_text, sentence

SCORES = (
    "Percent: mean ± standard deviation over seeds (95 % bootstrap interval over evaluation rows) evaluation rows × seeds, and the "
    "percentage of answers that could not be read and count as wrong, where there are any. -- was not run, or is not public."
)
DIFFERENCES = (
    "Differences: points (interval), p after Holm's correction over the tasks. Of several sizes of a training set the largest "
    "that all have is taken, else each one's largest."
)
PUBLISHED = {  # columns of published numbers, also where all their cells are empty
    "original_vs_synthetic": ("original", "synthetic"),
    "instructions": ("without", "with instructions"),
    "openllm": ("synthetic - self_instruct",),
}


@dataclass(frozen=True)
class Line:
    """One metric of one task, or the average: what each level got, each against the reference, what was published."""

    group: ComparisonGroup
    task: str
    title: str
    metric: str
    majority: float | None
    levels: Mapping[str, Estimate]
    entries: Mapping[str, SeedScores]
    comparisons: Mapping[str, Comparison]  # by level
    published: Mapping[str, Number]  # by level, or by `one - other` for a difference
    evaluated_on: str


@dataclass(frozen=True)
class ComparisonTable:
    """A table before it is set, for figures and sentences too."""

    axis: ComparisonAxis
    groups: tuple[ComparisonGroup, ...]
    lines: tuple[Line, ...]


def comparison_tables(
    results: Sequence[RunScore], tasks: Sequence[str], statistics: ScoreStatistics
) -> list[ComparisonTable]:
    """Every table that has content. `tasks` are those that the runs are about: what was not run has a line too."""
    found = []
    for axis in AXES:
        own = tuple(groups(axis, results))
        if own:
            lines = tuple(line for group in own for line in _lines(axis, group, tasks, statistics))
            found.append(ComparisonTable(axis, own, lines))
    return found


def levels_of(found: ComparisonTable) -> list[str]:
    """The columns: levels in the order of the axis."""
    seen = {level for group in found.groups for level in group.levels} | set(found.axis.always)
    known = [level for level in found.axis.order if level in seen]
    return [*known, *sorted(seen - set(known))]


def _lines(
    axis: ComparisonAxis, group: ComparisonGroup, tasks: Sequence[str], statistics: ScoreStatistics
) -> Iterator[Line]:
    comparisons = statistics.comparisons(axis, group)
    estimates = {
        (task, level): statistics.estimates(one) for task, own in group.tasks.items() for level, one in own.items()
    }
    wanted = [*tasks] if axis.always else []
    for task in (name for name in dict.fromkeys([*_ordered(wanted, group.tasks)])):
        entries = group.tasks.get(task, {})
        first = next(iter(entries.values())).first if entries else None
        for metric in _metrics(task, entries):
            levels = {level: estimates[task, level][metric] for level in entries}
            yield Line(
                group=group,
                task=task,
                title=title_of(task, group),
                metric=METRIC_NAMES.get(metric, metric),
                majority=_majority(entries, metric),
                levels=levels,
                entries=entries,
                comparisons={one.one: one for one in comparisons if (one.task, one.metric) == (task, metric)},
                published=_published(axis, entries, task) if first else {},
                evaluated_on=_evaluated_on(first) if first else NOT_RUN,
            )
    if len(group.tasks) > 1 and AVERAGE not in group.tasks and not mixes_fixture(group):
        yield _average_line(axis, group, comparisons, statistics)


def _average_line(
    axis: ComparisonAxis, group: ComparisonGroup, comparisons: Sequence[Comparison], statistics: ScoreStatistics
) -> Line:
    """The average over the group's tasks, of the levels that were run on all of them."""
    complete = {
        level: [own[level] for own in group.tasks.values()]
        for level in group.levels
        if all(level in own for own in group.tasks.values())
    }
    found = {level: value for level, own in complete.items() if (value := statistics.average(own)) is not None}
    every = set(group.tasks) == set(task_specs())
    return Line(
        group=group,
        task=AVERAGE,
        title=title_of(AVERAGE, group),
        metric="task score",
        majority=None,
        levels=found,
        entries={},
        comparisons={one.one: one for one in comparisons if one.task == AVERAGE},
        published=_published(axis, {level: own[0] for level, own in complete.items()}, AVERAGE) if every else {},
        evaluated_on="; ".join(
            dict.fromkeys(own.first.origin for levels in group.tasks.values() for own in levels.values())
        ),
    )


def _ordered(wanted: Sequence[str], found: Iterable[str]) -> list[str]:
    own = set(found) | set(wanted)
    return [*(name for name in task_specs() if name in own), *(name for name in found if name not in task_specs())]


def _metrics(task: str, entries: Mapping[str, SeedScores]) -> Sequence[str]:
    if task in task_specs():
        return task_specs()[task].metrics
    return list(dict.fromkeys(metric for one in entries.values() for metric in one.metrics))


def title_of(task: str, group: ComparisonGroup) -> str:
    if task in task_specs():
        return task_specs()[task].folder
    if task == AVERAGE and AVERAGE not in group.tasks:
        return f"average of {len(group.tasks)} tasks"
    return task


def _majority(entries: Mapping[str, SeedScores], metric: str) -> float | None:
    for one in entries.values():
        return one.metrics[metric][0].score.majority
    return None


def _evaluated_on(score: Score) -> str:
    part = "" if score.rows == score.rows_in_split else f"{score.rows} of "
    return f"{score.origin}, {part}{score.rows_in_split} rows"


def _published(axis: ComparisonAxis, entries: Mapping[str, SeedScores], task: str) -> dict[str, Number]:
    """By level, and by difference, where one was published of the same model, instructions and arm."""
    found: dict[str, Number | None] = {}
    for level, one in entries.items():
        found[level] = published_score(one.first, task)
        for reference, other in entries.items():
            found[f"{level} - {reference}"] = published_difference(one.first, task, other.first.arm)
    columns = PUBLISHED.get(axis.name, ())
    return {name: number for name, number in found.items() if number is not None and name in columns}


def table_of(found: ComparisonTable) -> Table:
    """The table as it is set: columns that are equal in all lines stand in the notes."""
    shown, said = _label_columns(found)
    levels, lines = levels_of(found), found.lines
    pairs = list(dict.fromkeys((one.one, one.other) for line in lines for one in line.comparisons.values()))
    papers = PUBLISHED.get(found.axis.name, ())
    majority = ["majority"] if any(line.majority is not None for line in lines) else []
    header = [*shown, "task", "metric", *majority, *levels, *(f"{one} - {other}" for one, other in pairs)]
    header += [*(f"paper: {name}" for name in papers), "evaluated on"]
    rows = []
    for line in lines:
        labels = dict(line.group.labels)
        row = [*(labels.get(name, NOT_RUN) for name in shown), line.title, line.metric]
        row += [NOT_RUN if line.majority is None else percent(line.majority)] * len(majority)
        row += [_score(line, level) for level in levels]
        row += [_difference(line, one, other) for one, other in pairs]
        row += [f"{line.published[name].value:g}" if name in line.published else NOT_RUN for name in papers]
        rows.append(tuple([*row, line.evaluated_on]))
    numeric = range(len(shown) + 2, len(header) - 1)
    notes = (*said, SCORES, DIFFERENCES, *_notes(found))
    return Table(
        name=found.axis.name,
        title=found.axis.title,
        notes=notes,
        header=tuple(header),
        lines=tuple(rows),
        records=tuple(_records(found)),
        numeric=frozenset(numeric),
        sentences=tuple(sentences(found)),
    )


def _label_columns(found: ComparisonTable) -> tuple[list[str], tuple[str, ...]]:
    """(labels that differ between groups, the others in words)."""
    names = list(dict.fromkeys(name for group in found.groups for name, _ in group.labels))
    values = {name: [dict(group.labels).get(name) for group in found.groups] for name in names}
    shown = [name for name in names if len(set(values[name])) > 1]
    said = "; ".join(f"{name}: {values[name][0]}" for name in names if name not in shown)
    return shown, (f"{said}.",) if said else ()


def _score(line: Line, level: str) -> str:
    if level not in line.levels:
        return NOT_RUN
    return score_text(line.levels[level], line.entries[level].unparsed if level in line.entries else 0)


def _difference(line: Line, one: str, other: str) -> str:
    comparison = line.comparisons.get(one)
    return difference_text(comparison) if comparison is not None and comparison.other == other else NOT_RUN


def _notes(found: ComparisonTable) -> list[str]:
    """What a reader must know of these numbers."""
    notes = []
    fixture = sorted({title_of(task, group) for group in found.groups for task, own in group.tasks.items()
                      if any(one.first.is_fixture for one in own.values())})  # fmt: skip
    if fixture:
        notes.append(f"NOT SuperGLUE: {', '.join(fixture)} scored on this project's own few hand-written rows.")
    sources = dict.fromkeys(number.source for line in found.lines for number in line.published.values())
    notes += [f"Paper: {source}." for source in sources]
    if any(
        one.first.benchmark != SUPERGLUE
        for group in found.groups
        for own in group.tasks.values()
        for one in own.values()
    ):
        notes.append("Intervals are 1.96 standard errors of the harness; differences are not tested.")
    return notes


def sentences(found: ComparisonTable) -> Iterator[str]:
    """What every comparison says, the average first."""
    shown, _ = _label_columns(found)
    for group in found.groups:
        prefix = ", ".join(which for what, which in group.labels if what in shown)
        own = [(line, one) for line in found.lines if line.group is group for one in line.comparisons.values()]
        names = [one.one for _, one in own]
        for line, one in sorted(own, key=lambda pair: (names.index(pair[1].one), pair[0].task != AVERAGE)):
            fixture = any(entry.first.is_fixture for entry in line.entries.values())
            title = f"{prefix}: {line.title}" if prefix else line.title
            yield sentence(one, f"{title} (NOT SuperGLUE)" if fixture else title)


def _records(found: ComparisonTable) -> Iterator[Record]:
    for line in found.lines:
        start = partial(record, found.axis.name, line.group.labels, line.task, line.metric)
        for level, estimate in line.levels.items():
            yield of_estimate(start("score", level), estimate, line.majority, line.entries.get(level))
        for one in line.comparisons.values():
            yield of_comparison(start("difference", f"{one.one} - {one.other}"), one)
        for name, number in line.published.items():
            yield of_published(start("published", name), number)
