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
from eval.statistics.comparisons import Comparison, Estimate, uncorrected_comparison
from eval.statistics.resampling import (
    Answers,
    Floats,
    Ints,
    class_counts,
    exchanged_differences,
    generator,
    interval,
    p_value,
)
from eval.statistics.significance import holm_corrected
from eval.study.cells import SCORES, Cell
from eval.study.rows.levels import Level
from eval.study.rows.material import Material

RESAMPLES = 2000
AVERAGE = "average"
MAIN = "accuracy"  # the score that is compared


@dataclass(frozen=True)
class LevelResult:
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


def level_results(
    cells: Sequence[Cell], levels: Mapping[str, Sequence[Level]], materials: Sequence[Material]
) -> list[LevelResult]:
    """All levels of all parts: task by task, then on average where there are several tasks."""
    by_group: dict[tuple[str, str, str], dict[str, list[Cell]]] = defaultdict(lambda: defaultdict(list))
    for cell in cells:
        by_group[cell.part, cell.student, cell.task][cell.level].append(cell)
    by_task = {material.task.name: material for material in materials}
    references = {(level.part, task, level.name): level.reference for task in levels for level in levels[task]}
    results: list[LevelResult] = []
    for (_, _, task), by_level in by_group.items():
        group = _group_results(by_task[task], by_level)
        results += [
            _with_comparison(result, group, references[result.part, task, result.level], by_task[task], by_level)
            for result in group.values()
        ]
    return [*_corrected(results), *_corrected(_averages(results))]


def _group_results(material: Material, by_level: Mapping[str, Sequence[Cell]]) -> dict[str, LevelResult]:
    """The levels of one part, student and task, all on the same resamples."""
    names = [label.name for label in material.task.labels]
    gold = gold_of(material)
    seeds = len(next(iter(by_level.values())))
    draws = generator("study", material.task.name, material.evaluation.hash, seeds)
    rows = draws.multinomial(len(gold), np.full(len(gold), 1 / len(gold)), size=RESAMPLES).astype(float)
    seed_weights = draws.multinomial(seeds, np.full(seeds, 1 / seeds), size=RESAMPLES) / seeds  # summing to 1
    group = {}
    for name, cells in by_level.items():
        counts = class_counts(gold, predicted_of(cells, names), len(names), rows)
        by_seed = {
            "accuracy": counts.right.sum(axis=-1) / len(gold),
            "f1_macro": _f1().of_counts(counts),
        }
        resampled: dict[str, Floats] = {score: (values * seed_weights).sum(axis=1) for score, values in by_seed.items()}
        estimates = {
            score: _estimate([getattr(cell, score) for cell in cells], resampled[score], len(gold)) for score in SCORES
        }
        sources = {source: fmean(cell.sources[source] for cell in cells) for source in cells[0].sources}
        first = cells[0]
        group[name] = LevelResult(first.part, name, first.task, first.student, sources, estimates, resampled)
    return group


def _f1() -> ClassMetric:
    metric = METRICS["f1_macro"]
    assert isinstance(metric, ClassMetric)
    return metric


def gold_of(material: Material) -> Ints:
    """The right label of each evaluation row, by number."""
    return np.array([question.gold[0] for question in material.questions], dtype=np.int64)


def predicted_of(cells: Sequence[Cell], names: Sequence[str]) -> Ints:
    """The answers of the seeds by number, (rows, seeds)."""
    number = {name: index for index, name in enumerate(names)}
    return np.array([[number[answer] for answer in cell.predictions] for cell in cells], dtype=np.int64).T


def _estimate(values: Sequence[float], resampled: Floats, rows: int) -> Estimate:
    spread = stdev(values) if len(values) > 1 else None
    return Estimate(fmean(values), spread, interval(resampled), len(values), rows)


def _with_comparison(
    result: LevelResult,
    others: Mapping[str, LevelResult],
    reference: str | None,
    material: Material,
    by_level: Mapping[str, Sequence[Cell]],
) -> LevelResult:
    """The level with its comparison, if it has a reference."""
    if reference is None or reference not in others:
        return result
    names, gold = [label.name for label in material.task.labels], gold_of(material)

    def answers(level: str) -> Answers:
        return Answers({MAIN: (predicted_of(by_level[level], names) == gold[:, None]).mean(axis=1)})

    draws = generator("study", "exchange", material.task.name, result.part, result.student, result.level)
    null = exchanged_differences(answers(result.level), answers(reference), gold, len(names), draws)[MAIN]
    return _compared_with(result, others[reference], null)


def _compared_with(result: LevelResult, reference: LevelResult, null: Floats) -> LevelResult:
    first, second = result.estimates[MAIN], reference.estimates[MAIN]
    p, bounds = p_value(first.value - second.value, null), interval(result.resampled[MAIN] - reference.resampled[MAIN])
    comparison = uncorrected_comparison(result.task, MAIN, (result.level, reference.level), (first, second), bounds, p)
    return replace(result, comparison=comparison, null=null)


def _corrected(results: Sequence[LevelResult]) -> list[LevelResult]:
    """The results, with p-values after Holm's correction over the comparisons of each part."""
    by_part: dict[str, list[Comparison]] = defaultdict(list)
    for result in results:
        by_part[result.part] += [result.comparison] if result.comparison is not None else []
    remaining = {part: iter(holm_corrected(comparisons)) for part, comparisons in by_part.items()}
    return [
        result if result.comparison is None else replace(result, comparison=next(remaining[result.part]))
        for result in results
    ]


def _averages(results: Sequence[LevelResult]) -> list[LevelResult]:
    """The mean of every level over the tasks that have it, if there are several; the tasks are independent."""
    by_level: dict[tuple[str, str, str], list[LevelResult]] = defaultdict(list)
    for result in results:
        by_level[result.part, result.student, result.level].append(result)
    averages = []
    for (part, student, _), members in by_level.items():
        if len(members) < 2:
            continue
        mean = _average(members)
        by_task = {result.task: result.comparison.reference for result in members if result.comparison is not None}
        references = set(by_task.values())
        if len(by_task) == len(members) and len(references) == 1:
            same_tasks = [result for result in by_level[part, student, references.pop()] if result.task in by_task]
            null: Floats = np.mean([result.null for result in members if result.null is not None], axis=0)
            mean = _compared_with(mean, _average(same_tasks), null)
        averages.append(mean)
    return averages


def _average(members: Sequence[LevelResult]) -> LevelResult:
    first = members[0]
    resampled: dict[str, Floats] = {}
    for score in SCORES:
        resampled[score] = np.mean([result.resampled[score] for result in members], axis=0)
    estimates = {
        score: Estimate(
            fmean(result.estimates[score].value for result in members),
            None,
            interval(resampled[score]),
            first.estimates[score].seeds,
            sum(result.estimates[score].n for result in members),
        )
        for score in SCORES
    }
    sources = {source: fmean(result.sources.get(source, 0.0) for result in members) for source in first.sources}
    name = f"{AVERAGE} of {len(members)} tasks"
    return LevelResult(first.part, first.level, name, first.student, sources, estimates, resampled, len(members))
