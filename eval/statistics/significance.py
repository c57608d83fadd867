"""The numbers behind a comparison group: estimates of its scores and comparisons of its levels, from scores and predictions."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from statistics import fmean, stdev

from eval.scoring.metrics import task_score
from eval.scoring.runs import RunScore
from eval.scoring.scores import SUPERGLUE
from eval.statistics.axes import ComparisonAxis
from eval.statistics.comparison_groups import (
    ComparisonGroup,
    SeedScores,
    averaged_tasks,
    cell_in_run,
    common_seeds,
    is_untrained,
    with_seeds,
)
from eval.statistics.comparisons import Comparison, Estimate, Interval, uncorrected_comparison
from eval.statistics.intervals import Resampled, interval_from_error, mean_of_tasks, resampled_metrics, weighted_sum
from eval.statistics.prediction_cache import PredictionCache, Sample, over_seeds
from eval.statistics.resampling import (
    Floats,
    bootstrap,
    exchanged_differences,
    generator,
    holm,
    is_right_or_wrong,
    mcnemar,
    p_value,
)
from targen.runtime.errors import UserError


@dataclass(frozen=True)
class PairDraws:
    """Differences of two arms on one task, by metric: on the same resamples, and under exchange of their answers."""

    difference: Mapping[str, Resampled]
    null: Mapping[str, Resampled]


@dataclass(frozen=True)
class Pair:
    """A level and its reference on one task with their scores of the same seeds; samples and draws if the predictions of both
    are stored."""

    seeds: tuple[int, ...]
    level: SeedScores
    reference: SeedScores
    samples: tuple[tuple[Sample, ...], tuple[Sample, ...]] | None
    draws: PairDraws | None = None

    @property
    def metrics(self) -> list[str]:
        """The metrics that both have."""
        return [metric for metric in self.level.metrics if metric in self.reference.metrics]


class ScoreStatistics:
    """Estimates and comparisons; each is computed once."""

    def __init__(self, predictions: PredictionCache) -> None:
        self._predictions = predictions
        self._draws: dict[tuple[str, ...], dict[str, Resampled] | None] = {}

    def estimates(self, scores: SeedScores) -> dict[str, Estimate]:
        """An estimate of every metric of these scores."""
        draws = self._bootstrapped(scores)
        estimates = {}
        for metric, run_scores in scores.metrics.items():
            values = [run_score.score.value for run_score in run_scores]
            bounds = None if draws is None else draws[metric].interval(fmean(values))
            if (error := scores.first.stderr) is not None and len(values) == 1:
                bounds = interval_from_error(values[0], error, scores.first.n)
            estimates[metric] = _estimate(values, bounds, scores.first.n)
        return estimates

    def average(self, tasks: Sequence[SeedScores]) -> Estimate | None:
        """The mean over the tasks of their task scores, seed by seed; None if no seed is common to all.

        The tasks are independent samples, so a draw of the average is the mean of a draw of each.
        """
        seeds = common_seeds(tasks)
        if not seeds:
            return None
        common = [with_seeds(scores, seeds) for scores in tasks]
        values = [fmean(_task_score(scores, number) for scores in common) for number in range(len(seeds))]
        draws = [metric_draws for scores in common if (metric_draws := self._bootstrapped(scores)) is not None]
        bounds = _average(draws).interval(fmean(values)) if len(draws) == len(common) else None
        return _estimate(values, bounds, sum(scores.first.n for scores in common))

    def comparisons(self, axis: ComparisonAxis, group: ComparisonGroup) -> list[Comparison]:
        """Every level of the group against its reference: by task and metric, and on average over the tasks."""
        reference = next((level for level in axis.references if level in group.levels), None)
        if reference is None:
            return []
        levels = sorted((level for level in group.levels if level != reference), key=is_untrained)
        return [comparison for level in levels for comparison in self._level_comparisons(group, level, reference)]

    def _level_comparisons(self, group: ComparisonGroup, level: str, reference: str) -> list[Comparison]:
        pairs: dict[str, Pair] = {}
        for task, levels in group.tasks.items():
            if level in levels and reference in levels and (seeds := common_seeds([levels[level], levels[reference]])):
                pairs[task] = self._pair(seeds, with_seeds(levels[level], seeds), with_seeds(levels[reference], seeds))
        with ThreadPoolExecutor() as pool:  # numpy releases the interpreter lock while it draws
            pairs = dict(zip(pairs, pool.map(_with_draws, pairs.values()), strict=True))
        comparisons = holm_corrected(
            [
                _comparison(task, metric, pair, level, reference)
                for task, pair in pairs.items()
                for metric in pair.metrics
            ]
        )
        for average, tasks in averaged_tasks(group).items():
            if set(tasks) <= set(pairs):
                comparisons += self._average_comparison(average, [pairs[task] for task in tasks], level, reference)
        return comparisons

    def _average_comparison(self, name: str, pairs: Sequence[Pair], level: str, reference: str) -> list[Comparison]:
        """The comparison of the averages; none if the tasks were not all trained with the same seeds."""
        seeds = pairs[0].seeds
        first = self.average([pair.level for pair in pairs])
        second = self.average([pair.reference for pair in pairs])
        if first is None or second is None or any(pair.seeds != seeds for pair in pairs):
            return []
        p, bounds = None, None
        draws = [pair.draws for pair in pairs if pair.draws is not None]
        if len(draws) == len(pairs):
            difference = first.value - second.value
            bounds = _average([pair_draws.difference for pair_draws in draws]).interval(difference)
            p = p_value(difference, _average([pair_draws.null for pair_draws in draws]).values)
        return [uncorrected_comparison(name, name, (level, reference), (first, second), bounds, p)]

    def _pair(self, seeds: tuple[int, ...], level: SeedScores, reference: SeedScores) -> Pair:
        first, second = self._answers(level), self._answers(reference)
        if first is None or second is None:
            return Pair(seeds, level, reference, None)
        if first[0] != second[0]:
            raise _different_rows(reference.scores[0], level.scores[0])
        return Pair(seeds, level, reference, (first[1], second[1]))

    def _bootstrapped(self, scores: SeedScores) -> dict[str, Resampled] | None:
        names = _draw_names(scores)
        key = tuple(f"{run_score.root}/{name}" for run_score, name in zip(scores.scores, names, strict=True))
        if key not in self._draws:
            answers = self._answers(scores)
            draws = generator("one", *names)
            values: dict[str, Resampled] = {}
            for sample in answers[1] if answers is not None else ():
                arms = [sample.answers]
                (metric_draws,) = bootstrap(arms, sample.gold, sample.labels, draws, clusters=sample.clusters)
                values |= resampled_metrics(arms, sample.gold, sample.labels, metric_draws)
            self._draws[key] = values if answers is not None else None
        return self._draws[key]

    def _answers(self, scores: SeedScores) -> tuple[str, tuple[Sample, ...]] | None:
        """(hash of the questions, the answers over the seeds); None if those of a seed are not stored."""
        if scores.first.benchmark != SUPERGLUE:
            return None
        cells = []
        for number, run_score in enumerate(scores.scores):
            answers = self._predictions.of([run_scores[number] for run_scores in scores.metrics.values()])
            if answers is None:
                return None
            cells.append(answers)
            if answers.questions != cells[0].questions:
                raise _different_rows(run_score, scores.scores[0])
        return cells[0].questions, over_seeds(cells)


def holm_corrected(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons with p-values after Holm's correction over all that were tested."""
    tested = [comparison for comparison in comparisons if comparison.p is not None]
    ps = iter(holm([comparison.p for comparison in tested if comparison.p is not None]))
    tasks = len({comparison.task for comparison in tested})
    return [
        comparison if comparison.p is None else replace(comparison, corrected=next(ps), tests=len(tested), tasks=tasks)
        for comparison in comparisons
    ]


def _comparison(task: str, metric: str, pair: Pair, level: str, reference: str) -> Comparison:
    first, second = (_estimate(_values(side, metric), None, side.first.n) for side in (pair.level, pair.reference))
    p, bounds = None, None
    if pair.draws is not None and pair.samples is not None:
        difference = first.value - second.value
        p = _p(metric, pair.samples, difference, pair.draws.null[metric].values)
        bounds = pair.draws.difference[metric].interval(difference)
    return uncorrected_comparison(
        task, metric, (level, reference), (first, second), bounds, p, _unit(pair.level.scores[0])
    )


def _with_draws(pair: Pair) -> Pair:
    if pair.samples is None:
        return pair
    difference: dict[str, Resampled] = {}
    null: dict[str, Resampled] = {}
    draws = generator("two", *_draw_names(pair.level), *_draw_names(pair.reference))
    for first, second in zip(*pair.samples, strict=True):
        arms = [first.answers, second.answers]
        level, reference = bootstrap(arms, first.gold, first.labels, draws, clusters=first.clusters)
        differences = {name: level[name] - reference[name] for name in level}
        difference |= resampled_metrics(arms, first.gold, first.labels, differences)
        exchange = exchanged_differences(
            first.answers, second.answers, first.gold, first.labels, draws, clusters=first.clusters
        )
        null |= {name: Resampled(values) for name, values in exchange.items()}
    return replace(pair, draws=PairDraws(difference, null))


def _p(metric: str, samples: tuple[Sequence[Sample], Sequence[Sample]], observed: float, null: Floats) -> float:
    """The p-value of McNemar's exact test if independent units are right or wrong, otherwise of the permutation test."""
    for first, second in zip(*samples, strict=True):
        if metric in first.answers.means and first.clusters is None:
            values, reference_values = first.answers.means[metric], second.answers.means[metric]
            if is_right_or_wrong(values) and is_right_or_wrong(reference_values):
                return mcnemar(values, reference_values)
    return p_value(observed, null)


def _unit(run_score: RunScore) -> str:
    """What a model answers: a row, or one of the parts that a row has (ReCoRD: queries; MultiRC: answers)."""
    if run_score.score.n == run_score.score.rows:
        return "rows"
    return "answers" if run_score.task is not None and run_score.task.answer_labels else "queries"


def _average(tasks: Sequence[Mapping[str, Resampled]]) -> Resampled:
    """The average over the tasks, from the metrics of each."""
    return mean_of_tasks([_task_draws(metrics) for metrics in tasks])


def _task_draws(metrics: Mapping[str, Resampled]) -> Resampled:
    """The task score; it is linear, so one metric at a time shows its weight."""
    weights = {metric: task_score({name: float(name == metric) for name in metrics}) for metric in metrics}
    return weighted_sum([(weights[metric], values) for metric, values in metrics.items()])


def _task_score(scores: SeedScores, number: int) -> float:
    """The task score of the seed at this position."""
    return task_score({metric: run_scores[number].score.value for metric, run_scores in scores.metrics.items()})


def _estimate(values: Sequence[float], bounds: Interval | None, n: int) -> Estimate:
    return Estimate(fmean(values), stdev(values) if len(values) > 1 else None, bounds, len(values), n)


def _values(scores: SeedScores, metric: str) -> list[float]:
    return [run_score.score.value for run_score in scores.metrics[metric]]


def _draw_names(scores: SeedScores) -> list[str]:
    """The names that seed the draws: what was evaluated, wherever it is stored."""
    return [f"{run_score.score.cell}/{run_score.score.task}" for run_score in scores.scores]


def _different_rows(first: RunScore, second: RunScore) -> UserError:
    return UserError(
        f"{first.predictions}: the rows of {cell_in_run(first)} differ from those of {cell_in_run(second)}, although "
        "scores.jsonl says that they are equal. Evaluate both on the same data."
    )
