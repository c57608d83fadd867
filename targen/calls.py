"""Every completed call, once, on disk before it counts: `<run.dir>/calls/<task>.jsonl`."""

from collections.abc import Iterable
from pathlib import Path

from targen.errors import UserError
from targen.jsonl import AppendLog, Json
from targen.llm import Answer, Request


class CallLog:
    """The answers of a run, by request. A call that was answered is never asked again."""

    def __init__(self, paths: Iterable[tuple[str, Path]]) -> None:
        self._logs = {task: AppendLog(path) for task, path in paths}
        self._answers: dict[str, Answer] = {}
        self._hashes: dict[str, str] = {}  # place of a call -> id, to find out that a prompt changed
        for log in self._logs.values():
            for number, record in log.records():
                answer = answer_of(record, f"{log.path}:{number}")
                self._answers[answer.id] = answer
                self._hashes[place_of(answer.id)] = answer.id

    def get(self, request: Request) -> Answer | None:
        """The answer on record. Raises: UserError if this place of the run was asked with another prompt."""
        other = self._hashes.get(place_of(request.id))
        if other is not None and other != request.id:
            raise UserError(
                f"{self._logs[request.task].path}: got the call {other}, expected {request.id}: the prompt, the model, the "
                "sampling or the schema changed since. Take another run.dir, or restore what was changed."
            )
        return self._answers.get(request.id)

    def ids(self) -> frozenset[str]:
        return frozenset(self._answers)

    def __len__(self) -> int:
        return len(self._answers)

    def put(self, request: Request, answer: Answer) -> None:
        self._logs[request.task].append(record_of(request, answer))
        self._answers[answer.id] = answer
        self._hashes[place_of(answer.id)] = answer.id

    def close(self) -> None:
        for log in self._logs.values():
            log.close()


def place_of(id: str) -> str:
    """The id without the hash of the prompt."""
    return id.rpartition("-")[0]


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
