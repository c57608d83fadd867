"""Requests to a language model and its answers, the same for every backend."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

from targen.config.groups.generation import Sampling, Step
from targen.llm.json_output import conformed, objects_in, repaired, without_thoughts
from targen.runtime.errors import RowError
from targen.runtime.jsonl import Json
from targen.runtime.randomness import rng

_SORTED = json.JSONEncoder(sort_keys=True)


@dataclass(frozen=True)
class Request:
    """One call. `id` is stable: the position of the call in the run and a hash of everything that changes its answer."""

    id: str
    hash: str
    task: str
    step: Step
    body: Json  # of an OpenAI chat completion
    schema: Json  # of the answer

    @property
    def payload(self) -> str:
        """The body as JSON, made when it is sent: a resumed run never sends most of its requests."""
        return json.dumps(self.body)


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


def call_seed(seed: int, task: str, step: Step, position: str) -> int:
    """The sampling seed of the call at a position, in a run with this master seed."""
    return rng(seed, task, step, position).getrandbits(31)


def make_request(
    position: str,
    task: str,
    step: Step,
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


def answer_from_completion(id: str, completion: Json) -> Answer:
    """The answer in the body of an OpenAI chat completion. Raises: ValueError if there is none."""
    try:
        choice = completion["choices"][0]
        text, finish_reason = _said(choice["message"], str(choice.get("finish_reason") or ""))
        return Answer(id, text, finish_reason, _counts(completion.get("usage")), str(completion.get("model") or ""))
    except (KeyError, IndexError, TypeError, AttributeError) as err:
        raise ValueError(f"not a chat completion ({type(err).__name__}: {err})") from None


def _said(message: Json, finish_reason: str) -> tuple[str, str]:
    """Text and finish_reason of a message; a refusal becomes its text, with the finish_reason "refusal"."""
    content, refused = message.get("content") or "", str(message.get("refusal") or "")
    if isinstance(content, list):
        parts = [part if isinstance(part, dict) else {"text": part} for part in content]
        content = "".join(str(part.get("text") or "") for part in parts)
        refused = refused or "".join(str(part.get("refusal") or "") for part in parts)
    elif not isinstance(content, str):
        content = json.dumps(content)
    if refused and not content:
        return refused, "refusal"
    if not content and (message.get("tool_calls") or message.get("function_call")):
        return "", "tool_calls"
    return content, finish_reason


def _counts(usage: Any) -> dict[str, int]:
    """Tokens as the server counts them; values that are not counts are left out."""
    counts = {}
    for name in ("prompt_tokens", "completion_tokens") if isinstance(usage, dict) else ():
        try:
            count = int(usage[name])
        except (KeyError, TypeError, ValueError, OverflowError):
            continue
        if 0 <= count < MOST_TOKENS:
            counts[name] = count
    return counts


MOST_TOKENS = 10**12  # of one call; a larger number is not a count
REFUSALS = {
    "content_filter": "content_filter",
    "context_length_exceeded": "context_length",
}  # error code -> finish_reason
UNUSABLE = {
    "length": "answer was cut at max_tokens",
    "content_filter": "answer was withheld by the provider's content filter",
    "context_length": "prompt is longer than the model's context",
    "refusal": "model refused to answer",
    "tool_calls": "answer is a tool call",
    "function_call": "answer is a tool call",
}


def refusal(id: str, error: Json, model: str) -> Answer | None:
    """The answer that an error stands for if the same prompt can only give the same error again, else None."""
    code = str(error.get("code") or error.get("type") or "")
    if "maximum context length" in str(error.get("message")):  # vLLM has no code for it
        code = "context_length_exceeded"
    return Answer(id, "", REFUSALS[code], {}, model) if code in REFUSALS else None


def read_object(answer: Answer, schema: Json) -> Json:
    """The first object of an answer that fits the schema, without keys unknown to the schema; no value is made up.

    The object may stand in prose, in a code fence or after a `<think>` part. Callers share it and must not change it.
    Raises: RowError with the reason if there is none.
    """
    if answer.finish_reason in UNUSABLE:
        raise RowError(UNUSABLE[answer.finish_reason])
    if not answer.text.strip():
        raise RowError("answer is empty")
    return _fitting(answer.text, answer.finish_reason == "stop", json.dumps(schema))


@lru_cache(maxsize=64)
def _fitting(text: str, finished: bool, schema_text: str) -> Json:
    """Cached for the slots that share a call."""
    schema, problem = json.loads(schema_text), None
    for candidate in _candidates(without_thoughts(text), finished):
        value = conformed(candidate, schema)
        wrong = _problem(value, schema_text)
        if wrong is None:
            if not (text.isascii() and "\\u" not in text) and not _is_unicode(value):
                raise RowError("answer holds half a character (a lone surrogate)")
            return dict(value)
        problem = problem or wrong
    if problem is None:
        raise RowError("answer holds no JSON object")
    raise RowError(f"answer does not fit the schema: {problem}")


def _candidates(text: str, finished: bool) -> Iterator[Json]:
    yield from objects_in(text)
    if (value := repaired(text, finished)) is not None:
        yield value


def is_object(text: str, schema: Json) -> bool:
    """Whether the whole text is an object with the required fields, as it is if the server enforces the schema."""
    try:
        value = json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and all(name in value for name in schema["required"])


def schema_problem(value: Any, schema: Json) -> str | None:
    """The first place and rule at which a value breaks a JSON schema; None if it fits."""
    return _problem(value, json.dumps(schema))


def _problem(value: Any, schema_text: str) -> str | None:
    from fastjsonschema import JsonSchemaValueException

    try:
        _validator(schema_text)(value)
    except JsonSchemaValueException as err:
        return f"{'.'.join(err.path[1:]) or 'the object'}: {err.rule}"
    return None


@lru_cache(maxsize=256)
def _validator(schema: str) -> Callable[[Any], Any]:
    """Validators are expensive to make and few: one per schema of a run."""
    import fastjsonschema

    check: Callable[[Any], Any] = fastjsonschema.compile(json.loads(schema))
    return check


def _is_unicode(value: Any) -> bool:
    """Whether no text in the value holds half a character, which a JSON escape can write."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True
