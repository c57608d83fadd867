"""95 % intervals of resampled scores, also where every resample gives the same value.

If all answers are right, all are wrong, or two arms agree on every row, a bootstrap has no width: it knows only kinds of
units that the sample has. Wilson's interval of n right answers of n ends at the share that remains if z² = 3.84 wrong ones
are added. The same is done here for every metric: so many units of every kind that is possible are added, and the lowest
and highest values are the bounds. For two arms that agree they are those of Tango's score interval.

Bounds of independent tasks are averaged by their squares. Source: Wilson (1927), 10.1080/01621459.1927.10502953; Tango (1998),
Statistics in Medicine 17; Zou and Donner (2008), Statistics in Medicine 27 (MOVER).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import hypot

import numpy as np

from eval.scoring.metrics import METRICS
from eval.statistics.comparisons import Interval
from eval.statistics.resampling import NO_CLASS, ROUNDING, Answers, Floats, Ints, interval, scores, unit_kinds

STANDARD_ERRORS = 1.959964  # on each side of a 95 % interval
UNSEEN = STANDARD_ERRORS**2  # units that a sample may lack


@dataclass(frozen=True)
class Resampled:
    """A number of every resample, (draws,); where they are all equal, how far unseen units could take it down and up."""

    values: Floats
    below: float = 0.0
    above: float = 0.0

    def interval(self, value: float) -> Interval:
        """Around the value of the sample itself."""
        low, high = interval(self.values)
        if not self.below and not self.above:
            return low, high
        return value - hypot(value - low, self.below), value + hypot(high - value, self.above)


def resampled_metrics(
    arms: Sequence[Answers], gold: Ints, labels: int, draws: Mapping[str, Floats]
) -> dict[str, Resampled]:
    """The draws of every metric of one arm, or of its difference between two."""
    by_metric = {name: Resampled(values) for name, values in draws.items()}
    flat = [name for name, values in draws.items() if np.ptp(interval(values)) <= ROUNDING]
    unseen_bounds = _unseen_bounds(arms, gold, labels) if flat else {}
    for name in flat:
        value, (low, high) = interval(draws[name])[0], unseen_bounds[name]
        by_metric[name] = replace(by_metric[name], below=max(0.0, value - low), above=max(0.0, high - value))
    return by_metric


def _unseen_bounds(arms: Sequence[Answers], gold: Ints, labels: int) -> dict[str, Interval]:
    """The lowest and the highest value of every metric if the sample had UNSEEN more units of one kind."""
    positions, counts = unit_kinds(arms, gold)
    weights = np.append(counts.astype(float), UNSEEN)[None]
    values_by_name: dict[str, list[float]] = {}
    for unit_gold, answers in _unseen_units(len(arms), labels):
        golds = np.append(gold[positions], unit_gold)
        first, *second = [
            scores(_with_unit(arm.at(positions), *answer), golds, labels, weights)
            for arm, answer in zip(arms, answers, strict=True)
        ]
        for name, values in first.items():
            values_by_name.setdefault(name, []).append(float(values[0] - sum(other[name][0] for other in second)))
    return {name: (min(values), max(values)) for name, values in values_by_name.items()}


def _unseen_units(arms: int, labels: int) -> Iterator[tuple[int, list[tuple[bool, int]]]]:
    """(gold class, for each arm whether it is right and its class): one arm right or wrong, of two arms one of each."""
    rights = ([True], [False]) if arms == 1 else ([True, False], [False, True])
    for gold in range(labels) or (NO_CLASS,):
        for wrong in (NO_CLASS, *(label for label in range(labels) if label != gold)):
            for right in rights:
                yield gold, [(is_right, gold if is_right else wrong) for is_right in right]


def _with_unit(arm: Answers, is_right: bool, answered_class: int) -> Answers:
    """The answers with one more unit, which all seeds answer alike."""
    means: dict[str, Floats] = {
        name: np.append(values, METRICS[name].highest if is_right else METRICS[name].lowest)
        for name, values in arm.means.items()
    }
    classes = None if arm.classes is None else np.vstack([arm.classes, np.full_like(arm.classes[:1], answered_class)])
    shares: dict[str, Floats] = {name: np.append(values, 1.0) for name, values in arm.shares.items()}
    return replace(arm, means=means, classes=classes, shares=shares)


def weighted_sum(parts: Sequence[tuple[float, Resampled]]) -> Resampled:
    """Of metrics of the same rows: what unseen units can do to each adds up."""
    values: Floats = np.sum([weight * part.values for weight, part in parts], axis=0)
    below, above = (sum(weight * getattr(part, side) for weight, part in parts) for side in ("below", "above"))
    return Resampled(values, below, above)


def mean_of_tasks(tasks: Sequence[Resampled]) -> Resampled:
    """The mean over tasks, which are independent."""
    values: Floats = np.mean([task.values for task in tasks], axis=0)
    below, above = (hypot(*(getattr(task, side) for task in tasks)) / len(tasks) for side in ("below", "above"))
    return Resampled(values, below, above)


def interval_from_error(value: float, error: float, n: int) -> Interval:
    """The interval of a mean from 0 to 1 over n rows; Wilson's if all rows have the same value, so that the error is 0."""
    if error < ROUNDING:
        return value * n / (n + UNSEEN), (value * n + UNSEEN) / (n + UNSEEN)
    return max(0.0, value - STANDARD_ERRORS * error), min(1.0, value + STANDARD_ERRORS * error)
