"""Recorded completions, replayed by request id."""

from collections.abc import Iterator
from pathlib import Path

from targen.config.settings import Settings
from targen.llm.call_log import answer_of, call_files
from targen.llm.messages import LLM, Answer, Failure, Request, why_unfinished
from targen.llm.registry import Backend, BackendInputs
from targen.runtime.errors import UserError
from targen.runtime.jsonl import read_jsonl
from targen.runtime.paths import PROJECT

SHIPPED = PROJECT / "targen" / "recordings" / "superglue"


class Recorded:
    """Answers from the calls/ folder of a run. Raises: UserError if a task has no file there."""

    window = 1024

    def __init__(self, folder: Path, tasks: list[str]) -> None:
        self._folder = folder
        self._answers: dict[str, Answer] = {}
        self._submitted: list[Request] = []
        for task in tasks:
            paths = call_files(folder, task)
            if not paths:
                raise UserError(
                    f"generator.path: got {folder}, which has no {task}.jsonl, expected recorded calls of every task. "
                    "Name a folder of recorded calls, or choose another generator."
                )
            for path in paths:
                for number, record in read_jsonl(path, halves=True):
                    answer = answer_of(record, f"{path}:{number}")
                    if why_unfinished(answer) is None:
                        self._answers.setdefault(answer.id, answer)

    def submit(self, request: Request) -> None:
        """Adds a request to those that `collect` answers."""
        self._submitted.append(request)

    def collect(self) -> Iterator[Answer | Failure]:
        """The recorded answers of all submitted requests. Raises: UserError that names a request without one."""
        requests, self._submitted = self._submitted, []
        for request in requests:
            if request.id not in self._answers:
                raise UserError(
                    f"generator=recorded: got the request {request.id}, which {self._folder / (request.task + '.jsonl')} "
                    "does not answer, expected a recorded request. A recording can be replayed only with the prompts, the model "
                    "name, the seed and the synth settings of the original run, and at most its size. Restore them, "
                    "or choose another generator."
                )
            yield self._answers[request.id]

    def close(self) -> None:
        """Nothing to free: the recording is in memory."""


def _recording(settings: Settings) -> LLM:
    return Recorded(Path(settings.generator.path) if settings.generator.path else SHIPPED, list(settings.tasks))


def _check(settings: Settings) -> None:
    _recording(settings)


def _make(inputs: BackendInputs) -> LLM:
    return _recording(inputs.settings)


BACKEND = Backend(_make, _check)
