"""The numbers behind a group: estimates of its entries and comparisons of its levels, from scores and predictions."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from statistics import fmean, stdev

import numpy as np

from eval.scoring.metrics import task_score
from eval.scoring.runs import SUPERGLUE, RunScore
from eval.statistics.comparison_groups import ComparisonAxis, ComparisonGroup, SeedScores, place
from eval.statistics.comparisons import AVERAGE, Comparison, Estimate
from eval.statistics.prediction_cache import PredictionCache, Sample, over_seeds
from eval.statistics.resampling import (
    Floats,
    bootstrap,
    exchanged,
    generator,
    holm,
    interval,
    is_right_or_wrong,
    mcnemar,
    p_value,
)
from targen.runtime.errors import UserError

UNTRAINED = "none"
WIDTH = 1.96  # standard errors on each side of a 95 % interval


@dataclass(frozen=True)
class Resampled:
    """Draws of two entries on one task, by metric: both on the same resamples, and their differences under exchange."""

    one: Mapping[str, Floats]
    other: Mapping[str, Floats]
    null: Mapping[str, Floats]


@dataclass(frozen=True)
class Pair:
    """Two levels on one task with their results of the same seeds, and draws where the predictions of both are kept."""

    seeds: tuple[int, ...]
    one: SeedScores
    other: SeedScores
    samples: tuple[tuple[Sample, ...], tuple[Sample, ...]] | None
    drawn: Resampled | None


class ScoreStatistics:
    """Estimates and comparisons; each is computed once."""

    def __init__(self, archive: PredictionCache) -> None:
        self._archive = archive
        self._drawn: dict[tuple[str, ...], dict[str, Floats] | None] = {}

    def estimates(self, one: SeedScores) -> dict[str, Estimate]:
        """Every metric of an entry."""
        drawn = self._draws(one)
        found = {}
        for metric, results in one.metrics.items():
            bounds = None if drawn is None else interval(drawn[metric])
            if (error := one.first.stderr) is not None and len(results) == 1:
                value = results[0].score.value
                bounds = value - WIDTH * error, value + WIDTH * error
            found[metric] = _estimate([result.score.value for result in results], bounds, one.first.n)
        return found

    def average(self, entries: Sequence[SeedScores]) -> Estimate | None:
        """The mean over the tasks of their task scores, seed by seed; None where no seed has them all.

        The tasks are samples of their own, so a draw of the average is the mean of a draw of each.
        """
        seeds = common_seeds(entries)
        if not seeds:
            return None
        own = [with_seeds(one, seeds) for one in entries]
        values = [fmean(_task_score(one, place) for one in own) for place in range(len(seeds))]
        drawn = [found for one in own if (found := self._draws(one)) is not None]
        bounds = interval(_average_draws(drawn)) if len(drawn) == len(own) else None
        return _estimate(values, bounds, sum(one.first.n for one in own))

    def comparisons(self, axis: ComparisonAxis, group: ComparisonGroup) -> list[Comparison]:
        """Every level of the group against its reference: by task and metric, and on average over the tasks."""
        reference = next((level for level in axis.references if level in group.levels), None)
        others = sorted((level for level in group.levels if level != reference), key=lambda level: level == UNTRAINED)
        return [] if reference is None else [one for level in others for one in self._against(group, level, reference)]

    def _against(self, group: ComparisonGroup, level: str, reference: str) -> list[Comparison]:
        pairs: dict[str, Pair] = {}
        for task, own in group.tasks.items():
            if level in own and reference in own and (seeds := common_seeds([own[level], own[reference]])):
                pairs[task] = self._pair(seeds, with_seeds(own[level], seeds), with_seeds(own[reference], seeds))
        with ThreadPoolExecutor() as pool:  # the libraries leave the interpreter to the others while they draw
            pairs = dict(zip(pairs, pool.map(_resampled, pairs.values()), strict=True))
        found = [
            _comparison(task, metric, pair, level, reference)
            for task, pair in pairs.items()
            for metric in pair.one.metrics
        ]
        complete = len(pairs) == len(group.tasks) > 1 and AVERAGE not in pairs and not mixes_fixture(group)
        return [*corrected(found), *(self._on_average(list(pairs.values()), level, reference) if complete else [])]

    def _on_average(self, pairs: Sequence[Pair], level: str, reference: str) -> list[Comparison]:
        """The comparison of the averages; none where the tasks were not all trained with the same seeds."""
        seeds = pairs[0].seeds
        left, right = self.average([pair.one for pair in pairs]), self.average([pair.other for pair in pairs])
        if left is None or right is None or any(pair.seeds != seeds for pair in pairs):
            return []
        p, bounds = None, None
        drawn = [pair.drawn for pair in pairs if pair.drawn is not None]
        if len(drawn) == len(pairs):
            bounds = interval(_average_draws([own.one for own in drawn]) - _average_draws([own.other for own in drawn]))
            p = p_value(left.value - right.value, _average_draws([own.null for own in drawn]))
        return [
            Comparison(
                task=AVERAGE,
                metric=AVERAGE,
                one=level,
                other=reference,
                values=(left.value, right.value),
                bounds=bounds,
                p=p,
                corrected=p,
                n=left.n,
                seeds=len(seeds),
                spread=_larger(left.spread, right.spread),
            )
        ]

    def _pair(self, seeds: tuple[int, ...], one: SeedScores, other: SeedScores) -> Pair:
        left, right = self._answers(one), self._answers(other)
        if left is None or right is None:
            return Pair(seeds, one, other, None, None)
        if left[0] != right[0]:
            raise _other_rows(other.results[0], one.results[0])
        return Pair(seeds, one, other, (left[1], right[1]), None)

    def _draws(self, one: SeedScores) -> dict[str, Floats] | None:
        key = tuple(f"{result.root}/{name}" for result, name in zip(one.results, _names(one), strict=True))
        if key not in self._drawn:
            answers = self._answers(one)
            draws = generator("one", *_names(one))
            found: dict[str, Floats] = {}
            for sample in answers[1] if answers is not None else ():
                found |= bootstrap([sample.answers], sample.gold, sample.labels, draws)[0]
            self._drawn[key] = found if answers is not None else None
        return self._drawn[key]

    def _answers(self, one: SeedScores) -> tuple[str, tuple[Sample, ...]] | None:
        """(which questions, the answers over the seeds); None where those of a seed are not kept."""
        if one.first.benchmark != SUPERGLUE:
            return None
        cells = []
        for number in range(len(one.seeds)):
            answers = self._archive.of([results[number] for results in one.metrics.values()])
            if answers is None:
                return None
            cells.append(answers)
            if answers.asked != cells[0].asked:
                raise _other_rows(one.results[number], one.results[0])
        return cells[0].asked, over_seeds(cells)


def common_seeds(entries: Sequence[SeedScores]) -> tuple[int, ...]:
    """The seeds that all have; a model that is not trained has none of its own, and stands beside each."""
    trained = [one for one in entries if not _stands_alone(one)] or list(entries)
    return tuple(seed for seed in trained[0].seeds if all(seed in one.seeds for one in trained))


def with_seeds(one: SeedScores, seeds: Sequence[int]) -> SeedScores:
    """The entry's results of these seeds; of a model that is not trained the same result for each."""

    def of(results: tuple[RunScore, ...], seed: int) -> RunScore:
        if _stands_alone(one):
            return results[0]
        return next(result for result in results if result.score.seed == seed)

    return SeedScores({metric: tuple(of(results, seed) for seed in seeds) for metric, results in one.metrics.items()})


def _stands_alone(one: SeedScores) -> bool:
    return one.first.arm == UNTRAINED and len({result.score.cell for result in one.results}) == 1


def mixes_fixture(group: ComparisonGroup) -> bool:
    """Whether some tasks were scored on the fixture and others on the original data: then there is no average."""
    return len({one.first.is_fixture for own in group.tasks.values() for one in own.values()}) > 1


def corrected(found: Sequence[Comparison]) -> list[Comparison]:
    """With the p-values after Holm's correction over all that were tested."""
    tested = [one for one in found if one.p is not None]
    ps = iter(holm([one.p for one in tested if one.p is not None]))
    tasks = len({one.task for one in tested})
    return [
        replace(one, corrected=next(ps), tests=len(tested), tasks=tasks) if one.p is not None else one for one in found
    ]


def _comparison(task: str, metric: str, pair: Pair, level: str, reference: str) -> Comparison:
    left, right = _values(pair.one, metric), _values(pair.other, metric)
    p, bounds = None, None
    if pair.drawn is not None and pair.samples is not None:
        p = _p(metric, pair.samples, fmean(left) - fmean(right), pair.drawn.null[metric])
        bounds = interval(pair.drawn.one[metric] - pair.drawn.other[metric])
    first = pair.one.first
    return Comparison(
        task=task,
        metric=metric,
        one=level,
        other=reference,
        values=(fmean(left), fmean(right)),
        bounds=bounds,
        p=p,
        corrected=p,
        n=first.n,
        seeds=len(left),
        spread=_larger(_spread(left), _spread(right)),
        unit="rows" if first.n == first.rows else "queries",
    )


def _resampled(pair: Pair) -> Pair:
    """The pair with its draws."""
    found = Resampled({}, {}, {})
    draws = generator("two", *_names(pair.one), *_names(pair.other))
    for one, other in zip(*pair.samples, strict=True) if pair.samples is not None else ():
        both = bootstrap([one.answers, other.answers], one.gold, one.labels, draws)
        null = exchanged(one.answers, other.answers, one.gold, one.labels, draws)
        found = Resampled({**found.one, **both[0]}, {**found.other, **both[1]}, {**found.null, **null})
    return replace(pair, drawn=found if pair.samples is not None else None)


def _p(metric: str, samples: tuple[Sequence[Sample], Sequence[Sample]], observed: float, null: Floats) -> float:
    """McNemar's exact test where units are right or wrong, else by exchange."""
    for first, second in zip(*samples, strict=True):
        if metric in first.answers.means:
            one, other = first.answers.means[metric], second.answers.means[metric]
            if is_right_or_wrong(one) and is_right_or_wrong(other):
                return mcnemar(one, other)
    return p_value(observed, null)


def _average_draws(tasks: Sequence[Mapping[str, Floats]]) -> Floats:
    """Draws of the average over the tasks, (draws,), from those of each task's metrics."""
    found: Floats = np.mean([_task_draws(own) for own in tasks], axis=0)
    return found


def _task_draws(metrics: Mapping[str, Floats]) -> Floats:
    """The task score of each draw; it is linear, so its weights show on one metric at a time."""
    parts = [
        values * task_score({name: float(name == metric) for name in metrics}) for metric, values in metrics.items()
    ]
    found: Floats = np.sum(parts, axis=0)
    return found


def _task_score(one: SeedScores, place: int) -> float:
    return task_score({metric: results[place].score.value for metric, results in one.metrics.items()})


def _estimate(values: Sequence[float], bounds: tuple[float, float] | None, n: int) -> Estimate:
    return Estimate(fmean(values), _spread(values), bounds, len(values), n)


def _values(one: SeedScores, metric: str) -> list[float]:
    return [result.score.value for result in one.metrics[metric]]


def _spread(values: Sequence[float]) -> float | None:
    return stdev(values) if len(values) > 1 else None


def _larger(one: float | None, other: float | None) -> float | None:
    return max((spread for spread in (one, other) if spread is not None), default=None)


def _names(one: SeedScores) -> list[str]:
    """What the draws are named by: what was evaluated, not where it lies."""
    return [f"{result.score.cell}/{result.score.task}" for result in one.results]


def _other_rows(one: RunScore, other: RunScore) -> UserError:
    return UserError(
        f"{one.predictions}: {place(one)} was asked other rows than {place(other)}, though scores.jsonl calls them equal. "
        "Evaluate both on the same data."
    )
