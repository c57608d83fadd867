"""Whether a server holds its answers to the JSON schema that is sent: found out early, and said once.

A server may take no `response_format`, refuse single schemas, or take them and not care. None of it stops a run:
answers are read tolerantly; more of them may be rejected.
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
Post = Callable[[str, str], Awaitable[Answer | Failure]]  # id and body of a request, to its answer
SHOWN = 80  # characters of an answer
ENOUGH = 20  # answers, more than half of them odd, that overrule a probe whose answer kept to its schema
LONGEST_WAIT = 10.0  # seconds that a request whose schema was refused waits for the probe's answer
COMPLAINT = re.compile(r"response.?format|schema|structured.?output|guided|grammar", re.IGNORECASE)
FOLLOWS = "Answers are read tolerantly; more of them may be rejected."
QUESTION = "Which animal says meow? Answer with one word."
SCHEMA: Json = {  # whoever is held to it cannot answer the question
    "type": "object",
    "properties": {"animal": {"type": "string", "enum": ["trombone"]}},
    "required": ["animal"],
    "additionalProperties": False,
}


class SchemaRefused(Exception):
    """The server does not take the response_format of a request; the text is what it said."""


def complains(status: int, message: str) -> bool:
    """Whether an error is about the structured output that was asked for."""
    return status in (400, 422) and COMPLAINT.search(message) is not None


class StructuredOutputs:
    """What is known of one server: a probe asks it first, the real requests and answers tell the rest."""

    def __init__(self, base_url: str, model: str, record: Path) -> None:
        self._base_url = base_url
        form = {"type": "json_schema", "json_schema": {"name": "canary", "schema": SCHEMA, "strict": True}}
        body = {"model": model, "messages": [{"role": "user", "content": QUESTION}], "response_format": form}
        self._payload = json.dumps(body | {"temperature": 0.0, "max_tokens": 64}, sort_keys=True)
        self._hash = hashlib.sha256((self._payload + base_url).encode()).hexdigest()
        self._id = f"canary-probe-{self._hash[:12]}"
        self._verdict: Verdict = "unknown"
        self._known = asyncio.Event()  # the probe has ended
        self._waited_until: float | None = None  # of the loop's clock: from then on, no call waits for the probe
        self._left_out: set[str] = set()  # schemas that the server refuses
        self._none_taken = False  # it refuses any
        self._one_taken = False
        self._answers = self._odd = 0  # answers to a schema, and those that are no object of theirs
        self._warned = False
        self._calls = AppendLog(record)
        for number, line in read_jsonl(record):
            if line.get("id") == self._id and not self._known.is_set():
                self._known.set()
                self._judge(answer_of(line, f"{record}:{number}"))

    async def known(self, seconds: float) -> None:
        """Waits for the end of the probe, all callers together for so many seconds at most."""
        now = asyncio.get_running_loop().time()
        self._waited_until = self._waited_until or now + seconds
        if not self._known.is_set() and now < self._waited_until:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._waited_until):
                    await self._known.wait()

    async def probe(self, post: Post) -> None:
        """Asks the probe, unless its answer is on record. An error means only that nothing can be told."""
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
        except Exception as err:  # also of the kinds that end a run: real requests will meet them too
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
                "generate: %s does not hold its answers to the JSON schema that is sent: %s. %s",
                self._base_url,
                finding,
                FOLLOWS,
            )

    async def ask(self, request: Request, post: Post) -> Answer | Failure:
        """Posts a request, without its response_format where the server refuses it."""
        if self._none_taken or (self._left_out and _key(request) in self._left_out):
            return await _ask_plainly(request, post)
        try:
            done = await post(request.id, request.payload)
        except SchemaRefused as err:
            done = await _ask_plainly(request, post)
            if isinstance(done, Answer):  # so it was the response_format indeed
                await self._leave_out(request, str(err))
            return done
        if isinstance(done, Answer) and done.finish_reason == "stop":
            self._one_taken = True
            self._look_at(request, done.text)
        return done

    def _look_at(self, request: Request, text: str) -> None:
        """One answer that is no object tells of the server, unless the probe's kept to its schema: then it takes many."""
        if self._warned:
            return
        odd = not is_object(text, request.schema)
        self._answers, self._odd = self._answers + 1, self._odd + odd
        if odd and self._verdict != "held":
            self._warn(f"a request of step {request.step} was answered {_short(text)}")
        elif odd and self._answers >= ENOUGH and 2 * self._odd > self._answers:
            many = f"{self._odd} of {self._answers} answers are not objects of it"
            self._warn(f"{many}; the last one, of step {request.step}, is {_short(text)}")

    async def _leave_out(self, request: Request, said: str) -> None:
        """This schema from now on, or any response_format where the server takes none at all."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LONGEST_WAIT):
                await self._known.wait()
        if self._none_taken or _key(request) in self._left_out:
            return
        self._none_taken = self._verdict == "refused" or (self._verdict == "unknown" and not self._one_taken)
        self._left_out.add(_key(request))
        what = "a response_format" if self._none_taken else f"the JSON schema of {request.task}, step {request.step}"
        log.warning("generate: %s does not take %s (%s). It is left out. %s", self._base_url, what, said, FOLLOWS)

    def close(self) -> None:
        """Closes the log of trial calls."""
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
    """A text in quotes, on one line of ASCII."""
    return ascii(text if len(text) <= SHOWN else text[: SHOWN - 3] + "...")
