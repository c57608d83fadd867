"""OpenAI batch files: requests are written for somebody else to answer, answers are taken at the next start."""

import json
import logging
import shlex
import sys
from collections.abc import Iterable, Iterator

from targen.errors import UserError
from targen.jsonl import Json, read_jsonl, write_jsonl
from targen.llm import Answer, Failure, Request, answer_from_completion, refusal
from targen.paths import CONF, RunPaths

log = logging.getLogger(__name__)
TASK_NAMES = frozenset(path.stem for path in (CONF / "task").glob("*.yaml"))


class AwaitingAnswers(Exception):
    """All that can be asked now stands in the request file; the text says how to go on."""


class Batch:
    """Reads `responses.jsonl` of the run; what stays unanswered is written to `requests.jsonl`.

    Custom ids are request ids, so lines may come in any order, in part, twice, or with errors.
    Raises: AwaitingAnswers from `collect` when every submitted request has to be answered first.
    """

    window = sys.maxsize

    def __init__(self, paths: RunPaths, tasks: Iterable[str], known_ids: frozenset[str], model: str) -> None:
        self._paths, self._model, self._tasks = paths, model, frozenset(tasks)
        self._submitted: dict[str, Request] = {}
        self._answers: dict[str, Answer] = {}
        self._errors: dict[str, str] = {}
        if not paths.responses.exists():
            return
        asked = (
            frozenset(str(line.get("custom_id")) for _, line in read_jsonl(paths.requests))
            if paths.requests.exists()
            else frozenset()
        )
        lines = list(read_jsonl(paths.responses))
        strange = [(number, line.get("custom_id")) for number, line in lines if not self._read(line, asked | known_ids)]
        if strange and len(strange) == len(lines):
            number, id = strange[0]
            raise UserError(
                f"{paths.responses}:{number}: got the custom_id {id!r}, which this run did not ask for, expected one of "
                f"{paths.requests}. This looks like the responses of another run: put the right file in its place."
            )
        if strange:
            log.warning("generate: %d lines of %s may answer nothing that this run asks", len(strange), paths.responses)

    def _read(self, line: Json, known: frozenset[str]) -> bool:
        """Takes one line, whose answer counts if its request is made; False: no such request is known so far."""
        id = line.get("custom_id")
        if not isinstance(id, str):
            return False
        task = id.partition("-")[0]
        expected = id in known or (task in TASK_NAMES and task not in self._tasks)  # of a task left out this time
        response = line.get("response")
        response = response if isinstance(response, dict) else {}
        body = response["body"] if isinstance(response.get("body"), dict) else {}
        error = line.get("error") or body.get("error")
        if isinstance(error, dict) and (refused := refusal(id, error, self._model)) is not None:
            self._answers[id] = refused
            return expected
        try:
            if error or response.get("status_code", 200) != 200:
                raise ValueError(error or f"status {response['status_code']}")
            self._answers[id] = answer_from_completion(id, body)
        except ValueError as err:
            self._errors.setdefault(id, str(err))
        return expected

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
            {
                "custom_id": id,
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": json.loads(self._submitted[id].payload),
            }
            for id in sorted(self._submitted)
        ]
        write_jsonl(self._paths.requests, lines)
        failed = sorted(id for id in self._submitted if id in self._errors)
        again = f" {len(failed)} of them came back as errors before ({self._errors[failed[0]]})." if failed else ""
        raise AwaitingAnswers(
            f"{len(lines)} requests wait for answers in {self._paths.requests}.{again} Answer them as an OpenAI batch, with a "
            f"provider's batch API or with `vllm run-batch -i {shlex.quote(str(self._paths.requests))} -o {shlex.quote(str(self._paths.responses))} "
            f"--model {self._model}`, put the answers into {self._paths.responses} and start the same command again."
        )

    def close(self) -> None:
        pass
