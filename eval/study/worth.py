"""How many original rows a synthetic row is worth: where the curve of original rows reaches the score of synthetic ones."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eval.statistics.comparisons import Interval
from eval.statistics.resampling import Floats
from eval.study.rows.amounts import size_level
from eval.study.statistics import MAIN, LevelResult


def crossing(sizes: Sequence[int], scores: Floats, target: Floats) -> Floats:
    """The size at which a curve first reaches the target, per resample: `scores` (resamples, sizes), linear in log size.

    0: it is reached at the smallest size already; infinity: not even at the largest.
    """
    logs = np.log(np.asarray(sizes, dtype=float))
    reached = np.full(len(target), np.inf)
    for right in range(len(sizes) - 1, 0, -1):
        low, high = scores[:, right - 1], scores[:, right]
        share = np.clip((target - low) / np.where(high == low, 1.0, high - low), 0.0, 1.0)
        between = np.exp(logs[right - 1] + share * (logs[right] - logs[right - 1]))
        at = np.where(low >= target, np.exp(logs[right - 1]), between)
        reached = np.where((high >= target) | (low >= target), at, reached)
    smallest: Floats = np.where(scores[:, 0] >= target, 0.0, reached)
    return smallest


@dataclass(frozen=True)
class Worth:
    """How many original rows a row of the reference is worth: `value` with its interval, 0 or infinity beyond the sizes."""

    task: str
    student: str
    rows: int  # of the reference
    smallest: int  # sizes of the curve
    largest: int
    value: float
    bounds: Interval


def worths(
    results: Sequence[LevelResult], reference: str, original: str, sizes: Sequence[int], most: int
) -> list[Worth]:
    """By task and student, and on average, from the levels of the part `quantity`; of the reference at most so many rows."""
    by_group: dict[tuple[str, str], dict[str, LevelResult]] = defaultdict(dict)
    for result in results:
        by_group[result.task, result.student][result.level] = result
    output = []
    for (task, student), by_level in by_group.items():
        curve_sizes = [size for size in sizes if size_level(original, size) in by_level]
        reference_sizes = [size for size in sizes if size <= most and size_level(reference, size) in by_level]
        if not reference_sizes or len(curve_sizes) < 2:
            continue
        rows = reference_sizes[-1]
        curve = [by_level[size_level(original, size)] for size in curve_sizes]
        target = by_level[size_level(reference, rows)]
        values = np.array([[result.estimates[MAIN].value for result in curve]])
        value = crossing(curve_sizes, values, np.array([target.estimates[MAIN].value]))[0] / rows
        resampled = np.stack([result.resampled[MAIN] for result in curve], axis=1)
        draws = np.sort(crossing(curve_sizes, resampled, target.resampled[MAIN]) / rows)
        low, high = (float(np.quantile(draws, share, method="nearest")) for share in (0.025, 0.975))
        output.append(Worth(task, student, rows, curve_sizes[0], curve_sizes[-1], float(value), (low, high)))
    return output
