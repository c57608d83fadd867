"""Every completed call, once, on disk before it counts: `<run.dir>/calls/<task>*.jsonl`.

A task may have several files: one of the run, one of each shard, one of the contexts that shards share. All are read,
one is written.
"""

from collections.abc import Iterable
from pathlib import Path

from targen.llm.messages import Answer, Request
from targen.runtime.errors import UserError
from targen.runtime.jsonl import AppendLog, Json, Lines

DIGEST_BITS, OFFSET_BITS = 48, 48  # of a hash's first twelve hexadecimal digits; of a place in a file


class CallLog:
    """The answers of a run, by request. A call that was answered is never asked again.

    Memory holds where each answer stands, not the answer: of a million calls, about 200 MB. `writer` is the part of the
    file names that this process writes: "" for a whole run, "shard-00003-of-00064" for a shard.
    """

    def __init__(self, folder: Path, tasks: Iterable[str], writer: str = "") -> None:
        self._folder, self._writer = folder, writer
        self._files: list[Lines] = []
        self._logs: dict[str, tuple[int, AppendLog]] = {}  # task -> number and log of the file that is written
        self._found: dict[str, int] = {}  # place of a call -> file, offset and digest of its answer, packed
        self.models: set[str] = set()  # that gave the answers on record, as far as they say so
        for task in tasks:
            self._open(task)

    def _open(self, task: str) -> None:
        own_path = self._folder / (f"{task}.{self._writer}.jsonl" if self._writer else f"{task}.jsonl")
        log = AppendLog(own_path)  # first, for it cuts off what a kill tore
        for path in call_files(self._folder, task):
            if path == own_path:
                self._logs[task] = (len(self._files), log)
            self._files.append(Lines(path))
            for number, offset, record in self._files[-1].records():
                answer = answer_of(record, f"{path}:{number}")
                self.models |= {answer.model} - {""}
                place, packed = _packed(answer.id, len(self._files) - 1, offset)
                self._found.setdefault(place, packed)  # the first answer counts, should there be two

    def get(self, request: Request) -> Answer | None:
        """The answer on record. Raises: UserError if this place of the run was asked with another prompt."""
        place, _, digest = request.id.rpartition("-")
        packed = self._found.get(place)
        if packed is None:
            return None
        number, offset, recorded = _unpacked(packed)
        file = self._files[number]
        if recorded != digest:
            raise UserError(
                f"{file.path}: got the call {place}-{recorded}, expected {request.id}: the prompt, the model, the sampling "
                "or the schema changed since. Take another run.dir, or restore what was changed."
            )
        return answer_of(file.read(offset), f"{file.path}, byte {offset}")

    def put(self, request: Request, answer: Answer) -> None:
        """Writes an answer; it is on disk when this returns."""
        number, log = self._logs[request.task]
        place, packed = _packed(answer.id, number, log.append(record_of(request, answer)))
        self._found[place] = packed

    def ids(self) -> frozenset[str]:
        """The ids of all calls with an answer."""
        return frozenset(f"{place}-{_unpacked(packed)[2]}" for place, packed in self._found.items())

    def __len__(self) -> int:
        return len(self._found)

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
    """Place and packed value of a call: one integer takes a third of the memory of three values."""
    place, _, digest = id.rpartition("-")
    try:
        return place, (number << OFFSET_BITS | offset) << DIGEST_BITS | int(digest, 16)
    except ValueError:
        raise UserError(f"calls: got the id {id!r}, expected one that ends in a hash. Repair or remove it.") from None


def _unpacked(packed: int) -> tuple[int, int, str]:
    """File, offset and digest."""
    place, digest = packed >> DIGEST_BITS, packed & ((1 << DIGEST_BITS) - 1)
    return place >> OFFSET_BITS, place & ((1 << OFFSET_BITS) - 1), f"{digest:012x}"


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
    """The answer of a recorded call. Raises: UserError naming `where` when it is none."""
    types = {"id": str, "text": str, "finish_reason": str, "usage": dict, "model": str}
    for name, kind in types.items():
        if not isinstance(record.get(name), kind):
            got = repr(record.get(name))[:60]
            raise UserError(
                f"{where}: {name}: got {got}, expected {kind.__name__}, in a recorded call. Repair or remove this line."
            )
    if not all(type(count) is int for count in record["usage"].values()):
        raise UserError(f"{where}: usage: got {record['usage']}, expected whole numbers. Repair or remove this line.")
    return Answer(**{name: record[name] for name in types})
