"""OpenAI batch files: requests are written for somebody else to answer, answers are taken at the next start."""

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

from targen.errors import UserError
from targen.jsonl import Json, read_jsonl, write_jsonl
from targen.llm import Answer, Failure, Request, answer_from_completion
from targen.paths import RunPaths

log = logging.getLogger(__name__)


class AwaitingAnswers(Exception):
    """All that can be asked now stands in the request file; the text says how to go on."""


class Batch:
    """Reads `responses.jsonl` of the run; what stays unanswered is written to `requests.jsonl`.

    Custom ids are request ids, so lines may come in any order, in part, twice, or with errors.
    Raises: AwaitingAnswers from `collect` when every submitted request has to be answered first.
    """

    window = sys.maxsize

    def __init__(self, paths: RunPaths, known_ids: frozenset[str], model: str) -> None:
        self._paths, self._model = paths, model
        self._submitted: dict[str, Request] = {}
        self._answers: dict[str, Answer] = {}
        self._errors: dict[str, str] = {}
        asked = (
            frozenset(line["custom_id"] for line in read_jsonl(paths.requests))
            if paths.requests.exists()
            else frozenset()
        )
        if paths.responses.exists():
            for number, line in enumerate(read_jsonl(paths.responses), start=1):
                self._read(line, asked | known_ids, f"{paths.responses}:{number}")

    def _read(self, line: Json, known: frozenset[str], where: str) -> None:
        id = line.get("custom_id")
        if id not in known:
            raise UserError(
                f"{where}: got the custom_id {id!r}, which this run did not ask for, expected one of {self._paths.requests}. "
                "This looks like the responses of another run: put the right file in its place."
            )
        response = line.get("response") or {}
        status = response.get("status_code", 200)
        if line.get("error") or status != 200 or "body" not in response:
            self._errors.setdefault(id, str(line.get("error") or f"status {status}"))
            return
        try:
            self._answers[id] = answer_from_completion(id, response["body"])
        except ValueError as err:
            self._errors.setdefault(id, str(err))

    def submit(self, request: Request) -> None:
        self._submitted[request.id] = request

    def collect(self) -> Iterator[Answer | Failure]:
        answered = [id for id in self._submitted if id in self._answers]
        if not answered:
            self._write_requests()
        for id in answered:
            del self._submitted[id]
            yield self._answers[id]

    def _write_requests(self) -> None:
        lines = [
            {"custom_id": id, "method": "POST", "url": "/v1/chat/completions", "body": self._submitted[id].body}
            for id in sorted(self._submitted)
        ]
        write_jsonl(self._paths.requests, lines)
        failed = sorted(id for id in self._submitted if id in self._errors)
        again = f" {len(failed)} of them came back as errors before ({self._errors[failed[0]]})." if failed else ""
        raise AwaitingAnswers(
            f"{len(lines)} requests wait for answers in {self._paths.requests}.{again} Answer them as an OpenAI batch, with a "
            f"provider's batch API or with `vllm run-batch -i {_shell(self._paths.requests)} -o {_shell(self._paths.responses)} "
            f"--model {self._model}`, put the answers into {self._paths.responses} and start the same command again."
        )

    def close(self) -> None:
        pass


def _shell(path: Path) -> str:
    import shlex

    return shlex.quote(str(path))
