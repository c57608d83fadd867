"""Which candidates repeat an earlier one: the row, nearly the row, or its instance seed."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from heapq import merge

import numpy as np
from numpy.typing import NDArray

from targen.synthesis.candidate_store import StoredCandidate, row_text, seed_text
from targen.synthesis.recipe import Candidate
from targen.synthesis.slots.assignment import Slot
from targen.tasks.task import Task
from targen.text.similarity import candidate_pairs, jaccard, trigrams

# Attempts of a slot: the last of them stands whatever its instance seed repeats, so that two are lost at most. A
# vocabulary that is used up must not end a run.
SEED_TRIES = 3


@dataclass(frozen=True)
class Repeat:
    """Why a candidate repeats an earlier one."""

    kind: str  # duplicate, near_duplicate, repeated_seed
    reason: str


Pair = tuple[int, int, str]  # later, earlier, kind; places in slot order


def find_repeats(
    task: Task,
    drafts: Mapping[Slot, StoredCandidate],
    candidate_of: Callable[[Slot], Candidate],
    threshold: float | None,
) -> dict[Slot, Repeat]:
    """In slot order, every candidate that repeats an earlier one which is itself kept.

    `threshold` is the similarity from which two texts are near-duplicates; None: only equal rows count.
    """
    slots = sorted(drafts)
    stored = [drafts[slot] for slot in slots]

    @lru_cache(maxsize=1024)
    def features(place: int, kind: str) -> NDArray[np.uint32]:
        candidate = candidate_of(slots[place])
        is_row = kind == "near_duplicate"
        return trigrams(row_text(task, candidate.rows[0]) if is_row else seed_text(candidate.instance_seed))

    lost: dict[int, Repeat] = {}
    for later, earlier, kind in _pairs(stored, threshold):
        if later in lost or earlier in lost or (kind == "repeated_seed" and stored[later].attempt + 1 >= SEED_TRIES):
            continue
        share = 1.0 if kind == "duplicate" else jaccard(features(later, kind), features(earlier, kind))
        if share >= (threshold or 1.0):
            lost[later] = Repeat(kind, f"{kind.replace('_', ' ')} of slot {slots[earlier]} (similarity {share:.2f})")
    return {slots[place]: repeat for place, repeat in lost.items()}


def _pairs(stored: Sequence[StoredCandidate], threshold: float | None) -> Iterator[Pair]:
    """Pairs that may be repetitions, in slot order of the later one."""
    sources: list[Iterable[Pair]] = [_equal(stored)]
    if threshold is not None:
        rows = candidate_pairs([draft.row_signature for draft in stored], threshold)
        seeds = candidate_pairs([draft.seed_signature for draft in stored], threshold)
        sources.append((later, earlier, "near_duplicate") for later, earlier in rows)
        sources.append((later, earlier, "repeated_seed") for later, earlier in seeds)
    return merge(*sources)


def _equal(stored: Sequence[StoredCandidate]) -> Iterator[Pair]:
    first: dict[int, int] = {}
    for position, draft in enumerate(stored):
        for key in draft.keys:
            if (earlier := first.setdefault(key, position)) != position:
                yield position, earlier, "duplicate"
