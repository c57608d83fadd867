"""Scores of levels with their intervals, and paired comparisons.

A resample draws evaluation rows and seeds, both with replacement; all levels of a part and task are scored on the same
resamples. p is that of a paired permutation test over the evaluation rows, with the mean over the seeds as the score of a row, and
is corrected by Holm's method over all comparisons of a part.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev

import numpy as np

from eval.scoring.metric_kinds import ClassMetric
from eval.scoring.metrics import METRICS
from eval.statistics.comparisons import Comparison, Estimate, compared
from eval.statistics.resampling import Answers, Floats, Ints, class_counts, exchanged, generator, interval, p_value
from eval.statistics.significance import corrected
from eval.study.cells import SCORES, Cell
from eval.study.rows.levels import Level
from eval.study.rows.material import Material

RESAMPLES = 2000
AVERAGE = "average"
MAIN = "accuracy"  # the score that is compared


@dataclass(frozen=True)
class Scored:
    """A level of a part with one student on one task, or on average over the tasks: its estimates and resamples by score."""

    part: str
    level: str
    task: str
    student: str
    sources: Mapping[str, float]  # rows by source, on average over the seeds
    estimates: Mapping[str, Estimate]
    resampled: Mapping[str, Floats]
    tasks: int = 1
    comparison: Comparison | None = None
    null: Floats | None = None  # differences under exchange, for the average


def scored(cells: Sequence[Cell], levels: Mapping[str, Sequence[Level]], materials: Sequence[Material]) -> list[Scored]:
    """All levels of all parts: task by task, then on average where there are several tasks."""
    by_group: dict[tuple[str, str, str], dict[str, list[Cell]]] = defaultdict(lambda: defaultdict(list))
    for cell in cells:
        by_group[cell.part, cell.student, cell.task][cell.level].append(cell)
    given = {material.task.name: material for material in materials}
    references = {(level.part, task, level.name): level.reference for task in levels for level in levels[task]}
    found: list[Scored] = []
    for (_, _, task), by_level in by_group.items():
        of_group = _of_group(given[task], by_level)
        found += [
            _compared(one, of_group, references[one.part, task, one.level], given[task], by_level)
            for one in of_group.values()
        ]
    return [*_corrected(found), *_corrected(_averages(found))]


def _of_group(given: Material, by_level: Mapping[str, Sequence[Cell]]) -> dict[str, Scored]:
    """The levels of one part, student and task, all on the same resamples."""
    names = [label.name for label in given.task.labels]
    gold = gold_of(given)
    seeds = len(next(iter(by_level.values())))
    draws = generator("study", given.task.name, given.evaluation.hash, seeds)
    rows = draws.multinomial(len(gold), np.full(len(gold), 1 / len(gold)), size=RESAMPLES).astype(float)
    times = draws.multinomial(seeds, np.full(seeds, 1 / seeds), size=RESAMPLES) / seeds  # of each seed, summing to 1
    found = {}
    for name, cells in by_level.items():
        counts = class_counts(gold, predicted_of(cells, names), len(names), rows)
        by_seed = {
            "accuracy": counts.right.sum(axis=-1) / len(gold),
            "f1_macro": _f1().of_counts(counts),
        }
        resampled: dict[str, Floats] = {score: (values * times).sum(axis=1) for score, values in by_seed.items()}
        estimates = {
            score: _estimate([getattr(cell, score) for cell in cells], resampled[score], len(gold)) for score in SCORES
        }
        sources = {source: fmean(cell.sources[source] for cell in cells) for source in cells[0].sources}
        first = cells[0]
        found[name] = Scored(first.part, name, first.task, first.student, sources, estimates, resampled)
    return found


def _f1() -> ClassMetric:
    metric = METRICS["f1_macro"]
    assert isinstance(metric, ClassMetric)
    return metric


def gold_of(given: Material) -> Ints:
    """The right label of each evaluation row, by number."""
    return np.array([asked.gold[0] for asked in given.asked], dtype=np.int64)


def predicted_of(cells: Sequence[Cell], names: Sequence[str]) -> Ints:
    """The answers of the seeds by number, (rows, seeds)."""
    number = {name: index for index, name in enumerate(names)}
    return np.array([[number[answer] for answer in cell.predictions] for cell in cells], dtype=np.int64).T


def _estimate(values: Sequence[float], resampled: Floats, rows: int) -> Estimate:
    spread = stdev(values) if len(values) > 1 else None
    return Estimate(fmean(values), spread, interval(resampled), len(values), rows)


def _compared(
    one: Scored,
    others: Mapping[str, Scored],
    reference: str | None,
    given: Material,
    by_level: Mapping[str, Sequence[Cell]],
) -> Scored:
    """The level with its comparison, if it has a reference."""
    if reference is None or reference not in others:
        return one
    names, gold = [label.name for label in given.task.labels], gold_of(given)

    def answers(level: str) -> Answers:
        return Answers({MAIN: (predicted_of(by_level[level], names) == gold[:, None]).mean(axis=1)})

    draws = generator("study", "exchange", given.task.name, one.part, one.student, one.level)
    null = exchanged(answers(one.level), answers(reference), gold, len(names), draws)[MAIN]
    return _against(one, others[reference], null)


def _against(one: Scored, other: Scored, null: Floats) -> Scored:
    first, second = one.estimates[MAIN], other.estimates[MAIN]
    p, bounds = p_value(first.value - second.value, null), interval(one.resampled[MAIN] - other.resampled[MAIN])
    comparison = compared(one.task, MAIN, (one.level, other.level), (first, second), bounds, p)
    return replace(one, comparison=comparison, null=null)


def _corrected(found: Sequence[Scored]) -> list[Scored]:
    """The same with p-values after Holm's correction over the comparisons of each part."""
    result = list(found)
    for part in dict.fromkeys(one.part for one in found):
        places = [place for place, one in enumerate(found) if one.part == part and one.comparison is not None]
        comparisons = corrected([one.comparison for place in places if (one := found[place]).comparison is not None])
        for place, comparison in zip(places, comparisons, strict=True):
            result[place] = replace(found[place], comparison=comparison)
    return result


def _averages(found: Sequence[Scored]) -> list[Scored]:
    """The mean of every level over the tasks that have it, if there are several; the tasks are independent."""
    by_level: dict[tuple[str, str, str], list[Scored]] = defaultdict(list)
    for one in found:
        by_level[one.part, one.student, one.level].append(one)
    result = []
    for (part, student, _), members in by_level.items():
        if len(members) < 2:
            continue
        mean = _average(members)
        compared = {one.task: one.comparison.reference for one in members if one.comparison is not None}
        references = set(compared.values())
        if len(compared) == len(members) and len(references) == 1:
            others = [one for one in by_level[part, student, references.pop()] if one.task in compared]
            null: Floats = np.mean([one.null for one in members if one.null is not None], axis=0)
            mean = _against(mean, _average(others), null)
        result.append(mean)
    return result


def _average(members: Sequence[Scored]) -> Scored:
    first = members[0]
    resampled: dict[str, Floats] = {}
    for score in SCORES:
        resampled[score] = np.mean([one.resampled[score] for one in members], axis=0)
    estimates = {
        score: Estimate(
            fmean(one.estimates[score].value for one in members),
            None,
            interval(resampled[score]),
            first.estimates[score].seeds,
            sum(one.estimates[score].n for one in members),
        )
        for score in SCORES
    }
    sources = {source: fmean(one.sources.get(source, 0.0) for one in members) for source in first.sources}
    name = f"{AVERAGE} of {len(members)} tasks"
    return Scored(first.part, first.level, name, first.student, sources, estimates, resampled, len(members))
