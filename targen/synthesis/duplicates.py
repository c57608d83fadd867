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

# From this attempt on, a slot may repeat an instance seed, so that it loses two attempts at most: a vocabulary that is
# used up must not end a run.
SEED_TRIES = 3


@dataclass(frozen=True)
class Repeat:
    """Why a candidate repeats an earlier one."""

    kind: str  # duplicate, near_duplicate, repeated_seed
    reason: str


Pair = tuple[int, int, str]  # later, earlier, kind; positions in slot order


def find_repeats(
    task: Task,
    drafts: Mapping[Slot, StoredCandidate],
    candidate_of: Callable[[Slot], Candidate],
    threshold: float | None,
) -> dict[Slot, Repeat]:
    """Every candidate that repeats an earlier one which is itself kept, in slot order.

    `threshold` is the Jaccard similarity from which two texts are near-duplicates; None: only equal rows count.
    """
    slots = sorted(drafts)
    stored = [drafts[slot] for slot in slots]

    @lru_cache(maxsize=1024)
    def features(position: int, kind: str) -> NDArray[np.uint32]:
        candidate = candidate_of(slots[position])
        is_row = kind == "near_duplicate"
        return trigrams(row_text(task, candidate.rows[0]) if is_row else seed_text(candidate.instance_seed))

    lost: dict[int, Repeat] = {}
    for later, earlier, kind in _possible_pairs(stored, threshold):
        if later in lost or earlier in lost or (kind == "repeated_seed" and stored[later].attempt + 1 >= SEED_TRIES):
            continue
        share = 1.0 if kind == "duplicate" else jaccard(features(later, kind), features(earlier, kind))
        if share >= (threshold or 1.0):
            lost[later] = Repeat(kind, f"{kind.replace('_', ' ')} of slot {slots[earlier]} (similarity {share:.2f})")
    return {slots[position]: repeat for position, repeat in lost.items()}


def _possible_pairs(stored: Sequence[StoredCandidate], threshold: float | None) -> Iterator[Pair]:
    """Pairs that may be repetitions, in slot order of the later one."""
    sources: list[Iterable[Pair]] = [_duplicates(stored)]
    if threshold is not None:
        rows = candidate_pairs([draft.row_signature for draft in stored], threshold)
        seeds = candidate_pairs([draft.seed_signature for draft in stored], threshold)
        sources.append((later, earlier, "near_duplicate") for later, earlier in rows)
        sources.append((later, earlier, "repeated_seed") for later, earlier in seeds)
    return merge(*sources)


def _duplicates(stored: Sequence[StoredCandidate]) -> Iterator[Pair]:
    """Pairs with an equal row: each candidate with the first that has the row."""
    first_with: dict[int, int] = {}
    for position, draft in enumerate(stored):
        for key in draft.keys:
            if (earlier := first_with.setdefault(key, position)) != position:
                yield position, earlier, "duplicate"
