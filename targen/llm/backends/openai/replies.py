"""The meaning of a server's reply: an answer, a retry, a failure of this call, or the end of the run."""

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from targen.config.groups.generation import Generator
from targen.llm.backends.openai.structured import SchemaRefused, complains
from targen.llm.messages import Answer, Failure, answer_from_completion, refusal
from targen.runtime.jsonl import Json

MESSAGE_LENGTH = 300  # characters of a server's message that are shown
OVERLOADED = frozenset({429, 502, 503, 504})
AGAIN = OVERLOADED | {408, 409, 425}


class FatalError(Exception):
    """No call can succeed. The text is for the user."""


class RetryableError(Exception):
    """This call may succeed later. The text begins with the kind of trouble, up to a colon."""

    def __init__(
        self,
        reason: str,
        after: float | None = None,
        overloaded: bool = False,
        expensive: bool = False,
        unreachable: str | None = None,
        lost: bool = False,
    ) -> None:
        super().__init__(reason)
        self.after = after  # seconds that the server asks to wait
        self.overloaded = overloaded
        self.expensive = expensive  # it cost much time or memory: few tries
        self.unreachable = unreachable  # why there was no connection
        self.lost = lost  # there was no connection, or it broke
        self.server: Any = None  # where it was tried


@dataclass(frozen=True)
class Reply:
    """A server's reply to one call."""

    status: int
    headers: Mapping[str, str]
    text: str


def outcome_of(id: str, reply: Reply, server: Generator, key: str | None, reached: bool) -> Answer | Failure:
    """The answer or the failure that a reply stands for. `reached`: the server has given an answer before.

    Raises: RetryableError, FatalError, SchemaRefused.
    """
    if reply.status == 200:
        try:
            return answer_from_completion(id, json.loads(reply.text))
        except (ValueError, RecursionError) as err:
            raise RetryableError(f"status 200 without a chat completion: {err}") from None
    error = _error(reply.text)
    message = said(str(error.get("message", reply.text)), key)
    status = f"status {reply.status}: {message}"
    if problem := _problem(reply, status, server, key, reached):
        raise FatalError(f"generator.base_url: {server.base_url} answers {problem}")
    if reply.status in AGAIN or reply.status >= 500 or reply.status == 404:
        raise RetryableError(status, seconds(reply.headers.get("Retry-After")), reply.status in OVERLOADED)
    if (refused := refusal(id, error, "")) is not None:  # no model has answered
        return refused
    if complains(reply.status, str(error)):
        raise SchemaRefused(status)
    return Failure(id, status)


def _problem(reply: Reply, status: str, server: Generator, key: str | None, reached: bool) -> str | None:
    """Why no other call can succeed either; None if one may."""
    if 300 <= reply.status < 400:
        there = said(reply.headers.get("Location", "nowhere"), key)
        return f"status {reply.status} and points to {there}, expected a server. Correct generator.base_url."
    if reply.status == 401 or (reply.status == 403 and not reached):
        name = server.api_key_env
        have = f"the key of ${name} is not accepted" if key else f"no key is set in ${name}"
        return f"{status}; {have}. Put the key in the environment."
    if reply.status == 404 and not reached:
        return f"{status}, expected a server that has the model {server.model!r}. Correct generator.base_url or generator.model."
    return None


def _error(text: str) -> Json:
    """The error object of a reply; if there is none, one whose `message` is the whole text."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return {"message": text}
    error = body.get("error", body) if isinstance(body, dict) else body
    return error if isinstance(error, dict) else {"message": error}


def said(text: str, key: str | None) -> str:
    """A server's message on one line, without the key and without control characters."""
    whole = text.replace(key, "***") if key else text
    line = " ".join(whole[: 10 * MESSAGE_LENGTH].split())[:MESSAGE_LENGTH]
    return "".join(char if char.isprintable() else "?" for char in line)


def seconds(header: str | None) -> float | None:
    """Seconds from a Retry-After header, which holds a number or an HTTP date; None if it cannot be read."""
    if header is None:
        return None
    try:
        return float(header) if math.isfinite(float(header)) else None
    except ValueError:
        pass
    try:
        return parsedate_to_datetime(header).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return None
