"""Contamination: synthetic rows that repeat evaluation rows, by a shared run of words or as near-duplicates."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from targen.data.original import Split
from targen.tasks.task import Fields, Task
from targen.text.normalise import units
from targen.text.similarity import PERMUTATIONS, SLACK, signature, similarity

RUN = 8  # consecutive words that two texts must share
SHORTEST = 5  # words; a text with fewer than RUN counts as one run if it has at least this many
_BASE = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class EvaluationRows:
    """The evaluation split of a task, ready for comparison."""

    origin: str
    texts: tuple[str, ...]  # per example, all its texts joined by blanks
    signatures: NDArray[np.uint16]  # (examples, permutations)
    runs: NDArray[np.uint64]  # (runs,) sorted hashes of all runs of words
    owners: NDArray[np.int32]  # (runs,) the example of each run

    def match(self, fields: Fields, threshold: float) -> str | None:
        """How a row with these texts repeats an example, in words; None if it repeats none.

        `threshold` is the Jaccard similarity of character trigrams from which texts count as near-duplicates.
        """
        if (example := self.shared_run(fields)) is not None:
            return f"shares a run of words with evaluation example {example}"
        text = " ".join(fields.values())
        row_signature = np.frombuffer(signature(text), dtype=np.uint16)
        if row_signature.size:
            estimates = (self.signatures == row_signature).mean(axis=1)
            for number in np.flatnonzero(estimates >= threshold - SLACK):
                if (share := similarity(text, self.texts[number])) >= threshold:
                    return f"near-duplicate of evaluation example {number} (similarity {share:.2f})"
        return None

    def shared_run(self, fields: Fields) -> int | None:
        """The first example that shares a run of words with one of the texts; None if there is none."""
        hashes = np.concatenate([_runs(text) for text in fields.values()])
        positions = np.minimum(np.searchsorted(self.runs, hashes), len(self.runs) - 1)
        hits = positions[self.runs[positions] == hashes] if len(self.runs) else positions[:0]
        return int(self.owners[hits].min()) if hits.size else None


def evaluation_rows(task: Task, split: Split) -> EvaluationRows:
    """Every example of the split, ready for comparison; in ReCoRD, every query with its passage is one."""
    fields = [example.fields for row in split.rows for example in task.examples(row)]
    texts = tuple(" ".join(example.values()) for example in fields)
    matrix = np.zeros((len(texts), PERMUTATIONS), dtype=np.uint16)
    for number, text in enumerate(texts):
        if text_signature := signature(text):
            matrix[number] = np.frombuffer(text_signature, dtype=np.uint16)
    runs, owners = _all_runs([list(example.values()) for example in fields])
    return EvaluationRows(split.origin, texts, matrix, runs, owners)


def _all_runs(examples: Sequence[Iterable[str]]) -> tuple[NDArray[np.uint64], NDArray[np.int32]]:
    hashes = [np.concatenate([_runs(text) for text in texts]) for texts in examples]
    owners = np.repeat(np.arange(len(hashes), dtype=np.int32), [len(example_hashes) for example_hashes in hashes])
    runs, first = np.unique(np.concatenate(hashes), return_index=True)
    return runs, owners[first]


def _runs(text: str) -> NDArray[np.uint64]:
    """Hashes of all runs of RUN words; one hash of the whole for a shorter text, none below SHORTEST words."""
    codes = np.array([crc32(unit.encode("utf-8", "surrogatepass")) for unit in units(text)], dtype=np.uint64)
    if len(codes) < SHORTEST:
        return np.empty(0, dtype=np.uint64)
    length = min(RUN, len(codes))
    mixed = np.full(len(codes) - length + 1, length, dtype=np.uint64)
    for offset in range(length):
        mixed = (mixed ^ codes[offset : len(codes) - length + 1 + offset]) * _BASE
        mixed ^= mixed >> np.uint64(29)
    return mixed
