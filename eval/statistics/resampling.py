"""How sure a score is: resampling of evaluation rows, tests between two arms on the same rows, correction for several tests.

Units are what is resampled: rows, or pairs of rows where a metric is over pairs. Units that were answered alike by all
models in question are one *kind*, and every metric is a function of how many units of each kind there are. So a resample is
one multinomial draw of a few counts, which has the distribution of drawing every single unit and takes a fraction of its
time and memory.

Several training seeds: a unit's score is its mean over the seeds (macro-F1: the mean of each seed's macro-F1 on the same
resample). Intervals and tests are then over units: they say how far a result holds for other rows of the same kind, with
these trained models. How far it holds for other seeds is shown by the spread over seeds beside it.
Source: arXiv 2103.03098 on why the two are to be told apart.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
DRAWS = 10_000
UNITS_PER_COUNT = 8  # a count is drawn in the time of about so many units
WORD = 63  # tosses that one random word holds
AT_ONCE = 2_000_000  # numbers of one block of draws, so that memory stays bounded
CONFIDENCE = 0.95

NO_CLASS = -1  # an answer that could not be read, or that is no label
ROUNDING = 1e-9  # differences below it are none


@dataclass(frozen=True)
class Answers:
    """What one arm got on every unit. `means`: metrics that are means over units, (units,), averaged over the seeds;
    `classes`: the classes it answered, (units, seeds), for macro-F1, where the task has that."""

    means: Mapping[str, Floats]
    classes: Ints | None = None

    def at(self, places: Ints) -> "Answers":
        return Answers(
            {name: values[places] for name, values in self.means.items()},
            None if self.classes is None else self.classes[places],
        )


def generator(*names: object) -> np.random.Generator:
    """A generator of its own for everything that is named: equal names, equal draws."""
    text = "/".join(map(str, names))
    return np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big"))


def scores(answers: Answers, gold: Ints, labels: int, weights: Floats) -> dict[str, Floats]:
    """Every metric, (draws,), of samples that have so many units of each kind: `weights` (draws, kinds)."""
    total = weights.sum(axis=1)
    found = {name: weights @ values / total for name, values in answers.means.items()}
    if answers.classes is not None:
        found["f1_macro"] = _macro_f1(gold, answers.classes, labels, weights)
    return found


def _macro_f1(gold: Ints, answered: Ints, labels: int, weights: Floats) -> Floats:
    """The unweighted mean of the classes' F1 = 2 TP / (answered + gold), 0 for a class of which there is neither, (draws,);
    of several seeds the mean of each one's."""
    is_gold = gold[:, None, None] == np.arange(labels)  # (kinds, 1, labels)
    is_answered = answered[:, :, None] == np.arange(labels)  # (kinds, seeds, labels)
    columns = is_answered.shape[1] * labels
    right = weights @ (is_gold & is_answered).reshape(-1, columns).astype(float)
    both = weights @ (is_gold.astype(float) + is_answered).reshape(-1, columns)
    found: Floats = np.divide(2 * right, both, out=np.zeros_like(right), where=both > 0).mean(axis=1)
    return found


def kinds(arms: Sequence[Answers], gold: Ints) -> tuple[Ints, Ints]:
    """(a unit of each kind, how many units are of it)."""
    columns = [gold.astype(float)]
    for arm in arms:
        columns += list(arm.means.values())
        columns += [] if arm.classes is None else list(arm.classes.T.astype(float))
    _, places, counts = np.unique(np.column_stack(columns), axis=0, return_index=True, return_counts=True)
    return places.astype(np.int64), counts.astype(np.int64)


def bootstrap(
    arms: Sequence[Answers], gold: Ints, labels: int, draws: np.random.Generator, count: int = DRAWS
) -> list[dict[str, Floats]]:
    """Each arm's metrics on `count` resamples of the units, (count,); all arms on the same resamples.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13 (percentile intervals).
    """
    places, counts = kinds(arms, gold)
    shown = [(arm.at(places), gold[places]) for arm in arms]
    found: list[dict[str, list[Floats]]] = [{} for _ in arms]
    for size in _blocks(count, UNITS_PER_COUNT * len(counts)):
        weights = _resampled(counts, draws, size)
        for own, (arm, its_gold) in zip(found, shown, strict=True):
            for name, values in scores(arm, its_gold, labels, weights).items():
                own.setdefault(name, []).append(values)
    return [{name: np.concatenate(parts) for name, parts in own.items()} for own in found]


def exchanged(
    one: Answers, other: Answers, gold: Ints, labels: int, draws: np.random.Generator, count: int = DRAWS
) -> dict[str, Floats]:
    """Differences one - other, (count,), when each unit's answers are exchanged between the arms by the toss of a coin.

    Of a mean this is the permutation test that flips the signs of the units' differences.
    Source: Noreen, Computer-Intensive Methods for Testing Hypotheses (1989); Yeh, arXiv cs/0008005 (approximate randomization).
    """
    places, counts = kinds([one, other], gold)
    both = _joined(one.at(places), other.at(places))
    its_gold = np.concatenate([gold[places], gold[places]])
    found: dict[str, list[Floats]] = {}
    for size in _blocks(count, 2 * len(counts)):
        swapped = _heads(counts, draws, size)
        first = scores(both, its_gold, labels, np.hstack([counts - swapped, swapped]))
        second = scores(both, its_gold, labels, np.hstack([swapped, counts - swapped]))
        for name in first:
            found.setdefault(name, []).append(first[name] - second[name])
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _resampled(counts: Ints, draws: np.random.Generator, size: int) -> Floats:
    """So many resamples, (size, kinds): by drawing units one by one where they are few, else by drawing the counts."""
    total = int(counts.sum())
    if total > UNITS_PER_COUNT * len(counts):
        return draws.multinomial(total, counts / total, size=size).astype(float)
    kind = np.repeat(np.arange(len(counts)), counts)[draws.integers(0, total, (size, total))]
    kind += len(counts) * np.arange(size)[:, None]
    return np.bincount(kind.ravel(), minlength=size * len(counts)).reshape(size, -1).astype(float)


def _heads(counts: Ints, draws: np.random.Generator, size: int) -> Floats:
    """Heads of so many tosses of a coin, (size, kinds): bits of a random word where a word has enough of them."""
    few = counts <= WORD
    found = np.empty((size, len(counts)))
    masks = (np.uint64(1) << counts[few].astype(np.uint64)) - np.uint64(1)
    words = draws.integers(0, 2**64, (size, int(few.sum())), dtype=np.uint64)
    found[:, few] = np.bitwise_count(words & masks)
    found[:, ~few] = draws.binomial(counts[~few], 0.5, (size, int((~few).sum())))
    return found


def _joined(one: Answers, other: Answers) -> Answers:
    """The kinds of both, one after the other."""
    classes = None
    if one.classes is not None and other.classes is not None:
        classes = np.concatenate([one.classes, other.classes])
    return Answers({name: np.concatenate([one.means[name], other.means[name]]) for name in one.means}, classes)


def _blocks(count: int, width: int) -> Iterator[int]:
    """Sizes that add up to `count`, of blocks that fit into memory."""
    size = max(1, AT_ONCE // width)
    yield from [size] * (count // size)
    if count % size:
        yield count % size


def interval(values: Floats, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The percentile interval of resampled values."""
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def p_value(observed: float, null: Floats) -> float:
    """Two-sided; never 0, since the sample itself is one of the arrangements. Source: Phipson and Smyth (2010), 10.2202/1544-6115.1585."""
    return (1 + int(np.sum(np.abs(null) >= abs(observed) - ROUNDING))) / (1 + len(null))


def mcnemar(one: Floats, other: Floats) -> float:
    """The exact two-sided p-value of units that are right (1) or wrong (0) in each of two arms; 1 where none differ.

    Source: McNemar (1947), 10.1007/BF02295996, in its exact form: a binomial test on the units that only one arm got right.
    """
    from scipy.stats import binomtest

    only_one, only_other = int(np.sum(one > other)), int(np.sum(one < other))
    if only_one + only_other == 0:
        return 1.0
    return float(binomtest(only_one, only_one + only_other, 0.5).pvalue)


def is_right_or_wrong(values: Floats) -> bool:
    return bool(np.isin(values, (0.0, 1.0)).all())


def holm(ps: Sequence[float]) -> list[float]:
    """The p-values after Holm's correction, in their order. Source: Holm (1979), www.jstor.org/stable/4615733."""
    found, largest = [0.0] * len(ps), 0.0
    for rank, place in enumerate(sorted(range(len(ps)), key=lambda place: ps[place])):
        largest = max(largest, min(1.0, (len(ps) - rank) * ps[place]))
        found[place] = largest
    return found
