"""The layout of comparison tables: text for people, records for programs, and a sentence for every comparison."""

from collections.abc import Iterator
from functools import partial

from eval.scoring.scores import SUPERGLUE
from eval.tables.comparison_tables import ComparisonTable, Line
from eval.tables.formats import Table
from eval.tables.published import published_columns
from eval.tables.records import Record, comparison_record, estimate_record, published_record, record
from eval.tables.sentences import NOT_RUN, difference_text, percent, score_text, sentence, trained_on

SCORES = (
    "Percent: mean ± standard deviation over seeds (95 % interval over evaluation rows), evaluation rows × seeds, and the "
    "percentage of answers that could not be read and count as wrong, or that were cut at eval.max_new_tokens, if there are any. --: not run, or not published."
)
DIFFERENCES = (
    "Differences: points (interval), p after Holm's correction over the tasks. The interval is where the difference may lie on other rows, "
    "for each score alone; p is how often two equal arms would differ as much, and decides what is distinguishable. If there are several sizes of a training set, "
    "the largest that all arms have is used, or else each arm's largest."
)


def layout(table: ComparisonTable) -> Table:
    """The table, ready to be written; labels that are equal in all lines become a note."""
    label_names, notes = _label_columns(table)
    levels, pairs = table.levels, table.pairs
    published_names = [
        name for name in published_columns(table.axis.name) if any(name in line.published for line in table.lines)
    ]
    has_majority = any(line.majority is not None for line in table.lines)
    header = [*label_names, "task", "metric", *["majority"] * has_majority, *levels, "training rows"]
    header += [f"{level} - {reference}" for level, reference in pairs]
    header += [*(f"paper: {name}" for name in published_names), "evaluated on"]
    rows = []
    for line in table.lines:
        labels = dict(line.group.labels)
        row = [*(labels.get(name, NOT_RUN) for name in label_names), line.title, line.metric]
        row += [NOT_RUN if line.majority is None else percent(line.majority)] * has_majority
        row += [_score(line, level) for level in levels]
        row.append(trained_on(line.train_rows))
        row += [_difference(line, level, reference) for level, reference in pairs]
        row += [f"{line.published[name].value:g}" if name in line.published else NOT_RUN for name in published_names]
        rows.append((*row, line.evaluated_on))
    return Table(
        name=table.axis.name,
        title=table.axis.title,
        notes=(*notes, SCORES, DIFFERENCES, *_notes(table)),
        header=tuple(header),
        lines=tuple(rows),
        records=tuple(_records(table)),
        numeric=frozenset(range(len(label_names) + 2, len(header) - 1)),
        sentences=tuple(sentences(table)),
    )


def _label_columns(table: ComparisonTable) -> tuple[list[str], tuple[str, ...]]:
    """(labels that differ between groups, the others as a note)."""
    names = list(dict.fromkeys(name for group in table.groups for name, _ in group.labels))
    values = {name: [dict(group.labels).get(name) for group in table.groups] for name in names}
    differing = [name for name in names if len(set(values[name])) > 1]
    note = "; ".join(f"{name}: {values[name][0]}" for name in names if name not in differing)
    return differing, (f"{note}.",) if note else ()


def _score(line: Line, level: str) -> str:
    if level not in line.levels:
        return NOT_RUN
    return score_text(line.levels[level], line.scores.get(level))


def _difference(line: Line, level: str, reference: str) -> str:
    comparison = line.comparisons.get(level)
    return difference_text(comparison) if comparison and comparison.reference == reference else NOT_RUN


def _notes(table: ComparisonTable) -> list[str]:
    """What a reader must know about these numbers."""
    notes = []
    for mark, titles in table.fixture_tasks.items():
        notes.append(f"{mark}: {', '.join(titles)} scored on this project's own few hand-written rows.")
    sources = dict.fromkeys(number.source for line in table.lines for number in line.published.values())
    notes += [f"Paper: {source}." for source in sources]
    if any(scores.first.benchmark != SUPERGLUE for line in table.lines for scores in line.scores.values()):
        notes.append("Intervals are 1.96 standard errors of the harness; differences are not tested.")
    return notes


def sentences(table: ComparisonTable) -> Iterator[str]:
    """A sentence for every comparison, averages first."""
    label_names, _ = _label_columns(table)
    for group in table.groups:
        prefix = ", ".join(value for name, value in group.labels if name in label_names)
        comparisons = [
            (line, comparison)
            for line in table.lines
            if line.group is group
            for comparison in line.comparisons.values()
        ]
        levels = [comparison.level for _, comparison in comparisons]
        comparisons.sort(key=lambda pair: (levels.index(pair[1].level), not pair[0].is_average))
        for line, comparison in comparisons:
            title = f"{prefix}: {line.title}" if prefix else line.title
            yield sentence(comparison, f"{title} ({line.fixture_mark})" if line.fixture_mark else title)


def _records(table: ComparisonTable) -> Iterator[Record]:
    for line in table.lines:
        start = partial(record, table.axis.name, line.group.labels, line.task, line.metric)
        for level, estimate in line.levels.items():
            yield estimate_record(start("score", level), estimate, line.majority, line.scores.get(level))
        for comparison in line.comparisons.values():
            yield comparison_record(start("difference", f"{comparison.level} - {comparison.reference}"), comparison)
        for name, number in line.published.items():
            yield published_record(start("published", name), number)
