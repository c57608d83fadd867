"""The words of a set as numbers: what lexical measures count."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Corpus:
    """All words of a set in row order: which word, of which row, the how-manieth of it, in which text."""

    ids: Ints
    row: Ints
    offset: Ints
    text: Ints
    lengths: Ints  # words of each row
    types: int


def corpus(rows: Sequence[Sequence[Sequence[str]]]) -> Corpus:
    """Words (row, text, word) as numbers."""
    numbers: dict[str, int] = {}
    flat = [(row, text, word) for row, texts in enumerate(rows) for text, words in enumerate(texts) for word in words]
    ids = np.array([numbers.setdefault(word, len(numbers)) for _, _, word in flat], dtype=np.int64)
    row = np.array([place for place, _, _ in flat], dtype=np.int64)
    text = np.array([place for _, place, _ in flat], dtype=np.int64)
    lengths = np.bincount(row, minlength=len(rows)).astype(np.int64)
    offset = np.arange(len(ids)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    width = int(text.max(initial=0)) + 1
    return Corpus(ids, row, offset, row * width + text, lengths, len(numbers))


def grams(ids: Ints, unit: Ints, order: int, types: int) -> tuple[Ints, Ints]:
    """(place of the first word, number of the n-gram) of every n-gram inside a unit; equal n-grams have equal numbers."""
    own = ids
    for n in range(2, order + 1):
        if len(ids) < n:
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
        _, own = np.unique(own[: len(ids) - n + 1] * types + ids[n - 1 :], return_inverse=True)
    places = np.flatnonzero(unit[: len(own)] == unit[order - 1 :])
    return places, own[places]


def rows_of_instances(order: Ints, group: int) -> Ints:
    """The rows of instances of `group` rows, in the order of the instances."""
    found: Ints = (order[:, None] * group + np.arange(group)).ravel()
    return found


def positions(words: Corpus, order: Ints, group: int) -> Ints:
    """Where each word stands when the instances of `group` rows are put in this order; -1: its instance is not in it."""
    rows = rows_of_instances(order, group)
    starts = np.full(len(words.lengths), -1, dtype=np.int64)
    lengths = words.lengths[rows]
    starts[rows] = np.cumsum(lengths) - lengths
    return np.where(starts[words.row] >= 0, starts[words.row] + words.offset, -1)
