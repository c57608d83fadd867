"""Scores by the number of training rows, and by the number of real rows among synthetic ones, if a run has several."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from eval.scoring.metrics import metric_title
from eval.scoring.runs import RunScore
from eval.scoring.scores import SUPERGLUE, Score
from eval.statistics.axes import Labels, loss_level, model_labels, synthesis_labels
from eval.statistics.comparison_groups import (
    SeedScores,
    check_same_rows,
    seed_scores,
    tasks_in_order,
    training_size,
    without_repeats,
)
from eval.statistics.comparisons import Estimate
from eval.statistics.significance import ScoreStatistics
from eval.tables.formats import Table
from eval.tables.layout import SCORES
from eval.tables.records import Record, estimate_record, record
from eval.tables.sentences import NOT_RUN, percent, score_text
from targen.config.arms import ARMS, ArmName
from targen.tasks.task import Task


@dataclass(frozen=True)
class Point:
    """The scores at a number of rows; `x` is what the curve is drawn over."""

    x: int
    scores: SeedScores
    estimates: dict[str, Estimate]


@dataclass(frozen=True)
class Curve:
    """One task at several sizes, all else being equal."""

    labels: Labels
    task: Task
    points: tuple[Point, ...]

    @property
    def name(self) -> str:
        """The labels of the curve, as text."""
        return ", ".join(value for _, value in self.labels)

    @property
    def metrics(self) -> list[str]:
        """The metrics that all points have."""
        return [metric for metric in self.task.metrics if all(metric in point.estimates for point in self.points)]


SIZES, MIXING = "sizes", "mixing"
MIXING_ARMS: tuple[ArmName, ...] = ("synthetic", "mixed")  # one curve, from no real rows to many
TITLES = {SIZES: "Sizes of the training set", MIXING: "Real rows among the synthetic ones"}


def curves(
    varied: str, run_scores: Sequence[RunScore], tasks: Mapping[str, Task], statistics: ScoreStatistics
) -> list[Curve]:
    """All curves with at least two points; `varied` is what changes along them, SIZES or MIXING.

    Raises: UserError if points were scored on different rows.
    """
    groups: dict[tuple[Labels, str], list[RunScore]] = defaultdict(list)
    for run_score in run_scores:
        if (labels := _labels(varied, run_score.score)) is not None:
            groups[labels, run_score.score.task].append(run_score)
    order = tasks_in_order((task for _, task in groups), list(tasks))
    drawable = []
    for labels, task in sorted(groups, key=lambda key: (key[0], order.index(key[1]))):
        for run, curve_scores in without_repeats(groups[labels, task]):
            points = _points(varied, curve_scores, statistics)
            if len(points) > 1:
                check_same_rows(task, [point.scores for point in points])
                drawable.append(Curve((*labels, *((("run", run),) if run else ())), tasks[task], points))
    return drawable


def _points(varied: str, run_scores: Sequence[RunScore], statistics: ScoreStatistics) -> tuple[Point, ...]:
    by_size: dict[tuple[int, int], list[RunScore]] = defaultdict(list)
    for run_score in run_scores:
        by_size[training_size(run_score.score)].append(run_score)
    scores = {rows: seed_scores(by_size[rows]) for rows in sorted(by_size)}
    return tuple(
        Point(rows if varied == SIZES else real_rows, size_scores, statistics.estimates(size_scores))
        for (rows, real_rows), size_scores in scores.items()
    )


def _labels(varied: str, score: Score) -> Labels | None:
    """What is equal along a curve; None if the score belongs to none."""
    if score.benchmark != SUPERGLUE or score.train_rows is None:
        return None
    if varied == SIZES:
        is_mixed = score.arm in ARMS and ARMS[score.arm].uses_synthetic and ARMS[score.arm].uses_original
        return None if is_mixed else (*model_labels(score), ("arm", score.arm), *synthesis_labels(score))
    if score.arm not in MIXING_ARMS or score.selection or loss_level(score) not in ("ce", None):
        return None  # real_rows also counts what checkers were taught, which need not be among the trained rows
    synthetic_rows = score.train_rows - (score.real_rows or 0)
    return *model_labels(score), *synthesis_labels(score), ("made rows", str(synthetic_rows))


def curve_table(varied: str, table_curves: Sequence[Curve]) -> Table:
    """One line for each point and metric."""
    names = list(dict.fromkeys(name for curve in table_curves for name, _ in curve.labels))
    header = (*names, "task", "metric", "train rows", "real rows", "majority", "score")
    rows = []
    for curve, point, metric, estimate in _values(table_curves):
        labels, score = dict(curve.labels), point.scores.first
        majority = point.scores.metrics[metric][0].score.majority
        rows.append(
            (
                *(labels.get(name, "") for name in names),
                curve.task.folder,
                metric_title(metric),
                str(score.train_rows),
                str(score.real_rows or 0),
                NOT_RUN if majority is None else percent(majority),
                score_text(estimate, point.scores),
            )
        )
    return Table(
        name=varied,
        title=TITLES[varied],
        notes=(SCORES,),
        header=header,
        lines=tuple(rows),
        records=tuple(_records(varied, table_curves)),
        numeric=frozenset(range(len(names) + 2, len(header))),
    )


def _values(table_curves: Sequence[Curve]) -> Iterator[tuple[Curve, Point, str, Estimate]]:
    for curve in table_curves:
        for metric in curve.metrics:
            for point in curve.points:
                yield curve, point, metric, point.estimates[metric]


def _records(varied: str, table_curves: Sequence[Curve]) -> Iterator[Record]:
    for curve, point, metric, estimate in _values(table_curves):
        start = record(varied, curve.labels, curve.task.name, metric_title(metric), "score", "")
        yield estimate_record(start, estimate, point.scores.metrics[metric][0].score.majority, point.scores)
