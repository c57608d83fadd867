"""Intervals of 95 %: what is a mean over rows, what is a share, and what only a whole set has.

- A mean over rows, or a ratio of two sums: percentile bootstrap over instances.
- A share of rows: Wilson's interval; of two, Newcombe's difference (1998, method 10). A bootstrap of a share of 0 or 1
  would have no width.
- A measure of a set (vocabulary, Self-BLEU, Vendi score): a row drawn twice repeats itself, so that a bootstrap with
  replacement finds too little diversity. Instead half of the instances are drawn without replacement, again and again. The
  spread of such halves about their mean estimates that of a whole sample, for the variance of a mean over half of n is
  twice as large and the finite set takes the half of it away. Source: J. Shao and C. F. J. Wu, A general theory for
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
FEWEST = 4  # instances of which an interval is given
RESAMPLES = 1000  # of a mean over rows
AT_ONCE = 2_000_000  # numbers drawn at once


@dataclass(frozen=True)
class Sampled:
    """A number of one set, and the same number of its resamples; none: there are too few rows."""

    value: float
    resampled: Numbers
    size: int  # rows, or what else it was taken on

    @property
    def interval(self) -> Interval:
        return _around(self.value, self.resampled)


def numpy_rng(draws: Random) -> np.random.Generator:
    return np.random.default_rng(draws.getrandbits(64))


def halves(instances: int, replicates: int, draws: Random) -> list[NDArray[np.int64]]:
    """Orders of all instances, one a replicate: the first half of each is a draw without replacement."""
    if instances < FEWEST:
        return []
    own = numpy_rng(draws)
    return [own.permutation(instances) for _ in range(replicates)]


def of_halves(value: float, found: Sequence[float], size: int, base: float | None = 0.0) -> Sampled:
    """A measure of a whole set, with those of its halves moved to its place.

    A smaller set has other values: fewer words, fewer repetitions. How far these lie from `base`, where nothing is counted
    yet, is stretched in proportion, and their spread with it; without a base they are only shifted.
    """
    halved = np.array(found, dtype=np.float64)
    if not len(halved):
        return Sampled(value, halved, size)
    mean = float(halved.mean())
    if base is None or mean == base:
        return Sampled(value, halved - mean + value, size)
    return Sampled(value, base + (halved - base) * (value - base) / (mean - base), size)


def ratio(numerators: Numbers, denominators: Numbers | None, draws: Random) -> Sampled | None:
    """Sum over sum, with its bootstrap over instances; None where the denominators are all 0.

    Without denominators: the mean over the instances.
    """
    below = np.ones(len(numerators)) if denominators is None else denominators
    if not below.sum():
        return None
    value, count = float(numerators.sum() / below.sum()), len(numerators)
    if count < FEWEST:
        return Sampled(value, np.empty(0), int(below.sum()))
    own, found = numpy_rng(draws), []
    for start in range(0, RESAMPLES, step := max(1, AT_ONCE // count)):
        places = own.integers(0, count, (min(step, RESAMPLES - start), count))
        under = below[places].sum(axis=1)
        found.append((numerators[places].sum(axis=1) / np.maximum(under, 1e-12))[under > 0])
    return Sampled(value, np.concatenate(found), int(below.sum()))


def wilson(hits: int, count: int) -> Interval | None:
    """A share with Wilson's interval. None of nothing."""
    if count == 0:
        return None
    found = binomtest(hits, count).proportion_ci(LEVEL, method="wilson")
    return Interval(hits / count, float(found.low), float(found.high))


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
    sides: Mapping[str, Sampled | None],
    note: str = "",
    theirs: bool = False,
) -> Measure:
    """The numbers of both sets side by side."""
    a, b = (sides.get(side) for side in SIDES)
    both = None
    if a is not None and b is not None:
        pairs = min(len(a.resampled), len(b.resampled))
        both = _around(b.value - a.value, b.resampled[:pairs] - a.resampled[:pairs])
    sizes = {side: found.size for side in SIDES if (found := sides.get(side)) is not None}
    return Measure(
        part,
        name,
        title,
        unit,
        None if a is None else a.interval,
        None if b is None else b.interval,
        both,
        sizes,
        note,
        theirs,
    )


def shares(part: str, name: str, title: str, sides: Mapping[str, tuple[int, int] | None], note: str = "") -> Measure:
    """Shares (hits of so many) of both sets side by side."""
    given = {side: wilson(*counts) for side in SIDES if (counts := sides.get(side)) is not None}
    a, b = given.get("a"), given.get("b")
    sizes = {side: counts[1] for side in SIDES if (counts := sides.get(side)) is not None}
    return Measure(part, name, title, "share", a, b, newcombe(a, b) if a and b else None, sizes, note)


def newcombe(a: Interval, b: Interval) -> Interval:
    """The difference b - a of two shares. Source: R. G. Newcombe, Statistics in Medicine 17 (1998), method 10."""
    difference = b.value - a.value
    below = sqrt((b.value - (b.low or 0.0)) ** 2 + ((a.high or 0.0) - a.value) ** 2)
    above = sqrt(((b.high or 0.0) - b.value) ** 2 + (a.value - (a.low or 0.0)) ** 2)
    return Interval(difference, difference - below, difference + above)


def over_halves(orders: Sequence[NDArray[np.int64]], take: Callable[[NDArray[np.int64]], float]) -> list[float]:
    """`take` of the first half of each order."""
    return [take(order[: len(order) // 2]) for order in orders]
