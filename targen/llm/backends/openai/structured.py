"""Finds out early whether a server enforces the JSON schema of a request, and warns once if it does not.

A server may refuse every `response_format`, refuse some schemas, or accept and ignore them. None of this stops a run:
answers are read tolerantly, but more of them may be rejected.
"""

import asyncio
import hashlib
import json
import logging
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Literal

from targen.llm.call_log import answer_of
from targen.llm.messages import Answer, Failure, Request, is_object, schema_problem
from targen.runtime.jsonl import AppendLog, Json, read_jsonl

log = logging.getLogger(__name__)
Verdict = Literal["unknown", "held", "ignored", "refused"]
Post = Callable[[str, str], Awaitable[Answer | Failure]]  # id and body of a request -> its answer
SHOWN = 80  # characters of an answer
ENOUGH = 20  # after this many answers, more than half of them odd, a probe that kept to its schema no longer counts
LONGEST_WAIT = 10.0  # seconds that a request with a refused schema waits for the probe
COMPLAINT = re.compile(r"response.?format|schema|structured.?output|guided|grammar", re.IGNORECASE)
FOLLOWS = "Answers are read tolerantly; more of them may be rejected."
QUESTION = "Which animal says meow? Answer with one word."
SCHEMA: Json = {  # a model held to this schema cannot answer the question
    "type": "object",
    "properties": {"animal": {"type": "string", "enum": ["trombone"]}},
    "required": ["animal"],
    "additionalProperties": False,
}


class SchemaRefused(Exception):
    """The server refuses the response_format of a request. The text is its message."""


def complains(status: int, message: str) -> bool:
    """Whether an error is about the requested structured output."""
    return status in (400, 422) and COMPLAINT.search(message) is not None


class StructuredOutputs:
    """What is known about one server, first from a probe, then from the real requests and answers."""

    def __init__(self, base_url: str, model: str, record: Path) -> None:
        self._base_url = base_url
        form = {"type": "json_schema", "json_schema": {"name": "canary", "schema": SCHEMA, "strict": True}}
        body = {"model": model, "messages": [{"role": "user", "content": QUESTION}], "response_format": form}
        self._payload = json.dumps(body | {"temperature": 0.0, "max_tokens": 64}, sort_keys=True)
        self._hash = hashlib.sha256((self._payload + base_url).encode()).hexdigest()
        self._id = f"canary-probe-{self._hash[:12]}"
        self._verdict: Verdict = "unknown"
        self._known = asyncio.Event()  # the probe has ended
        self._waited_until: float | None = None  # on the loop's clock: later, no call waits for the probe
        self._left_out: set[str] = set()  # schemas that the server refuses
        self._refuses_all = False  # it refuses every response_format
        self._accepted = False  # it accepted a response_format
        self._answers = self._odd = 0  # answers to requests with a schema, and those that do not fit it
        self._warned = False
        self._calls = AppendLog(record)
        for number, line in read_jsonl(record, halves=True):
            if line.get("id") == self._id and not self._known.is_set():
                self._known.set()
                self._judge(answer_of(line, f"{record}:{number}"))

    async def known(self, seconds: float) -> None:
        """Waits for the end of the probe, at most this many seconds after the first caller began to wait."""
        now = asyncio.get_running_loop().time()
        self._waited_until = self._waited_until or now + seconds
        if not self._known.is_set() and now < self._waited_until:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._waited_until):
                    await self._known.wait()

    async def probe(self, post: Post) -> None:
        """Sends the probe unless its answer is on record. If it fails, nothing is known about the server."""
        if self._known.is_set():
            return
        try:
            answer = await post(self._id, self._payload)
            if isinstance(answer, Failure):
                return
            self._calls.append(
                {"id": self._id, "step": "probe", "prompt_hash": self._hash, "text": answer.text}
                | {"finish_reason": answer.finish_reason, "usage": dict(answer.usage), "model": answer.model}
            )
            self._judge(answer)
        except SchemaRefused:
            self._verdict = "refused"
        except Exception as err:  # even one that would end a run: real requests will meet it too
            log.debug("generate: the probe of %s got no answer (%s)", self._base_url, err)
        finally:
            self._known.set()

    def _judge(self, answer: Answer) -> None:
        text = answer.text.strip()
        if is_object(text, SCHEMA) and schema_problem(json.loads(text), SCHEMA) is None:
            self._verdict = "held"
        elif answer.finish_reason in ("stop", "") or (answer.finish_reason == "length" and text[:1] not in ("", "{")):
            self._verdict = "ignored"
            self._warn(f"asked for {{'animal': 'trombone'}} and nothing else, it answered {_short(answer.text)}")

    def _warn(self, finding: str) -> None:
        if not self._warned:
            self._warned = True
            log.warning(
                "generate: %s does not enforce the JSON schema of requests: %s. %s",
                self._base_url,
                finding,
                FOLLOWS,
            )

    async def ask(self, request: Request, post: Post) -> Answer | Failure:
        """The answer to a request, which is sent without its response_format if the server refuses it."""
        if self._refuses_all or (self._left_out and _key(request) in self._left_out):
            return await _ask_plainly(request, post)
        try:
            done = await post(request.id, request.payload)
        except SchemaRefused as err:
            done = await _ask_plainly(request, post)
            if isinstance(done, Answer):  # so the response_format was the cause
                await self._leave_out(request, str(err))
            return done
        if isinstance(done, Answer) and done.finish_reason == "stop":
            self._accepted = True
            self._look_at(request, done.text)
        return done

    def _look_at(self, request: Request, text: str) -> None:
        """Warns at the first answer that does not fit its schema; after a probe that did, only if most answers do not."""
        if self._warned:
            return
        odd = not is_object(text, request.schema)
        self._answers, self._odd = self._answers + 1, self._odd + odd
        if odd and self._verdict != "held":
            self._warn(f"a request of step {request.step} was answered {_short(text)}")
        elif odd and self._answers >= ENOUGH and 2 * self._odd > self._answers:
            share = f"{self._odd} of {self._answers} answers do not fit it"
            self._warn(f"{share}; the last, of step {request.step}, is {_short(text)}")

    async def _leave_out(self, request: Request, said: str) -> None:
        """Leaves out this schema from now on, or every response_format if the server refuses all."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LONGEST_WAIT):
                await self._known.wait()
        if self._refuses_all or _key(request) in self._left_out:
            return
        self._refuses_all = self._verdict == "refused" or (self._verdict == "unknown" and not self._accepted)
        self._left_out.add(_key(request))
        what = "a response_format" if self._refuses_all else f"the JSON schema of {request.task}, step {request.step}"
        log.warning("generate: %s refuses %s (%s). It is left out. %s", self._base_url, what, said, FOLLOWS)

    def close(self) -> None:
        """Closes the log of the probe."""
        self._calls.close()


def _key(request: Request) -> str:
    return json.dumps(request.schema, sort_keys=True)


async def _ask_plainly(request: Request, post: Post) -> Answer | Failure:
    body = dict(request.body)
    del body["response_format"]
    try:
        return await post(request.id, json.dumps(body, sort_keys=True))
    except SchemaRefused as err:
        return Failure(request.id, str(err))


def _short(text: str) -> str:
    """A shortened text in quotes, on one line of ASCII."""
    return ascii(text if len(text) <= SHOWN else text[: SHOWN - 3] + "...")
