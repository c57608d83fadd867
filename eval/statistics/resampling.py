"""Uncertainty of scores: resampling of evaluation rows, tests between two arms on the same rows, correction for several tests.

Units are what is resampled: rows, or pairs of rows if a metric is over pairs. Rows that are not independent of each other, as the
answers about one passage, are resampled and exchanged together, as a cluster. Other units that all models in question answered
alike are one *kind*, and every metric is a function of the number of units of each kind. So a resample is one multinomial
draw of a few counts: it has the same distribution as drawing every single unit, in a fraction of the time and memory.

Several training seeds: a unit's score is its mean over the seeds (metrics of classes: the mean of each seed's value on the
same resample). Intervals and tests are over units: they say whether a result holds for other rows of the same kind, with
these trained models. The spread over seeds, shown beside them, says whether it holds for other seeds.
Source: arXiv 2103.03098 on why the two differ.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from eval.scoring.metric_kinds import ClassCounts

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
DRAWS = 10_000
UNITS_PER_COUNT = 8  # drawing a count takes about as long as drawing this many units
WORD = 63  # coin tosses that one random word holds
NUMBERS_AT_ONCE = 2_000_000  # of one block of draws, so that memory stays bounded
CONFIDENCE = 0.95

NO_CLASS = -1  # an unreadable answer, or one that is not a label
ROUNDING = 1e-9  # smaller differences count as 0


@dataclass(frozen=True)
class Answers:
    """The results of one arm on every unit. `means`: metrics that are means over units, (units,), averaged over the seeds;
    `classes`: the classes it answered, (units, seeds), if the task has metrics of classes, which are `of_counts`;
    `shares`: what a unit counts in a mean over groups of units, (units,): one by the size of its group."""

    means: Mapping[str, Floats]
    classes: Ints | None = None
    of_counts: Mapping[str, Callable[[ClassCounts], Floats]] = field(default_factory=dict)
    shares: Mapping[str, Floats] = field(default_factory=dict)

    def at(self, positions: Ints) -> "Answers":
        """The answers at these positions, for one resample."""
        means, shares = (
            {name: values[positions] for name, values in metrics.items()} for metrics in (self.means, self.shares)
        )
        classes = None if self.classes is None else self.classes[positions]
        return replace(self, means=means, classes=classes, shares=shares)


def generator(*names: object) -> np.random.Generator:
    """A generator seeded by the names: equal names, equal draws."""
    text = "/".join(map(str, names))
    return np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big"))


def scores(answers: Answers, gold: Ints, labels: int, weights: Floats) -> dict[str, Floats]:
    """Every metric, (draws,), of samples with these numbers of units of each kind: `weights` (draws, kinds)."""
    values: dict[str, Floats] = {}
    for name, unit_values in answers.means.items():
        share = answers.shares.get(name, np.ones_like(unit_values))
        values[name] = weights @ (unit_values * share) / (weights @ share)
    if answers.classes is not None and answers.of_counts:
        counts = class_counts(gold, answers.classes, labels, weights)
        values |= {name: metric(counts).mean(axis=1) for name, metric in answers.of_counts.items()}
    return values


def class_counts(gold: Ints, answered: Ints, labels: int, weights: Floats) -> ClassCounts:
    """Per draw, seed and class, (draws, seeds, labels): rows answered right, answered so, and gold; how far answers are off."""
    is_gold = gold[:, None, None] == np.arange(labels)  # (kinds, 1, labels)
    is_answered = answered[:, :, None] == np.arange(labels)  # (kinds, seeds, labels)

    def weighted_counts(is_counted: NDArray[np.bool_]) -> Floats:
        counts: Floats = weights @ is_counted.reshape(len(gold), -1).astype(float)
        return counts.reshape(len(weights), -1, labels)

    farthest = np.maximum(gold, labels - 1 - gold)[:, None]
    distances = np.where(answered == NO_CLASS, farthest, np.abs(answered - gold[:, None]))  # (kinds, seeds)
    distances = distances.astype(float)
    right, answers, golds = map(weighted_counts, (is_gold & is_answered, is_answered, is_gold))
    return ClassCounts(right, answers, golds, weights @ distances, weights @ distances**2)


def unit_kinds(arms: Sequence[Answers], gold: Ints) -> tuple[Ints, Ints]:
    """(the position of one unit of each kind, the number of its units)."""
    columns = [gold.astype(float)]
    for arm in arms:
        columns += [*arm.means.values(), *arm.shares.values()]
        columns += [] if arm.classes is None else list(arm.classes.T.astype(float))
    _, positions, counts = np.unique(np.column_stack(columns), axis=0, return_index=True, return_counts=True)
    return positions.astype(np.int64), counts.astype(np.int64)


def bootstrap(
    arms: Sequence[Answers],
    gold: Ints,
    labels: int,
    draws: np.random.Generator,
    count: int = DRAWS,
    numbers_at_once: int = NUMBERS_AT_ONCE,
    clusters: Ints | None = None,
) -> list[dict[str, Floats]]:
    """Each arm's metrics on `count` resamples of the units, (count,); all arms on the same resamples. `clusters`: the number of
    each unit's cluster, from 0, if whole clusters are drawn.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13 (percentile intervals).
    """
    positions, counts = unit_kinds(arms, gold) if clusters is None else _cluster_units(clusters)
    kind_answers = [arm.at(positions) for arm in arms]
    blocks: list[list[dict[str, Floats]]] = [[] for _ in arms]
    for size in _block_sizes(count, max(len(positions), UNITS_PER_COUNT * len(counts)), numbers_at_once):
        weights = _unit_weights(_resampled(counts, draws, size), clusters)
        for arm, arm_blocks in zip(kind_answers, blocks, strict=True):
            arm_blocks.append(scores(arm, gold[positions], labels, weights))
    return [_concatenated(arm_blocks) for arm_blocks in blocks]


def exchanged_differences(
    first: Answers,
    second: Answers,
    gold: Ints,
    labels: int,
    draws: np.random.Generator,
    count: int = DRAWS,
    numbers_at_once: int = NUMBERS_AT_ONCE,
    clusters: Ints | None = None,
) -> dict[str, Floats]:
    """Differences first - second, (count,), if each unit's answers are exchanged between the arms by the toss of a coin.

    For a mean this is the permutation test that flips the signs of the units' differences.
    Source: Noreen, Computer-Intensive Methods for Testing Hypotheses (1989); Yeh, arXiv cs/0008005 (approximate randomization).
    """
    positions, counts = unit_kinds([first, second], gold) if clusters is None else _cluster_units(clusters)
    joined = _joined(first.at(positions), second.at(positions))
    joined_gold = np.concatenate([gold[positions], gold[positions]])
    blocks = []
    for size in _block_sizes(count, 2 * len(positions), numbers_at_once):
        heads = _heads(counts, draws, size)
        swapped, kept = _unit_weights(heads, clusters), _unit_weights(counts - heads, clusters)
        first_scores = scores(joined, joined_gold, labels, np.hstack([kept, swapped]))
        second_scores = scores(joined, joined_gold, labels, np.hstack([swapped, kept]))
        blocks.append({name: first_scores[name] - second_scores[name] for name in first_scores})
    return _concatenated(blocks)


def _cluster_units(clusters: Ints) -> tuple[Ints, Ints]:
    """(the position of every unit, how many there are of each cluster: one)."""
    return np.arange(len(clusters)), np.ones(int(clusters.max()) + 1, dtype=np.int64)


def _unit_weights(weights: Floats, clusters: Ints | None) -> Floats:
    """Weights of kinds as they are; those of clusters, (draws, clusters), for each of their units."""
    return weights if clusters is None else weights[:, clusters]


def _concatenated(blocks: Sequence[Mapping[str, Floats]]) -> dict[str, Floats]:
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def _resampled(counts: Ints, draws: np.random.Generator, size: int) -> Floats:
    """Resamples, (size, kinds): by drawing units one by one if they are few, else by drawing the counts."""
    total = int(counts.sum())
    if total > UNITS_PER_COUNT * len(counts):
        return draws.multinomial(total, counts / total, size=size).astype(float)
    drawn_kinds = np.repeat(np.arange(len(counts)), counts)[draws.integers(0, total, (size, total))]
    drawn_kinds += len(counts) * np.arange(size)[:, None]
    return np.bincount(drawn_kinds.ravel(), minlength=size * len(counts)).reshape(size, -1).astype(float)


def _heads(counts: Ints, draws: np.random.Generator, size: int) -> Floats:
    """Heads among `counts` tosses of a coin, (size, kinds): the bits of a random word if it has enough."""
    fits_word = counts <= WORD
    heads = np.empty((size, len(counts)))
    masks = (np.uint64(1) << counts[fits_word].astype(np.uint64)) - np.uint64(1)
    words = draws.integers(0, 2**64, (size, int(fits_word.sum())), dtype=np.uint64)
    heads[:, fits_word] = np.bitwise_count(words & masks)
    heads[:, ~fits_word] = draws.binomial(counts[~fits_word], 0.5, (size, int((~fits_word).sum())))
    return heads


def _joined(first: Answers, second: Answers) -> Answers:
    """The answers of both, concatenated."""
    classes = None
    if first.classes is not None and second.classes is not None:
        classes = np.concatenate([first.classes, second.classes])
    means = {name: np.concatenate([first.means[name], second.means[name]]) for name in first.means}
    shares = {name: np.concatenate([first.shares[name], second.shares[name]]) for name in first.shares}
    return replace(first, means=means, classes=classes, shares=shares)


def _block_sizes(count: int, width: int, numbers_at_once: int) -> Iterator[int]:
    """Sizes that add up to `count`, of blocks that fit into memory."""
    size = max(1, numbers_at_once // width)
    yield from [size] * (count // size)
    if count % size:
        yield count % size


def interval(values: Floats, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The percentile interval of resampled values."""
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def p_value(observed: float, null: Floats) -> float:
    """The two-sided p-value; never 0, since the sample itself is one of the arrangements.

    Source: Phipson and Smyth (2010), 10.2202/1544-6115.1585.
    """
    return (1 + int(np.sum(np.abs(null) >= abs(observed) - ROUNDING))) / (1 + len(null))


def mcnemar(first: Floats, second: Floats) -> float:
    """The exact two-sided p-value of units that are right (1) or wrong (0) in each of two arms; 1 if none differ.

    Source: McNemar (1947), 10.1007/BF02295996, in its exact form: a binomial test on the units that only one arm got right.
    """
    from scipy.stats import binomtest

    only_first, only_second = int(np.sum(first > second)), int(np.sum(first < second))
    if only_first + only_second == 0:
        return 1.0
    return float(binomtest(only_first, only_first + only_second, 0.5).pvalue)


def is_right_or_wrong(values: Floats) -> bool:
    """Whether all values are 0 or 1."""
    return bool(np.isin(values, (0.0, 1.0)).all())


def holm(ps: Sequence[float]) -> list[float]:
    """The p-values after Holm's correction, in their order. Source: Holm (1979), www.jstor.org/stable/4615733."""
    corrected, largest = [0.0] * len(ps), 0.0
    for rank, position in enumerate(sorted(range(len(ps)), key=lambda position: ps[position])):
        largest = max(largest, min(1.0, (len(ps) - rank) * ps[position]))
        corrected[position] = largest
    return corrected
