"""Requests to a language model and its answers, the same for every backend."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

from targen.config.groups.generation import QuestionStep, Sampling, Step
from targen.llm.fast_json import decode_json, encode_json
from targen.llm.json_output import conform_to_schema, objects_in, repair_object, without_thoughts
from targen.runtime.errors import RowError
from targen.runtime.jsonl import Json
from targen.runtime.randomness import rng

_SORTED = json.JSONEncoder(sort_keys=True, check_circular=False)


@dataclass(frozen=True)
class Request:
    """One call. `id` is stable: the position of the call in the run and a hash of everything that changes its answer."""

    id: str
    hash: str
    task: str
    step: Step | QuestionStep
    body: Json  # of an OpenAI chat completion
    schema: Json  # of the answer


@dataclass(frozen=True)
class Answer:
    """One completed call. `finish_reason` "length" means that the text was cut at max_tokens."""

    id: str
    text: str
    finish_reason: str
    usage: Mapping[str, int]  # prompt_tokens, completion_tokens; empty if the server does not report them
    model: str


@dataclass(frozen=True)
class Failure:
    """A call that got no answer, even after retries."""

    id: str
    reason: str


class AwaitingAnswers(Exception):
    """No answer can come before the next start; the text says how to continue."""


class LLM(Protocol):
    """A backend. Requests are submitted as they become known; answers come back in any order."""

    @property
    def window(self) -> int:
        """The number of requests it wants to hold at once."""
        ...

    def submit(self, request: Request) -> None:
        """Accepts a request, and may start on it later."""

    def collect(self) -> Iterator[Answer | Failure]:
        """Waits until at least one submitted request is done, then yields all that are.

        Raises: UserError if no further answer can come; AwaitingAnswers if none can before the next start. Requests may be
        submitted after it.
        """
        ...

    def close(self) -> None:
        """Frees the model or the connections."""


def call_seed(seed: int, task: str, step: Step | QuestionStep, position: str) -> int:
    """The sampling seed of the call at a position, in a run with this master seed."""
    return rng(seed, task, step, position).getrandbits(31)


def make_request(
    position: str,
    task: str,
    step: Step | QuestionStep,
    model: str,
    messages: list[dict[str, str]],
    sampling: Sampling,
    schema: Json,
    seed: int,
) -> Request:
    """The request at one position in a run, such as `c0-0003-a1` (label cell, index, attempt).

    The fields of the schema keep their order, because a server that follows the schema writes them in this order: an
    explanation before a label. The hash is taken over the same body with sorted keys.
    """
    body: dict[str, Any] = {"model": model, "messages": messages, **sampling.body, "seed": seed}
    body["response_format"] = {
        "type": "json_schema",
        "json_schema": {"name": step, "schema": schema, "strict": True},
    }
    digest = hashlib.sha256(_SORTED.encode(body).encode()).hexdigest()
    return Request(f"{task}-{step}-{position}-{digest[:12]}", digest, task, step, body, schema)


SHOWN = 80  # characters of a text that stands in a message
ANY_REASON = "request_refused"  # finish_reason of a refusal without a reason that is known
NOT_FINISHED = re.compile(
    r"error|abort|cancel|time.?out|resource|overload|fail|interrupt|unavailable|network|\b(un)?load\b", re.IGNORECASE
)  # finish_reasons of a call that broke off, in the words of several servers
CUT = "answer was cut at max_tokens"
WITHHELD = "answer was withheld by the provider's content filter"
TOO_LONG = "prompt is longer than the model's context"
ONLY_THOUGHTS = "model only thought (reasoning_content) and wrote no answer"
THOUGHTS_CUT = "model thought (reasoning_content) until it was cut at max_tokens"
NO_ROOM = "prompt and max_tokens do not fit into the model's context"
UNUSABLE = {  # finish_reason -> why nothing is read from the answer
    "length": CUT,
    "max_tokens": CUT,
    "model_length": CUT,
    "model_context_window_exceeded": CUT,
    "content_filter": WITHHELD,
    "safety": WITHHELD,
    "recitation": WITHHELD,
    "blocklist": WITHHELD,
    "prohibited_content": WITHHELD,
    "sensitive": WITHHELD,
    "error_toxic": WITHHELD,
    "context_length": TOO_LONG,
    "no_room": NO_ROOM,
    "reasoning": ONLY_THOUGHTS,
    "reasoning_length": THOUGHTS_CUT,
    "blank": "answer is empty",
    "invalid_json": "server could not make the answer fit the schema",
    ANY_REASON: "server refuses this request",
    "refusal": "model refused to answer",
    "tool_calls": "answer is a tool call",
    "function_call": "answer is a tool call",
}
_MORE_ROOM = "Serve the model with a longer context, or lower synth.sampling.*.max_tokens"
_THINK_LESS = (
    "Switch its thinking off (generator.chat_template_kwargs={enable_thinking: false} for many models, generator.extra_body for "
    "others), start the server without a reasoning parser, or raise synth.sampling.*.max_tokens"
)
REMEDIES: Mapping[str | None, str] = {  # for a reason that most answers of a run share; None: any other
    None: "Take a better model or prompt",
    CUT: "Raise synth.sampling.*.max_tokens, or switch the model's thinking off",
    ONLY_THOUGHTS: _THINK_LESS,
    THOUGHTS_CUT: _THINK_LESS,
    TOO_LONG: _MORE_ROOM,
    NO_ROOM: _MORE_ROOM,
}


def why_unfinished(answer: Answer) -> str | None:
    """How the server broke an answer off; None if it is complete. Such calls are made again."""
    reason = answer.finish_reason
    if reason.lower() not in UNUSABLE and (NOT_FINISHED.search(reason) or not (reason or answer.text)):
        return f"finish_reason {reason[:80]!r}"
    return None


def excerpt(text: str) -> str:
    """A shortened text in quotes, on one line of ASCII."""
    return ascii(text if len(text) <= SHOWN else text[: SHOWN - 3] + "...")


def read_object(answer: Answer, schema: Json) -> Json:
    """The first object of an answer that fits the schema, without keys unknown to the schema; no value is made up.

    The object may stand in prose, in a code fence or after a `<think>` part. Callers share it and must not change it.
    Raises: RowError with the reason if there is none.
    """
    if (why := UNUSABLE.get(answer.finish_reason.lower())) is not None:
        raise RowError(f"{why}: {answer.text}" if answer.finish_reason == ANY_REASON else why)
    if not answer.text.strip():
        raise RowError("answer is empty")
    return _fitting(answer.text, answer.finish_reason == "stop", encode_json(schema))


@lru_cache(maxsize=64)
def _fitting(text: str, finished: bool, schema_text: bytes) -> Json:
    """Cached for the slots that share a call."""
    first_mismatch = None
    for value in _candidates(without_thoughts(text), finished):
        if (mismatch := _problem(value, schema_text)) is not None:
            value = conform_to_schema(value, decode_json(schema_text))
            mismatch = _problem(value, schema_text)
        if mismatch is None:
            if not (text.isascii() and "\\u" not in text) and not _is_unicode(value):
                raise RowError("answer holds half a character (a lone surrogate)")
            return dict(value)
        first_mismatch = first_mismatch or mismatch
    if first_mismatch is None:
        raise RowError("answer holds no JSON object")
    raise RowError(f"answer does not fit the schema: {first_mismatch}")


def _candidates(text: str, finished: bool) -> Iterator[Json]:
    yield from objects_in(text)
    if (value := repair_object(text, finished)) is not None:
        yield value


def is_object(text: str, schema: Json) -> bool:
    """Whether the whole text is an object with the required fields, as it is if the server enforces the schema."""
    try:
        value = decode_json(text, strict=False)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and all(name in value for name in schema["required"])


def schema_problem(value: Any, schema: Json) -> str | None:
    """The first position and rule at which a value breaks a JSON schema; None if it fits."""
    return _problem(value, encode_json(schema))


def _problem(value: Any, schema_text: bytes) -> str | None:
    from fastjsonschema import JsonSchemaValueException

    try:
        _validator(schema_text)(value)
    except JsonSchemaValueException as err:
        return f"{'.'.join(err.path[1:]) or 'the object'}: {err.rule}"
    return None


@lru_cache(maxsize=256)
def _validator(schema: bytes) -> Callable[[Any], Any]:
    """Validators are expensive to make and few: one per schema of a run."""
    import fastjsonschema

    check: Callable[[Any], Any] = fastjsonschema.compile(decode_json(schema))
    return check


def _is_unicode(value: Any) -> bool:
    """Whether no text in the value holds half a character, which a JSON escape can write."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True
