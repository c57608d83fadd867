"""The words of a set as integer ids, from which lexical measures are counted."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Corpus:
    """All words of a set in row order, one array element per word.

    `ids`: id of the word; `row`: index of its row; `offset`: offset of the word within its row; `text`: id of its text.
    """

    ids: Ints
    row: Ints
    offset: Ints
    text: Ints
    lengths: Ints  # words per row
    types: int  # distinct words


def corpus(rows: Sequence[Sequence[Sequence[str]]]) -> Corpus:
    """The words of `rows` (row, text, word) as ids."""
    id_of: dict[str, int] = {}
    flat = [(row, text, word) for row, texts in enumerate(rows) for text, words in enumerate(texts) for word in words]
    ids = np.array([id_of.setdefault(word, len(id_of)) for _, _, word in flat], dtype=np.int64)
    row = np.array([row_index for row_index, _, _ in flat], dtype=np.int64)
    text = np.array([text_index for _, text_index, _ in flat], dtype=np.int64)
    lengths = np.bincount(row, minlength=len(rows)).astype(np.int64)
    offset = np.arange(len(ids)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    width = int(text.max(initial=0)) + 1
    return Corpus(ids, row, offset, row * width + text, lengths, len(id_of))


def grams(ids: Ints, unit: Ints, order: int, types: int) -> tuple[Ints, Ints]:
    """(index of the first word, id) of every n-gram that lies within a unit; equal n-grams have equal ids."""
    gram_ids = ids
    for n in range(2, order + 1):
        if len(ids) < n:
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
        _, gram_ids = np.unique(gram_ids[: len(ids) - n + 1] * types + ids[n - 1 :], return_inverse=True)
    starts = np.flatnonzero(unit[: len(gram_ids)] == unit[order - 1 :])
    return starts, gram_ids[starts]


def rows_of_instances(order: Ints, group: int) -> Ints:
    """The row indices of instances of `group` rows each, in the order of the instances."""
    rows: Ints = (order[:, None] * group + np.arange(group)).ravel()
    return rows


def positions(words: Corpus, order: Ints, group: int) -> Ints:
    """The position of each word after the instances are put in this order; -1 if its instance is not in it."""
    rows = rows_of_instances(order, group)
    starts = np.full(len(words.lengths), -1, dtype=np.int64)
    lengths = words.lengths[rows]
    starts[rows] = np.cumsum(lengths) - lengths
    return np.where(starts[words.row] >= 0, starts[words.row] + words.offset, -1)
