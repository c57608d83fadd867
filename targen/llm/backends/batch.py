"""OpenAI batch files: requests are written for someone else to answer; the next start reads the answers."""

import json
import logging
import shlex
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Set
from contextlib import closing
from itertools import pairwise
from pathlib import Path

from targen.config.groups.generation import Generator
from targen.llm.completions import answer_from_completion
from targen.llm.messages import ANY_REASON, LLM, Answer, AwaitingAnswers, Failure, Request
from targen.llm.provider_body import BodyChanges, body_changes
from targen.llm.registry import Backend, BackendInputs
from targen.llm.server_errors import ServerError, error_in, server_error
from targen.runtime.errors import UserError
from targen.runtime.jsonl import AppendLog, Json, read_jsonl, write_lines
from targen.runtime.paths import RunPaths, group_choices

log = logging.getLogger(__name__)
FAILURES = "batch-errors.jsonl"  # in calls/
MOST_ROUNDS = 9  # in which a line may fail while others are answered
FEW = 5  # lines of one start that may be refused for an unknown reason although no other line was answered
TASK_NAMES = frozenset(group_choices("task"))


class Batch:
    """Reads the response files of the run, and writes unanswered requests to request files.

    Custom ids are request ids, so lines may come in any order, be incomplete, repeat, or hold errors. `recorded` are the
    ids of the answers already on record in the run.
    """

    window = sys.maxsize

    def __init__(self, settings: Generator, paths: RunPaths, tasks: Iterable[str], recorded: frozenset[str]) -> None:
        self._settings, self._paths, self._tasks, self._recorded = settings, paths, frozenset(tasks), recorded
        self._changes = body_changes(settings)
        self._submitted: dict[str, Request] = {}
        self._answers: dict[str, Answer] = {}
        self._errors: dict[str, ServerError] = {}
        self._failures: set[tuple[str, str]] = set()  # id, and the round in which its line failed
        if files := paths.response_files:
            requested = {str(line.get("custom_id")) for path in paths.request_files for _, line in read_jsonl(path)}
            for path in files:
                self._read_file(path, requested | recorded)
            self._take_refusals(files[0])
            self._give_up()

    def _read_file(self, path: Path, known_ids: Set[str]) -> None:
        count, unknown, first_unknown = 0, 0, ""
        for number, line in read_jsonl(path, surrogates=True):
            count += 1
            if not self._read_line(line, known_ids, f"{path.name} {path.stat().st_mtime_ns}"):
                unknown += 1
                first_unknown = first_unknown or f"{path}:{number}: got the custom_id {line.get('custom_id')!r}"
        if unknown and unknown == count:
            raise UserError(
                f"{first_unknown}, which this run did not ask for, expected one of {self._paths.requests()}. This looks like the "
                "responses of another run: put the right file in its place."
            )
        if unknown:
            log.warning("generate: %d lines of %s may not belong to any request of this run", unknown, path)

    def _read_line(self, line: Json, known_ids: Set[str], round_: str) -> bool:
        """Stores the answer of one line, to be used if its request is submitted. False if no such request is known so far."""
        id = line.get("custom_id")
        if not isinstance(id, str):
            return False
        task = id.partition("-")[0]
        # A task that this start leaves out is no mistake.
        expected = id in known_ids or (task in TASK_NAMES and task not in self._tasks)
        if id in self._recorded:
            return expected
        outcome = _outcome(id, line)
        if isinstance(outcome, Answer):
            self._answers[id] = outcome
        else:
            self._errors.setdefault(id, outcome)
            self._failures.add((id, round_))
        return expected

    def _take_refusals(self, path: Path) -> None:
        """Turns the errors that are about one prompt into rejects: asked again, they would only come back.

        Raises: UserError if there is no answer, and no error that another try may mend.
        """
        open_errors = {id: error for id, error in self._errors.items() if id not in self._answers}
        unknown = sum(error.finish_reason == ANY_REASON for error in open_errors.values())
        proven = bool(self._answers) or (bool(self._recorded) and unknown <= FEW)
        hopeless = 0
        for id, error in open_errors.items():
            if error.about == "prompt" and (proven or error.finish_reason != ANY_REASON):
                self._answers[id] = Answer(id, error.words, error.finish_reason, {}, self._settings.model)
            else:
                hopeless += error.about != "moment"
        if not self._answers and hopeless == len(open_errors) > 0:
            raise UserError(
                f"{path}: got no answer, all {hopeless} requests were refused ({next(iter(open_errors.values())).words}), expected "
                "answers. Correct the cause, have the request files answered again, and put the answers in place of these."
            )

    def _give_up(self) -> None:
        """Turns a line that failed in MOST_ROUNDS rounds into a reject, if others are answered.

        The rounds are kept in a file, because the responses of one round take the place of those before.
        """
        path = self._paths.calls / FAILURES
        recorded = {(line["id"], line["round"]) for _, line in read_jsonl(path)} if path.exists() else set()
        new_failures = sorted((id, round_) for id, round_ in self._failures - recorded if id not in self._answers)
        if new_failures:
            with closing(AppendLog(path)) as failure_log:
                for id, round_ in new_failures:
                    failure_log.append({"id": id, "round": round_})
        rounds = Counter(id for id, _ in recorded | set(new_failures))
        others_answered = bool(self._answers or self._recorded)
        for id, error in self._errors.items():
            if id not in self._answers and others_answered and rounds[id] >= MOST_ROUNDS:
                words = f"{error.words}, in {rounds[id]} rounds"
                self._answers[id] = Answer(id, words, ANY_REASON, {}, self._settings.model)

    def submit(self, request: Request) -> None:
        """Adds a request to those that need an answer."""
        self._submitted[request.id] = request

    def collect(self) -> Iterator[Answer | Failure]:
        """The answers that the response files hold; without any, the request files are written.

        Raises: AwaitingAnswers if no submitted request has an answer: all of them are in the request files; UserError if a
        request exceeds `generator.max_bytes`.
        """
        answered = [id for id in self._submitted if id in self._answers]
        if not answered:
            self._write_requests()
            raise AwaitingAnswers(self._how_to_go_on())
        for id in answered:
            del self._submitted[id]
            yield self._answers[id]

    def _write_requests(self) -> None:
        """One line per request, in the order of the ids, in as few files as the provider's limits allow."""
        order = sorted(self._submitted)
        stale = self._paths.request_files
        ends = self._ends(order)
        for number, (start, end) in enumerate(pairwise([0, *ends]), start=1):
            write_lines(
                self._paths.requests(number),
                (_request_line(self._submitted[id], self._changes) for id in order[start:end]),
            )
        for path in set(stale) - {self._paths.requests(number) for number in range(1, len(ends) + 1)}:
            ids = (str(line.get("custom_id")) for _, line in read_jsonl(path))
            if all(id in self._submitted or id in self._answers or id in self._recorded for id in ids):
                path.unlink()

    def _ends(self, order: list[str]) -> list[int]:
        """The position in the order at which each file ends. Raises: UserError if a request is too large for any file."""
        ends: list[int] = []
        lines = size = 0
        for position, id in enumerate(order):
            length = len(_request_line(self._submitted[id], self._changes))  # ASCII: characters are bytes
            if length > self._settings.max_bytes:
                raise UserError(
                    f"generator.max_bytes: got {self._settings.max_bytes}, expected at least {length}, the size of the "
                    f"request {id}. Raise it, or shorten the prompt."
                )
            if lines == self._settings.max_lines or size + length > self._settings.max_bytes:
                ends.append(position)
                lines = size = 0
            lines, size = lines + 1, size + length
        return [*ends, len(order)]

    def _how_to_go_on(self) -> str:
        errors = [self._errors[id] for id in sorted(self._submitted) if id in self._errors]
        again = f" {len(errors)} of them came back with errors before ({errors[0].words})." if errors else ""
        files, first_file = self._paths.request_files, self._paths.requests()
        last_file = f" to {files[-1].name} ({len(files)} files)" if len(files) > 1 else ""
        other_responses = (
            f" (and so on, {files[-1].name} to {files[-1].name.replace('requests', 'responses')})" if last_file else ""
        )
        responses = first_file.with_name("responses.jsonl")
        return (
            f"{len(self._submitted)} requests wait for answers in {first_file}{last_file}.{again} Answer them as an OpenAI batch, with a "
            f"provider's batch API or with `vllm run-batch -i {shlex.quote(str(first_file))} -o {shlex.quote(str(responses))} "
            f"--model {shlex.quote(self._settings.model)}` (weights in a folder: --model FOLDER --served-model-name "
            f"{shlex.quote(self._settings.model)}), put the answers into {responses}{other_responses} and rerun the command."
        )

    def close(self) -> None:
        """Nothing to free: files are closed after each write."""


def _outcome(id: str, line: Json) -> Answer | ServerError:
    """The answer in a response line, or what its error is about. `vllm run-batch` writes an error as a text or twice nested."""
    response = line.get("response")
    response = response if isinstance(response, dict) else {}
    body, status_text = response.get("body"), str(response.get("status_code", 200))
    status = int(status_text) if status_text.isascii() and status_text.isdigit() else 200
    error = line.get("error") or error_in(body)
    if not error and status < 300:
        try:
            return answer_from_completion(id, body)
        except ValueError as err:
            return server_error(None, str(err))
    return server_error(status if status >= 300 else None, error or body)


def _request_line(request: Request, changes: BodyChanges) -> str:
    """The line of a request file."""
    return (
        f'{{"custom_id": {json.dumps(request.id)}, "method": "POST", "url": "/v1/chat/completions", '
        f'"body": {json.dumps(changes.body(request.body))}}}\n'
    )


def _make(inputs: BackendInputs) -> LLM:
    settings = inputs.settings
    return Batch(settings.generator, settings.paths, settings.tasks, inputs.calls.ids())


BACKEND = Backend(_make)
