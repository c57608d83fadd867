"""Self-BLEU: how similar the rows of a set are to one another, from 0 (nothing in common) to 1 (copies).

BLEU-4 of each row against all others, equal weights, smoothed as in NLTK's method 1: a precision of 0 counts 0.1 matches.
Equals `nltk.translate.bleu_score.sentence_bleu`, computed for all rows at once: for each n-gram, only the largest and the
second largest count in a row matter. Sources: Papineni et al. 2002; Y. Zhu et al., Texygen, arXiv 1802.01886.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from eval.analysis.measures.ngrams import Ints, grams

ORDERS = 4
SMOOTHING = 0.1
Scores = NDArray[np.float64]


class SelfBleu:
    """The n-gram counts of a set, from which the scores of any subset are computed."""

    def __init__(self, rows: Sequence[Sequence[str]]) -> None:
        id_of: dict[str, int] = {}
        ids = np.array([id_of.setdefault(word, len(id_of)) for row in rows for word in row], dtype=np.int64)
        self.lengths = np.array([len(row) for row in rows], dtype=np.int64)
        owner = np.repeat(np.arange(len(rows)), self.lengths)
        self._counts = [_counts(ids, owner, order, len(id_of)) for order in range(1, ORDERS + 1)]

    def scores(self, subset: Ints | None = None) -> Scores:
        """BLEU of each row of `subset` against its other rows, shape `(len(subset),)`; by default of all rows."""
        rows = np.arange(len(self.lengths)) if subset is None else subset
        inside = np.zeros(len(self.lengths), dtype=bool)
        inside[rows] = True
        logs: Scores = np.zeros(len(self.lengths))
        unigrams: Scores = logs
        for order, (gram, row, count) in enumerate(self._counts, start=1):
            selected = inside[row]
            clipped = _clipped(gram[selected], count[selected])
            matched: Scores = np.bincount(row[selected], clipped, len(self.lengths)).astype(np.float64)
            if order == 1:
                unigrams = matched
            denominator = np.maximum(1, self.lengths - order + 1)
            logs += np.log(np.where(matched == 0, SMOOTHING, matched) / denominator)
        precision = np.where(unigrams == 0, 0.0, np.exp(logs / ORDERS))
        scores: Scores = precision[rows] * _brevity(self.lengths[rows])
        return scores


def _counts(ids: Ints, owner: Ints, order: int, types: int) -> tuple[Ints, Ints, Ints]:
    """(n-gram, row, count of the n-gram in the row), sorted by n-gram and then by falling count."""
    starts, gram = grams(ids, owner, order, types)
    rows = int(owner.max(initial=0)) + 1
    pairs, count = np.unique(gram * rows + owner[starts], return_counts=True)
    gram, row = np.divmod(pairs, rows)
    ranked = np.lexsort((-count, gram))
    return gram[ranked], row[ranked], count[ranked]


def _clipped(gram: Ints, count: Ints) -> Ints:
    """Each count, clipped to the largest count of its n-gram in any other row."""
    if not len(gram):
        return count
    first = np.flatnonzero(np.diff(gram, prepend=gram[0] - 1))
    sizes = np.diff(first, append=len(gram))
    second = np.where(sizes > 1, count[np.minimum(first + 1, len(gram) - 1)], 0)
    largest_elsewhere = np.repeat(count[first], sizes)
    largest_elsewhere[first] = second  # in the row that itself has the largest count
    return np.minimum(count, largest_elsewhere)


def _brevity(lengths: Ints) -> Scores:
    """The brevity penalty of each row against the closest length among the other rows; of two equally close, the shorter."""
    distinct, index, count = np.unique(lengths, return_inverse=True, return_counts=True)
    if len(lengths) < 2:
        return np.zeros(len(lengths))
    far = np.iinfo(np.int64).max // 4
    below = np.where(index > 0, distinct[np.maximum(index - 1, 0)], -far)
    above = np.where(index < len(distinct) - 1, distinct[np.minimum(index + 1, len(distinct) - 1)], far)
    nearest = np.where(lengths - below <= above - lengths, below, above)
    closest = np.where(count[index] > 1, lengths, nearest)
    shorter = np.exp(1 - closest / np.maximum(lengths, 1))
    return np.where(lengths == 0, 0.0, np.where(lengths > closest, 1.0, shorter))
