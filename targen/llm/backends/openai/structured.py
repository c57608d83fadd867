"""Finds out early what a server takes and whether it enforces the JSON schema of a request, and warns once if it does not.

The probe is like the requests of a run: with a system message, a seed, sampling and a schema. What the server refuses of it is
changed from then on (see adaptation.py). A server may refuse every `response_format`, refuse some schemas, or accept and
ignore them. None of this stops a run: answers are read tolerantly, but more of them may be rejected.
"""

import asyncio
import hashlib
import json
import logging
from contextlib import suppress
from pathlib import Path
from typing import Literal

from targen.llm.backends.openai.adaptation import FORMAT, Adaptation, Post
from targen.llm.backends.openai.connection import on_this_machine
from targen.llm.call_log import answer_of
from targen.llm.messages import (
    ONLY_THOUGHTS,
    REMEDIES,
    THOUGHTS_CUT,
    UNUSABLE,
    Answer,
    Request,
    excerpt,
    is_object,
    schema_problem,
)
from targen.llm.provider_body import BodyChanges
from targen.runtime.jsonl import AppendLog, Json, read_jsonl

log = logging.getLogger(__name__)
Verdict = Literal["unknown", "held", "ignored", "refused"]
ENOUGH = 20  # after this many answers, more than half of them odd, a probe that kept to its schema no longer counts
SILENT, SILENT_HERE = 0.1, 0.04  # of the time for which calls wait for the probe; here: a server on this machine
LONGEST_WAIT = 10.0  # seconds that a request with a refused schema waits for the probe
FOLLOWS = "Answers are read tolerantly; more of them may be rejected."
INTRODUCTION, QUESTION = "You answer questions.", "Which animal says meow? Answer with one word."
SCHEMA: Json = {  # a model held to this schema cannot answer the question
    "type": "object",
    "properties": {"animal": {"type": "string", "enum": ["trombone"]}},
    "required": ["animal"],
    "additionalProperties": False,
}


class StructuredOutputs:
    """What is known about one server, first from a probe, then from the real requests and answers."""

    def __init__(self, base_url: str, model: str, record: Path, changes: BodyChanges) -> None:
        self._base_url = base_url
        self._silent = SILENT_HERE if on_this_machine(base_url) else SILENT
        self.adaptation = Adaptation(base_url, changes)
        self._body: Json = {
            "model": model,
            "messages": [{"role": "system", "content": INTRODUCTION}, {"role": "user", "content": QUESTION}],
            **{"temperature": 0.0, "top_p": 1.0, "max_tokens": 64, "seed": 0},
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "canary", "schema": SCHEMA, "strict": True},
            },
        }
        self._hash = hashlib.sha256(
            (json.dumps(changes.body(self._body), sort_keys=True) + base_url).encode()
        ).hexdigest()
        self._id = f"canary-probe-{self._hash[:12]}"
        self._verdict: Verdict = "unknown"
        self._probe_ended = asyncio.Event()  # the probe has ended
        self._waited_since: float | None = None  # on the loop's clock: the first call that waits for the probe
        self._left_out: set[str] = set()  # schemas that the server refuses
        self._refuses_all = False  # it refuses every response_format
        self._accepted = False  # it accepted a response_format
        self._answers = self._odd = 0  # answers to requests with a schema, and those that do not fit it
        self._warned = FORMAT in changes.drop  # whoever leaves it out knows
        self._warned_of_thoughts = False
        self._calls = AppendLog(record)
        for number, line in read_jsonl(record, surrogates=True):
            if line.get("id") == self._id and not self._probe_ended.is_set():
                self._probe_ended.set()
                self._conclude(answer_of(line, f"{record}:{number}"), line.get("adapted") or {})

    async def wait_for_probe(self, seconds: float) -> None:
        """Waits for the end of the probe, at most this many seconds after the first caller began to wait.

        Only a small part of them if the server has refused nothing by then: a refusal comes at once, so it is writing its answer.
        """
        if self._probe_ended.is_set():
            return
        now = asyncio.get_running_loop().time()
        self._waited_since = self._waited_since or now
        for share in (self._silent, 1.0):
            deadline = self._waited_since + share * seconds
            if not self._probe_ended.is_set() and now < deadline and (share < 1 or self.adaptation.refuses):
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(deadline):
                        await self._probe_ended.wait()

    async def probe(self, post: Post) -> None:
        """Sends the probe unless its answer is on record. If it fails, nothing is known about the server."""
        if self._probe_ended.is_set():
            return
        try:
            answer, applied = await self._probe(post)
            adapted = self.adaptation.learnt | applied
            self._calls.append(
                {"id": self._id, "step": "probe", "prompt_hash": self._hash, "text": answer.text}
                | {"finish_reason": answer.finish_reason, "usage": dict(answer.usage), "model": answer.model}
                | ({"adapted": adapted} if adapted else {})
            )
            self._conclude(answer, adapted)
        except Exception as err:  # even one that would end a run: real requests will meet it too
            log.debug("generate: the probe of %s got no answer (%s)", self._base_url, err)
        finally:
            self._probe_ended.set()

    async def _probe(self, post: Post) -> tuple[Answer, dict[str, str]]:
        """The answer to the probe, and the changes that it took.

        A status 500 that comes with a response_format, not without one, and again with one, means that it is refused.
        """
        try:
            return await self.adaptation.answer(post, self._id, self._body, plain=False)
        except Exception as err:
            if not str(err).startswith("status 500"):
                raise
            words, self.adaptation.refuses = str(err), True
        plain, applied = await self.adaptation.answer(post, self._id, self._body, plain=True)
        try:
            return await self.adaptation.answer(post, self._id, self._body, plain=False)
        except Exception as err:
            if not str(err).startswith("status 500"):
                raise
            return plain, applied | {FORMAT: words}

    def _conclude(self, answer: Answer, adapted: dict[str, str]) -> None:
        self.adaptation.learn({change: words for change, words in adapted.items() if change != FORMAT})
        if FORMAT in adapted:
            self._verdict = "refused"
            self._leave_out_all(adapted[FORMAT])
        else:
            self._judge(answer)

    def _judge(self, answer: Answer) -> None:
        text = answer.text.strip()
        if is_object(text, SCHEMA) and schema_problem(json.loads(text), SCHEMA) is None:
            self._verdict = "held"
        elif answer.finish_reason in ("stop", "") or (answer.finish_reason == "length" and text[:1] not in ("", "{")):
            self._verdict = "ignored"
            self._warn(f"asked for {{'animal': 'trombone'}} and nothing else, it answered {excerpt(answer.text)}")

    def _warn(self, finding: str) -> None:
        if not self._warned:
            self._warned = True
            words = "generate: %s does not enforce the JSON schema of requests: %s. %s"
            log.warning(words, self._base_url, finding, FOLLOWS)

    async def ask(self, request: Request, post: Post) -> Answer:
        """The answer to a request, which is sent without its response_format if the server refuses it."""
        plain = self._refuses_all or (bool(self._left_out) and _key(request) in self._left_out)
        answer, applied = await self.adaptation.answer(post, request.id, request.body, plain)
        if (why := UNUSABLE.get(answer.finish_reason)) in (
            ONLY_THOUGHTS,
            THOUGHTS_CUT,
        ) and not self._warned_of_thoughts:
            self._warned_of_thoughts = True
            log.warning("generate: %s, step %s: %s. %s", self._base_url, request.step, why, REMEDIES[why])
        if FORMAT in applied:  # it was the cause, since the request was answered without it
            await self._leave_out(request, applied[FORMAT])
        elif answer.finish_reason == "stop" and not plain:
            self._accepted = True
            self._check_fit(request, answer.text)
        return answer

    def _check_fit(self, request: Request, text: str) -> None:
        """Warns at the first answer that does not fit its schema; after a probe that did, only if most answers do not."""
        if self._warned:
            return
        odd = not is_object(text, request.schema)
        self._answers, self._odd = self._answers + 1, self._odd + odd
        if odd and self._verdict != "held":
            self._warn(f"a request of step {request.step} was answered {excerpt(text)}")
        elif odd and self._answers >= ENOUGH and 2 * self._odd > self._answers:
            share = f"{self._odd} of {self._answers} answers do not fit it"
            self._warn(f"{share}; the last, of step {request.step}, is {excerpt(text)}")

    async def _leave_out(self, request: Request, message: str) -> None:
        """Leaves out this schema from now on, or every response_format if the server refuses all."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LONGEST_WAIT):
                await self._probe_ended.wait()
        if self._refuses_all or _key(request) in self._left_out:
            return
        if self._verdict == "refused" or (self._verdict == "unknown" and not self._accepted):
            self._leave_out_all(message)
            return
        self._left_out.add(_key(request))
        self._warn_left_out(f"the JSON schema of {request.task}, step {request.step}", message)

    def _leave_out_all(self, message: str) -> None:
        if not self._refuses_all:
            self._refuses_all = True
            self._warn_left_out("a response_format", message)

    def _warn_left_out(self, refused: str, message: str) -> None:
        log.warning("generate: %s refuses %s (%s). It is left out. %s", self._base_url, refused, message, FOLLOWS)

    def close(self) -> None:
        """Closes the log of the probe."""
        self._calls.close()


def _key(request: Request) -> str:
    return json.dumps(request.schema, sort_keys=True)
