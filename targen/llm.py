"""What is asked of a language model and what comes back, whatever answers it."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

from pydantic import Field
from pydantic.dataclasses import dataclass as checked_dataclass

from targen.errors import RowError
from targen.jsonl import Json
from targen.task import STRICT

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator

Step = Literal["contexts", "instance_seed", "generation", "self_correction"]
STEPS: tuple[Step, ...] = ("contexts", "instance_seed", "generation", "self_correction")


@checked_dataclass(frozen=True, config=STRICT)
class Sampling:
    temperature: Annotated[float, Field(ge=0)]
    top_p: Annotated[float, Field(gt=0, le=1)]
    max_tokens: Annotated[int, Field(ge=1)]


@dataclass(frozen=True)
class Request:
    """One call. `id` is stable: the place of the call in the run, and a hash of everything that changes its answer."""

    id: str
    hash: str
    task: str
    step: Step
    payload: str  # body of an OpenAI chat completion: JSON, keys sorted, the bytes that the hash is of
    schema: Json  # of the answer


@dataclass(frozen=True)
class Answer:
    """One completed call. `finish_reason` "length" means that the text was cut at max_tokens."""

    id: str
    text: str
    finish_reason: str
    usage: Mapping[str, int]  # prompt_tokens, completion_tokens; empty where the server does not say
    model: str


@dataclass(frozen=True)
class Failure:
    """A call that got no answer, retries included."""

    id: str
    reason: str


class LLM(Protocol):
    """A backend. Requests go in as they become known, answers come out in any order."""

    @property
    def window(self) -> int:
        """How many requests it wants to hold at once."""
        ...

    def submit(self, request: Request) -> None:
        """Takes a request; need not begin to work on it."""

    def collect(self) -> Iterator[Answer | Failure]:
        """Waits until at least one submitted request is done, and gives all that are.

        Raises: UserError when no further answer can come.
        """
        ...

    def close(self) -> None: ...


def make_request(
    place: str,
    task: str,
    step: Step,
    model: str,
    messages: list[dict[str, str]],
    sampling: Sampling,
    schema: Json,
    seed: int,
) -> Request:
    """The request at one place of a run, e.g. `c0-0003-a1` (label cell, index, attempt)."""
    body: dict[str, Any] = {"model": model, "messages": messages, **asdict(sampling), "seed": seed}
    body["response_format"] = {
        "type": "json_schema",
        "json_schema": {"name": step, "schema": schema, "strict": True},
    }
    payload = json.dumps(body, sort_keys=True)
    digest = hashlib.sha256(payload.encode()).hexdigest()
    return Request(f"{task}-{step}-{place}-{digest[:12]}", digest, task, step, payload, schema)


def answer_from_completion(id: str, completion: Json) -> Answer:
    """The answer in the body of an OpenAI chat completion. Raises: ValueError when it holds none."""
    try:
        choice = completion["choices"][0]
        text = choice["message"].get("content") or ""
        usage = completion.get("usage") or {}
        counts = {
            name: int(usage[name]) for name in ("prompt_tokens", "completion_tokens") if usage.get(name) is not None
        }
        return Answer(id, str(text), str(choice.get("finish_reason") or ""), counts, str(completion.get("model") or ""))
    except (KeyError, IndexError, TypeError, AttributeError, OverflowError) as err:
        raise ValueError(f"not a chat completion ({type(err).__name__}: {err})") from None


REFUSALS = {
    "content_filter": "content_filter",
    "context_length_exceeded": "context_length",
}  # error code -> finish_reason
UNUSABLE = {
    "length": "answer was cut at max_tokens",
    "content_filter": "answer was withheld by the provider's content filter",
    "context_length": "prompt is longer than the model's context",
}


def refusal(id: str, error: Json, model: str) -> Answer | None:
    """The answer that an error stands for, where asking this prompt again can only give the same error."""
    code = str(error.get("code") or error.get("type") or "")
    if "maximum context length" in str(error.get("message")):  # vLLM says so in words only
        code = "context_length_exceeded"
    return Answer(id, "", REFUSALS[code], {}, model) if code in REFUSALS else None


def read_object(answer: Answer, schema: Json) -> Json:
    """The JSON object of an answer, also from within prose or a code fence. Raises: RowError with the reason."""
    if answer.finish_reason in UNUSABLE:
        raise RowError(UNUSABLE[answer.finish_reason])
    if not answer.text.strip():
        raise RowError("answer is empty")
    decoder, start = json.JSONDecoder(strict=False), answer.text.find("{")
    while start >= 0:
        try:
            found, _ = decoder.raw_decode(answer.text, start)
            break
        except (ValueError, RecursionError):
            start = answer.text.find("{", start + 1)
    else:
        raise RowError("answer holds no JSON object")
    if (problem := schema_problem(found, schema)) is not None:
        raise RowError(f"answer does not fit the schema: {problem}")
    if not _is_unicode(found):
        raise RowError("answer holds half a character (a lone surrogate)")
    return dict(found)


def schema_problem(found: Any, schema: Json) -> str | None:
    """Where and by which rule a value breaks a JSON schema first, None where it fits."""
    error = next(_validator(json.dumps(schema)).iter_errors(found), None)
    if error is None:
        return None
    return f"{'.'.join(str(part) for part in error.absolute_path) or 'the object'}: {error.validator}"


@lru_cache(maxsize=256)
def _validator(schema: str) -> "Draft202012Validator":
    """A validator is dear to make; the schemas of a run are few."""
    from jsonschema import Draft202012Validator

    return Draft202012Validator(json.loads(schema))


def _is_unicode(found: Any) -> bool:
    try:
        json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True
