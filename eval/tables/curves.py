"""Scores by the number of training rows, and by the number of real ones among synthetic ones, where a run has several."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from eval.scoring.metrics import METRIC_NAMES
from eval.scoring.runs import SUPERGLUE, RunScore, Score, task_order, task_specs
from eval.statistics.comparison_groups import (
    Labels,
    SeedScores,
    check_same_rows,
    model_labels,
    one_of_each,
    seed_scores,
    size,
    synthesis_labels,
)
from eval.statistics.comparisons import Estimate
from eval.statistics.significance import ScoreStatistics
from eval.tables.comparison_tables import SCORES
from eval.tables.formats import Table
from eval.tables.records import Record, of_estimate, record
from eval.tables.score_tables import NOT_RUN
from eval.tables.sentences import percent, score_text


@dataclass(frozen=True)
class Point:
    """An entry at a number of rows; `x` is what the curve is drawn over."""

    x: int
    entry: SeedScores
    estimates: dict[str, Estimate]


@dataclass(frozen=True)
class Curve:
    """One task at several sizes, everything else being equal."""

    labels: Labels
    task: str
    points: tuple[Point, ...]

    @property
    def name(self) -> str:
        return ", ".join(which for _, which in self.labels)


SIZES, MIXING = "sizes", "mixing"
TITLES = {SIZES: "Sizes of the training set", MIXING: "Real rows beside the synthetic ones"}


def curves(kind: str, results: Sequence[RunScore], statistics: ScoreStatistics) -> list[Curve]:
    """All curves with at least two points. Raises: UserError where points were scored on different rows."""
    groups: dict[tuple[Labels, str], list[RunScore]] = defaultdict(list)
    for result in results:
        if (labels := _labels(kind, result.score)) is not None:
            groups[labels, result.score.task].append(result)
    found = []
    for labels, task in sorted(groups, key=lambda key: (key[0], task_order(task_specs()).index(key[1]))):
        for run, own in one_of_each(groups[labels, task]):
            points = _points(kind, own, statistics)
            if len(points) > 1:
                check_same_rows(task, [point.entry for point in points])
                found.append(Curve((*labels, *((("run", run),) if run else ())), task, points))
    return found


def _points(kind: str, results: Sequence[RunScore], statistics: ScoreStatistics) -> tuple[Point, ...]:
    sized: dict[tuple[int, int], list[RunScore]] = defaultdict(list)
    for result in results:
        sized[size(result.score)].append(result)
    entries = {key: seed_scores(own) for key, own in sized.items()}
    place = 0 if kind == SIZES else 1
    return tuple(Point(key[place], entries[key], statistics.estimates(entries[key])) for key in sorted(entries))


def _labels(kind: str, score: Score) -> Labels | None:
    """What is equal along a curve; None for what is no part of one."""
    if score.benchmark != SUPERGLUE or score.train_rows is None:
        return None
    if kind == SIZES:
        return None if score.arm == "mixed" else (*model_labels(score), ("arm", score.arm), *synthesis_labels(score))
    if score.arm not in ("synthetic", "mixed"):
        return None
    return *model_labels(score), *synthesis_labels(score), ("made rows", str(score.train_rows - (score.real_rows or 0)))


def curve_table(kind: str, found: Sequence[Curve]) -> Table:
    """One line a point."""
    specs = task_specs()
    names = list(dict.fromkeys(what for curve in found for what, _ in curve.labels))
    header = (*names, "task", "metric", "train rows", "real rows", "majority", "score")
    rows = []
    for curve, point, metric, estimate in _values(found):
        labels = dict(curve.labels)
        first = point.entry.first
        sizes = (str(first.train_rows), str(first.real_rows or 0))
        words = (specs[curve.task].folder, METRIC_NAMES.get(metric, metric))
        majority = point.entry.metrics[metric][0].score.majority
        scored = (NOT_RUN if majority is None else percent(majority), score_text(estimate, point.entry.unparsed))
        rows.append((*(labels.get(name, "") for name in names), *words, *sizes, *scored))
    return Table(
        name=kind,
        title=TITLES[kind],
        notes=(SCORES,),
        header=header,
        lines=tuple(rows),
        records=tuple(_records(kind, found)),
        numeric=frozenset(range(len(names) + 2, len(header))),
    )


def _values(found: Sequence[Curve]) -> Iterator[tuple[Curve, Point, str, Estimate]]:
    for curve in found:
        for metric in task_specs()[curve.task].metrics:
            for point in curve.points:
                yield curve, point, metric, point.estimates[metric]


def _records(kind: str, found: Sequence[Curve]) -> Iterator[Record]:
    for curve, point, metric, estimate in _values(found):
        start = record(kind, curve.labels, curve.task, METRIC_NAMES.get(metric, metric), "score", "")
        yield of_estimate(start, estimate, point.entry.metrics[metric][0].score.majority, point.entry)
