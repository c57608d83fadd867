"""Every completed call, exactly once, on disk before it counts: `<run.dir>/calls/<task>*.jsonl`.

A task may have several files: one for the run, one per shard, one for the contexts that shards share. A process reads
all of them and writes one.
"""

from collections.abc import Iterable
from pathlib import Path

from targen.llm.messages import Answer, Request, why_unfinished
from targen.runtime.errors import UserError
from targen.runtime.jsonl import AppendLog, Json, Lines

DIGEST_BITS, OFFSET_BITS = 48, 48  # the first twelve hexadecimal digits of a hash; the byte offset in a file


class CallLog:
    """The answers of a run, by request. A call that was answered is never asked again; one that broke off is.

    Memory holds the offset of each answer, not its text: about 200 MB for a million calls. `writer` is part of the names
    of the files that this process writes: "" for a whole run, "shard-00003-of-00064" for a shard.
    """

    def __init__(self, folder: Path, tasks: Iterable[str], writer: str = "") -> None:
        self._folder, self._writer = folder, writer
        self._files: list[Lines] = []
        self._logs: dict[str, tuple[int, AppendLog]] = {}  # task -> index and log of the file that is written
        self._positions: dict[str, int] = {}  # position in the run -> file, offset and digest of the answer, packed
        self.models: set[str] = set()  # that gave the answers on record, where the answers name one
        for task in tasks:
            self._open(task)

    def _open(self, task: str) -> None:
        written_path = self._folder / (f"{task}.{self._writer}.jsonl" if self._writer else f"{task}.jsonl")
        log = AppendLog(written_path)  # first: it cuts off a line that a kill left incomplete
        for path in call_files(self._folder, task):
            if path == written_path:
                self._logs[task] = (len(self._files), log)
            self._files.append(Lines(path))
            for number, offset, record in self._files[-1].records():
                answer = answer_of(record, f"{path}:{number}")
                if why_unfinished(answer) is not None:
                    continue  # from a version that took them for answers
                self.models |= {answer.model} - {""}
                position, packed = _packed(answer.id, len(self._files) - 1, offset)
                self._positions.setdefault(position, packed)  # of two answers the first counts

    def get(self, request: Request) -> Answer | None:
        """The answer on record, None if there is none. Raises: UserError if this call was made with a different prompt."""
        position, _, digest = request.id.rpartition("-")
        packed = self._positions.get(position)
        if packed is None:
            return None
        number, offset, recorded = _unpacked(packed)
        file = self._files[number]
        if recorded != digest:
            raise UserError(
                f"{file.path}: got the call {position}-{recorded}, expected {request.id}: the prompt, the model, the sampling "
                "or the schema has changed since. Choose a different run.dir, or undo the change."
            )
        return answer_of(file.read(offset), f"{file.path}, byte {offset}")

    def put(self, request: Request, answer: Answer) -> None:
        """Writes an answer; it is on disk when this returns."""
        number, log = self._logs[request.task]
        position, packed = _packed(answer.id, number, log.append(record_of(request, answer)))
        self._positions[position] = packed

    def ids(self) -> frozenset[str]:
        """The ids of all calls with an answer."""
        return frozenset(f"{position}-{_unpacked(packed)[2]}" for position, packed in self._positions.items())

    def __len__(self) -> int:
        return len(self._positions)

    def close(self) -> None:
        """Closes all files."""
        for _, log in self._logs.values():
            log.close()
        for file in self._files:
            file.close()


def call_files(folder: Path, task: str) -> list[Path]:
    """All files that hold calls of a task, in a fixed order."""
    return sorted({*folder.glob(f"{task}.jsonl"), *folder.glob(f"{task}.*.jsonl")})


def _packed(id: str, number: int, offset: int) -> tuple[str, int]:
    """Position and packed value of a call: one integer takes a third of the memory of three values."""
    position, _, digest = id.rpartition("-")
    try:
        return position, (number << OFFSET_BITS | offset) << DIGEST_BITS | int(digest, 16)
    except ValueError:
        raise UserError(f"calls: got the id {id!r}, expected an id that ends in a hash. Repair or remove it.") from None


def _unpacked(packed: int) -> tuple[int, int, str]:
    """File, offset and digest."""
    file_and_offset, digest = packed >> DIGEST_BITS, packed & ((1 << DIGEST_BITS) - 1)
    return file_and_offset >> OFFSET_BITS, file_and_offset & ((1 << OFFSET_BITS) - 1), f"{digest:012x}"


def record_of(request: Request, answer: Answer) -> Json:
    """The line of calls/<task>.jsonl for an answer."""
    return {
        "id": answer.id,
        "step": request.step,
        "prompt_hash": request.hash,
        "text": answer.text,
        "finish_reason": answer.finish_reason,
        "usage": dict(answer.usage),
        "model": answer.model,
    }


def answer_of(record: Json, where: str) -> Answer:
    """The answer of a recorded call. Raises: UserError naming `where` if the record is not one."""
    types = {"id": str, "text": str, "finish_reason": str, "usage": dict, "model": str}
    for name, expected_type in types.items():
        if not isinstance(record.get(name), expected_type):
            got = repr(record.get(name))[:60]
            raise UserError(
                f"{where}: {name}: got {got}, expected {expected_type.__name__}, in a recorded call. Repair or remove this line."
            )
    if not all(type(count) is int for count in record["usage"].values()):
        raise UserError(f"{where}: usage: got {record['usage']}, expected whole numbers. Repair or remove this line.")
    return Answer(**{name: record[name] for name in types})
