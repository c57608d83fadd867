"""95 % intervals of means over rows, of shares, and of measures that only a whole set has.

- A mean over rows, or a ratio of two sums: percentile bootstrap over instances.
- A share of rows: Wilson's interval; the difference of two: Newcombe (1998, method 10). A bootstrap of a share of 0 or 1
  would have no width.
- A measure of a set (vocabulary, Self-BLEU, Vendi score): a row drawn twice repeats itself, so a bootstrap with
  replacement underestimates diversity. Instead, half of the instances are drawn without replacement, again and again. The
  spread of these halves around their mean estimates that of a whole sample: the variance of a mean over n / 2 is twice as
  large, and drawing from a finite set halves it again. Source: J. Shao and C. F. J. Wu, A general theory for
  jackknife variance estimation (1989), the delete-d jackknife with d = n / 2.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from random import Random

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from eval.analysis.results import SIDES, Interval, Measure

Numbers = NDArray[np.float64]
LEVEL = 0.95
BOUNDS = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
MIN_INSTANCES = 4  # for an interval
RESAMPLES = 1000  # of a mean over rows
BATCH = 2_000_000  # random numbers drawn at once


@dataclass(frozen=True)
class Estimate:
    """A number of one set, and the same number of each resample; no resamples if there are too few rows."""

    value: float
    resampled: Numbers
    size: int  # n: rows, instances or words

    @property
    def interval(self) -> Interval:
        """Value, lower and upper bound."""
        return _around(self.value, self.resampled)


def numpy_rng(draws: Random) -> np.random.Generator:
    """A NumPy generator seeded from `draws`."""
    return np.random.default_rng(draws.getrandbits(64))


def half_samples(instances: int, replicates: int, draws: Random) -> list[NDArray[np.int64]]:
    """A random order of all instances per replicate; its first half is a draw without replacement."""
    if instances < MIN_INSTANCES:
        return []
    generator = numpy_rng(draws)
    return [generator.permutation(instances) for _ in range(replicates)]


def estimate_from_halves(value: float, half_values: Sequence[float], size: int, base: float | None = 0.0) -> Estimate:
    """A measure of a whole set, with the values of its halves rescaled to the whole.

    A smaller set has different values: fewer words, fewer repetitions. Their distance from `base`, the value of an empty
    set, is scaled so that their mean is the value of the whole; without a base they are only shifted.
    """
    halved = np.array(half_values, dtype=np.float64)
    if not len(halved):
        return Estimate(value, halved, size)
    mean = float(halved.mean())
    if base is None or mean == base:
        return Estimate(value, halved - mean + value, size)
    return Estimate(value, base + (halved - base) * (value - base) / (mean - base), size)


def ratio(numerators: Numbers, denominators: Numbers | None, draws: Random) -> Estimate | None:
    """Sum over sum, with its bootstrap over instances; None if the denominators are all 0.

    Without denominators: the mean over the instances.
    """
    weights = np.ones(len(numerators)) if denominators is None else denominators
    if not weights.sum():
        return None
    value, count = float(numerators.sum() / weights.sum()), len(numerators)
    if count < MIN_INSTANCES:
        return Estimate(value, np.empty(0), int(weights.sum()))
    generator, resampled = numpy_rng(draws), []
    for start in range(0, RESAMPLES, step := max(1, BATCH // count)):
        indices = generator.integers(0, count, (min(step, RESAMPLES - start), count))
        sums = weights[indices].sum(axis=1)
        resampled.append((numerators[indices].sum(axis=1) / np.maximum(sums, 1e-12))[sums > 0])
    return Estimate(value, np.concatenate(resampled), int(weights.sum()))


def wilson(hits: int, count: int) -> Interval | None:
    """The share hits / count with Wilson's interval; None if count is 0.

    Source: E. B. Wilson, Journal of the American Statistical Association 22 (1927).
    """
    if count == 0:
        return None
    bounds = binomtest(hits, count).proportion_ci(LEVEL, method="wilson")
    return Interval(hits / count, float(bounds.low), float(bounds.high))


def _around(value: float, resampled: Numbers) -> Interval:
    if not len(resampled):
        return Interval(value)
    low, high = np.quantile(resampled, BOUNDS)
    return Interval(value, float(low), float(high))


def measure(
    part: str,
    name: str,
    title: str,
    unit: str,
    sides: Mapping[str, Estimate | None],
    note: str = "",
    theirs: bool = False,
) -> Measure:
    """The estimates of both sets, and their difference b - a."""
    a, b = (sides.get(side) for side in SIDES)
    difference = None
    if a is not None and b is not None:
        count = min(len(a.resampled), len(b.resampled))
        difference = _around(b.value - a.value, b.resampled[:count] - a.resampled[:count])
    sizes = {side: estimate.size for side in SIDES if (estimate := sides.get(side)) is not None}
    first, second = (None if estimate is None else estimate.interval for estimate in (a, b))
    return Measure(part, name, title, unit, first, second, difference, sizes, note, theirs)


def share_measure(
    part: str, name: str, title: str, sides: Mapping[str, tuple[int, int] | None], note: str = ""
) -> Measure:
    """The shares (hits, count) of both sets, and their difference b - a."""
    intervals = {side: wilson(*counts) for side in SIDES if (counts := sides.get(side)) is not None}
    a, b = intervals.get("a"), intervals.get("b")
    sizes = {side: counts[1] for side in SIDES if (counts := sides.get(side)) is not None}
    return Measure(part, name, title, "share", a, b, newcombe(a, b) if a and b else None, sizes, note)


def newcombe(a: Interval, b: Interval) -> Interval:
    """The difference b - a of two shares. Source: R. G. Newcombe, Statistics in Medicine 17 (1998), method 10."""
    difference = b.value - a.value
    below = sqrt((b.value - (b.low or 0.0)) ** 2 + ((a.high or 0.0) - a.value) ** 2)
    above = sqrt(((b.high or 0.0) - b.value) ** 2 + (a.value - (a.low or 0.0)) ** 2)
    return Interval(difference, difference - below, difference + above)


def values_of_halves(orders: Sequence[NDArray[np.int64]], take: Callable[[NDArray[np.int64]], float]) -> list[float]:
    """`take` of the first half of each order."""
    return [take(order[: len(order) // 2]) for order in orders]
