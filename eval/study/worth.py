"""How many original rows a synthetic row is worth: where the curve of original rows reaches the score of synthetic ones."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eval.statistics.comparisons import Interval
from eval.statistics.resampling import Floats
from eval.study.rows.amounts import sized
from eval.study.statistics import MAIN, Scored


def crossing(sizes: Sequence[int], scores: Floats, target: Floats) -> Floats:
    """The size at which a curve first reaches the target, per resample: `scores` (resamples, sizes), linear in log size.

    0: it is reached at the smallest size already; infinity: not even at the largest.
    """
    logs = np.log(np.asarray(sizes, dtype=float))
    found = np.full(len(target), np.inf)
    for right in range(len(sizes) - 1, 0, -1):
        low, high = scores[:, right - 1], scores[:, right]
        share = np.clip((target - low) / np.where(high == low, 1.0, high - low), 0.0, 1.0)
        at = np.exp(logs[right - 1] + share * (logs[right] - logs[right - 1]))
        found = np.where(
            (high >= target) | (low >= target), np.where(low >= target, np.exp(logs[right - 1]), at), found
        )
    smallest: Floats = np.where(scores[:, 0] >= target, 0.0, found)
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


def worths(found: Sequence[Scored], reference: str, original: str, sizes: Sequence[int], most: int) -> list[Worth]:
    """By task and student, and on average, from the levels of the part `quantity`; of the reference at most so many rows."""
    by_group: dict[tuple[str, str], dict[str, Scored]] = defaultdict(dict)
    for one in found:
        by_group[one.task, one.student][one.level] = one
    result = []
    for (task, student), by_level in by_group.items():
        measured = [size for size in sizes if sized(original, size) in by_level]
        made = [size for size in sizes if size <= most and sized(reference, size) in by_level]
        if not made or len(measured) < 2:
            continue
        rows = made[-1]
        curve = [by_level[sized(original, size)] for size in measured]
        target = by_level[sized(reference, rows)]
        values = np.array([[one.estimates[MAIN].value for one in curve]])
        value = crossing(measured, values, np.array([target.estimates[MAIN].value]))[0] / rows
        draws = np.sort(
            crossing(measured, np.stack([one.resampled[MAIN] for one in curve], axis=1), target.resampled[MAIN]) / rows
        )
        low, high = (float(np.quantile(draws, share, method="nearest")) for share in (0.025, 0.975))
        result.append(Worth(task, student, rows, measured[0], measured[-1], float(value), (low, high)))
    return result
