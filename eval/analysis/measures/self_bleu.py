"""Self-BLEU: how well a row is predicted by the others of its set; 0: they share nothing, 1: each is another's copy.

BLEU-4 of every row against all others, equal weights, with the smoothing of NLTK's method 1: a precision of 0 counts
0.1 matches. Equal to `nltk.translate.bleu_score.sentence_bleu`, for all rows at once: of every n-gram only its largest
and second largest count in a row matter. Sources: Papineni et al. 2002; Y. Zhu et al., Texygen, arXiv 1802.01886.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from eval.analysis.measures.ngrams import Ints, grams

ORDERS = 4
SMOOTHING = 0.1
Scores = NDArray[np.float64]


class SelfBleu:
    """The n-gram counts of a set, ready for the scores of any part of it."""

    def __init__(self, rows: Sequence[Sequence[str]]) -> None:
        numbers: dict[str, int] = {}
        ids = np.array([numbers.setdefault(word, len(numbers)) for row in rows for word in row], dtype=np.int64)
        self.lengths = np.array([len(row) for row in rows], dtype=np.int64)
        owner = np.repeat(np.arange(len(rows)), self.lengths)
        self._counts = [_counts(ids, owner, order, len(numbers)) for order in range(1, ORDERS + 1)]

    def scores(self, part: Ints | None = None) -> Scores:
        """BLEU of each row of the part against the others of it, in the order of `part`; of all rows without one."""
        places = np.arange(len(self.lengths)) if part is None else part
        inside = np.zeros(len(self.lengths), dtype=bool)
        inside[places] = True
        logs: Scores = np.zeros(len(self.lengths))
        unigrams: Scores = logs
        for order, (gram, row, count) in enumerate(self._counts, start=1):
            kept = inside[row]
            clipped = _clipped(gram[kept], count[kept])
            matched: Scores = np.bincount(row[kept], clipped, len(self.lengths)).astype(np.float64)
            if order == 1:
                unigrams = matched
            denominator = np.maximum(1, self.lengths - order + 1)
            logs += np.log(np.where(matched == 0, SMOOTHING, matched) / denominator)
        found = np.where(unigrams == 0, 0.0, np.exp(logs / ORDERS))
        scores: Scores = found[places] * _brevity(self.lengths[places])
        return scores


def _counts(ids: Ints, owner: Ints, order: int, types: int) -> tuple[Ints, Ints, Ints]:
    """(n-gram, row, its count in the row), of each n-gram the row with the largest count first."""
    places, gram = grams(ids, owner, order, types)
    rows = int(owner.max(initial=0)) + 1
    pairs, count = np.unique(gram * rows + owner[places], return_counts=True)
    gram, row = np.divmod(pairs, rows)
    ranked = np.lexsort((-count, gram))
    return gram[ranked], row[ranked], count[ranked]


def _clipped(gram: Ints, count: Ints) -> Ints:
    """Each count, at most the largest count of its n-gram in another row."""
    if not len(gram):
        return count
    first = np.flatnonzero(np.diff(gram, prepend=gram[0] - 1))
    sizes = np.diff(first, append=len(gram))
    second = np.where(sizes > 1, count[np.minimum(first + 1, len(gram) - 1)], 0)
    others = np.repeat(count[first], sizes)
    others[first] = second  # for the row that has the largest count itself
    return np.minimum(count, others)


def _brevity(lengths: Ints) -> Scores:
    """The penalty of each row against the length next to its own among the others, the smaller of two as near."""
    distinct, place, count = np.unique(lengths, return_inverse=True, return_counts=True)
    if len(lengths) < 2:
        return np.zeros(len(lengths))
    far = np.iinfo(np.int64).max // 4
    below = np.where(place > 0, distinct[np.maximum(place - 1, 0)], -far)
    above = np.where(place < len(distinct) - 1, distinct[np.minimum(place + 1, len(distinct) - 1)], far)
    nearest = np.where(lengths - below <= above - lengths, below, above)
    closest = np.where(count[place] > 1, lengths, nearest)
    shorter = np.exp(1 - closest / np.maximum(lengths, 1))
    return np.where(lengths == 0, 0.0, np.where(lengths > closest, 1.0, shorter))
