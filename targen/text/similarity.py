"""Near-duplicates: texts that differ in a few words only, by the Jaccard similarity of their character trigrams.

MinHash (rensa) finds candidate pairs among many texts; the exact similarity decides.
"""

from array import array
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash

from targen.text.normalise import normalised

PERMUTATIONS, BANDS, BAND = 96, 16, 6  # a pair of similarity 0.8 shares a band of six with probability 0.99
# In a group of at most CROWD texts with an equal band, every pair is a candidate. In a larger group, each text is
# compared with the first of the group and with the one before it.
CROWD = 32
SEED = 0
PAIRS_AT_ONCE = 4096  # so that the arrays of a turn stay in the processor's cache
SLACK = 0.12  # by which an estimate may fall below the similarity (three standard errors)
Whole = TypeVar("Whole", np.uint32, np.int64)
_MIX = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], dtype=np.uint64)


def trigrams(text: str) -> NDArray[np.uint32]:
    """Sorted hashes `(trigrams,)` of the distinct character trigrams of a text, regardless of case, punctuation and spacing."""
    codes = np.frombuffer(_padded(text).encode("utf-32-le"), dtype=np.uint32).astype(np.uint64)
    if len(codes) < 3:
        return np.empty(0, dtype=np.uint32)
    mixed = codes[:-2] * _MIX[0] ^ codes[1:-1] * _MIX[1] ^ codes[2:] * _MIX[2]
    return _distinct((mixed >> np.uint64(32)).astype(np.uint32))


def _distinct(values: NDArray[Whole]) -> NDArray[Whole]:
    """The distinct values, sorted: np.unique's, in a third of its time."""
    ordered = np.sort(values)
    distinct: NDArray[Whole] = ordered[np.append(True, ordered[1:] != ordered[:-1])]
    return distinct


def _padded(text: str) -> str:
    """The normalised text between blanks, with lone surrogates replaced."""
    return f" {normalised(text)} ".encode("utf-8", "replace").decode()


def jaccard(first: NDArray[np.uint32], second: NDArray[np.uint32]) -> float:
    """Jaccard similarity of two sorted sets, from 0 to 1; 0 if one is empty."""
    shared = np.intersect1d(first, second, assume_unique=True).size
    return shared / (first.size + second.size - shared) if shared else 0.0


def similarity(first: str, second: str) -> float:
    """Jaccard similarity of the character trigrams of two texts, from 0 to 1."""
    return jaccard(trigrams(first), trigrams(second))


def signature(text: str) -> bytes:
    """The MinHash signature of a text: the low 16 bits of PERMUTATIONS values; b"" for a text without words.

    Sources: A. Broder, On the resemblance and containment of documents (1997); P. Li and A. C. König, b-bit minwise
    hashing (2010).
    """
    codes = _padded(text).encode("utf-32-le")
    if len(codes) < 3 * 4:
        return b""
    sketch = RMinHash(num_perm=PERMUTATIONS, seed=SEED)
    sketch.update(np.ndarray(len(codes) // 4 - 2, dtype="<U3", buffer=codes, strides=(4,)).tolist())
    return np.frombuffer(array("I", sketch.digest()), dtype=np.uint32).astype(np.uint16).tobytes()


def candidate_pairs(signatures: Sequence[bytes], threshold: float) -> Iterator[tuple[int, int]]:
    """(later, earlier) positions of texts whose similarity may reach the threshold, in ascending order.

    Texts with an empty signature are in no pair.
    """
    positions = np.array(
        [position for position, text_signature in enumerate(signatures) if text_signature], dtype=np.int64
    )
    if len(positions) < 2:
        return
    matrix = np.frombuffer(b"".join(signatures), dtype=np.uint16).reshape(len(positions), PERMUTATIONS)
    keys: list[NDArray[np.int64]] = []
    for band in range(BANDS):
        part = np.ascontiguousarray(matrix[:, band * BAND : (band + 1) * BAND])
        keys += _neighbours((part.view(np.uint32) * _MIX).sum(axis=1))
    if not keys:
        return
    pairs = _distinct(np.concatenate(keys))
    for start in range(0, len(pairs), PAIRS_AT_ONCE):
        later, earlier = np.divmod(pairs[start : start + PAIRS_AT_ONCE], len(positions))
        equal = np.count_nonzero(matrix[later] == matrix[earlier], axis=1)
        alike = equal / PERMUTATIONS >= threshold - SLACK
        yield from zip(positions[later[alike]].tolist(), positions[earlier[alike]].tolist(), strict=True)


def _pairs_among(count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(later, earlier) of the pairs to compare in a group of `count` texts."""
    if count <= CROWD:
        return _all_pairs(count)
    others = np.arange(1, count)
    return np.tile(others, 2), np.concatenate([np.zeros_like(others), others - 1])


@lru_cache(maxsize=CROWD)
def _all_pairs(count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(later, earlier) of all pairs in a group of `count` texts."""
    later, earlier = np.tril_indices(count, -1)
    return later, earlier


def _neighbours(band: NDArray[np.uint64]) -> list[NDArray[np.int64]]:
    """Pairs of texts with an equal band, as later * count + earlier."""
    order = np.argsort(band, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(band[order])) + 1, len(order))
    starts = np.append(0, ends[:-1])
    sizes, neighbours = ends - starts, []
    for size in np.unique(sizes[sizes > 1]).tolist():
        members = order[starts[sizes == size][:, None] + np.arange(size)]  # (groups of this size, size)
        later, earlier = _pairs_among(size)
        neighbours.append((members[:, later] * len(band) + members[:, earlier]).ravel())
    return neighbours
