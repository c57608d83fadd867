"""Candidates and rejects of a run: a small part of each in memory, the rest in a file without a name."""

import json
import os
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from targen.llm.fast_json import decode_json, encode_json
from targen.runtime.errors import UserError
from targen.runtime.jsonl import Json, read_line
from targen.synthesis.recipe import Candidate, Reject
from targen.synthesis.slots.assignment import Slot
from targen.tasks.task import Row, Task

_NO_ROOM = (
    "run.dir: cannot be written to ({why}). All answers are saved. Free some space, then rerun the command to resume."
)
LONGEST_REASON = 400  # characters that distinguish kinds of reasons; the rest may be a model's long text
LabelChange = tuple[str, str]  # label before and after self-correction


@dataclass(frozen=True, slots=True)
class StoredCandidate:
    """The part of a candidate that stays in memory."""

    attempt: int
    context: str
    cell: int  # label cell after self-correction
    label_change: LabelChange
    keys: tuple[int, ...]  # of its rows, equal for duplicates
    row_signature: bytes  # MinHash, for near-duplicates; empty if they are not looked for
    seed_signature: bytes
    offset: int

    @property
    def flipped(self) -> bool:
        """Whether self-correction changed the label."""
        return self.label_change[0] != self.label_change[1]


@dataclass(frozen=True, slots=True)
class StoredReject:
    """The part of a reject that stays in memory."""

    slot: Slot | None
    attempt: int
    step: str
    kind: str  # the reason without the particulars of the row, for counting
    label_change: LabelChange | None
    offset: int


class CandidateStore:
    """The store of one task. Its file vanishes with the process: all of it can be rebuilt from the calls."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115  (open as long as the store)
        self._size = 0
        self._kinds: dict[str, str] = {}

    def put_candidate(self, candidate: Candidate) -> int:
        """Stores a candidate. Returns its offset in the file."""
        record = {
            "attempt": candidate.attempt,
            "context": candidate.context,
            "prompt_details": candidate.prompt_details,
            "instance_seed": candidate.instance_seed,
            "rows": list(candidate.rows),
            "label_before": candidate.label_before,
            "label_after": candidate.label_after,
            "explanation": candidate.explanation,
            "call_ids": list(candidate.call_ids),
            "votes": candidate.votes,
            "free_variants": dict(candidate.free_variants),
        }
        return self._append(record)

    def candidate(self, slot: Slot, stored: StoredCandidate) -> Candidate:
        """The candidate of a slot, read from the file."""
        record = self._read(stored.offset)
        return Candidate(slot, **{**record, "rows": tuple(record["rows"]), "call_ids": tuple(record["call_ids"])})

    def put_reject(self, reject: Reject) -> StoredReject:
        """Stores a reject. Returns what stays in memory."""
        record = {
            "reason": reject.reason,
            "text": reject.text,
            "context": reject.seed.context,
            **reject.seed.prompt_details,
            "instance_seed": reject.seed.seed,
            "rows": list(reject.rows),
            "call_ids": list(reject.call_ids),
        }
        kind = _reject_kind(reject)
        kind = self._kinds.setdefault(kind, kind)
        return StoredReject(reject.slot, reject.attempt, reject.step, kind, reject.label_change, self._append(record))

    def reject(self, refused: StoredReject) -> Json:
        """The line of rejects.jsonl."""
        attempt = {
            "slot": None if refused.slot is None else str(refused.slot),
            "attempt": refused.attempt,
            "step": refused.step,
        }
        return attempt | self._read(refused.offset)

    def _append(self, record: Json) -> int:
        line, offset = encode_json(record) + b"\n", self._size
        try:
            self._size += os.write(self._file.fileno(), line)
        except OSError as err:
            raise UserError(_NO_ROOM.format(why=err.strerror)) from None
        if self._size < offset + len(line):
            raise UserError(_NO_ROOM.format(why="the disk is full"))
        return offset

    def _read(self, offset: int) -> Json:
        record: Json = decode_json(read_line(self._file.fileno(), offset))
        return record

    def close(self) -> None:
        """Closes the file, which thereby vanishes."""
        self._file.close()


def rows_text(task: Task, rows: Sequence[Row]) -> str:
    """The texts of an instance's rows by name, as JSON, for the line of a refused candidate in rejects.jsonl."""
    return json.dumps([task.view(row) for row in rows], ensure_ascii=False)


def row_key(task: Task, row: Row) -> int:
    """A number that is equal for duplicates."""
    return int.from_bytes(blake2b(task.duplicate_key(row).encode("utf-8", "surrogatepass"), digest_size=12).digest())


def row_text(task: Task, row: Row) -> str:
    """All texts of a row, in one."""
    return " ".join(task.view(row).values())


def seed_text(instance_seed: Json) -> str:
    """The values of an instance seed, as one text."""
    return " ".join(str(value) for value in instance_seed.values())


def _reject_kind(reject: Reject) -> str:
    without_quotes = re.sub(r"(?<!\w)(['\"]).*?\1(?!\w)", "...", reject.reason[:LONGEST_REASON])
    return f"{reject.step}: {re.sub(r'[0-9]+', '#', without_quotes)}"
