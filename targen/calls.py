"""Every completed call, once, on disk before it counts: `<run.dir>/calls/<task>.jsonl`."""

from collections.abc import Iterable
from pathlib import Path

from targen.errors import UserError
from targen.jsonl import AppendLog, Json
from targen.llm import Answer, Request


class CallLog:
    """The answers of a run, by request. A call that was answered is never asked again.

    Memory holds where each answer stands, not the answer: a million calls take some hundred megabytes.
    """

    def __init__(self, paths: Iterable[tuple[str, Path]]) -> None:
        self._logs = {task: AppendLog(path) for task, path in paths}
        self._found: dict[str, tuple[str, int]] = {}  # place of a call -> hash of its prompt, offset in its log
        for log in self._logs.values():
            for number, offset, record in log.records():
                place, _, digest = answer_of(record, f"{log.path}:{number}").id.rpartition("-")
                self._found.setdefault(place, (digest, offset))  # the first answer counts, should there be two

    def get(self, request: Request) -> Answer | None:
        """The answer on record. Raises: UserError if this place of the run was asked with another prompt."""
        place, _, digest = request.id.rpartition("-")
        found = self._found.get(place)
        if found is None:
            return None
        log = self._logs[request.task]
        if found[0] != digest:
            raise UserError(
                f"{log.path}: got the call {place}-{found[0]}, expected {request.id}: the prompt, the model, the sampling or "
                "the schema changed since. Take another run.dir, or restore what was changed."
            )
        return answer_of(log.read(found[1]), f"{log.path}, byte {found[1]}")

    def ids(self) -> frozenset[str]:
        return frozenset(f"{place}-{digest}" for place, (digest, _) in self._found.items())

    def __len__(self) -> int:
        return len(self._found)

    def put(self, request: Request, answer: Answer) -> None:
        offset = self._logs[request.task].append(record_of(request, answer))
        place, _, digest = answer.id.rpartition("-")
        self._found[place] = (digest, offset)

    def close(self) -> None:
        for log in self._logs.values():
            log.close()


def record_of(request: Request, answer: Answer) -> Json:
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
