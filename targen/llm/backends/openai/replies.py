"""The meaning of a server's reply: an answer, a retry, a refusal of this call, or the end of the run."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from targen.config.groups.generation import Generator
from targen.llm.completions import answer_from_completion
from targen.llm.fast_json import decode_json
from targen.llm.messages import Answer
from targen.llm.server_errors import OVERLOADED, ServerError, clean_message, error_in, server_error

STRANGE = "which answers {message!r}, expected chat completions of an OpenAI-compatible server. Correct the address; most end in /v1."


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
        lost: bool = False,
        hopeless: str | None = None,
        instead: Answer | None = None,
    ) -> None:
        super().__init__(reason)
        self.after = after  # seconds that the server asks to wait
        self.overloaded = overloaded
        self.expensive = expensive  # it cost much time or memory: few tries
        self.hopeless = hopeless  # what the address is, and what to do, if all first tries end like this
        self.instead = instead  # the outcome if further tries end like this
        self.lost = lost  # there was no connection, or it broke
        self.server: Any = None  # where it was tried


class RefusedError(Exception):
    """The server refuses this call. The text is its message."""

    def __init__(self, words: str, finish_reason: str, if_all: str) -> None:
        super().__init__(words)
        self.finish_reason = finish_reason
        self.if_all = if_all  # the end of the message if every call is refused


@dataclass(frozen=True)
class Reply:
    """A server's reply to one call."""

    status: int
    headers: Mapping[str, str]
    text: str


def outcome_of(id: str, reply: Reply, server: Generator, key: str | None, reached: bool) -> Answer:
    """The answer in a reply. `reached`: the server has given an answer before.

    Raises: RetryableError, RefusedError, FatalError.
    """
    body = _parsed(reply.text)
    if reply.status >= 300:
        raise _error(reply, _error_of(reply, key), server, key, reached)
    try:
        answer = answer_from_completion(id, body)
    except ValueError as err:
        where = f"status {reply.status} without an answer: {err}"
        if (error := error_in(body)) is not None:
            problem = server_error(None, error, key)
            if problem.about != "moment":
                raise _error(reply, problem, server, key, reached) from None
            raise RetryableError(
                f"{where}: {problem.words}", retry_after(reply.headers), problem.status in OVERLOADED
            ) from None
        message = server_error(None, body, key).words
        hopeless = None if isinstance(body, dict) and "choices" in body else STRANGE.format(message=message)
        raise RetryableError(f"{where}: {message}", hopeless=hopeless) from None
    if answer.finish_reason == "blank":
        raise RetryableError("status 200 without a text: the message is empty", expensive=True, instead=answer)
    return answer


def error_text(reply: Reply, key: str | None) -> str:
    """The message of a reply that is an error, on one line."""
    return _error_of(reply, key).words


def _error_of(reply: Reply, key: str | None) -> ServerError:
    body = _parsed(reply.text)
    error = error_in(body)
    return server_error(reply.status, body if error is None else error, key)


def _error(reply: Reply, problem: ServerError, server: Generator, key: str | None, reached: bool) -> Exception:
    """What to raise for an error."""
    if 300 <= problem.status < 400:
        location = clean_message(reply.headers.get("Location", "nowhere"), key)
        return FatalError(
            f"generator.base_url: {server.base_url} answers status {problem.status} and points to {location}, expected a server. "
            "Correct generator.base_url."
        )
    if problem.about == "every call" and (problem.status != 404 or not reached):
        return FatalError(
            f"generator.base_url: {server.base_url} answers {problem.words}{_remedy(problem, server, key)}"
        )
    if problem.about == "prompt":
        return RefusedError(problem.words, problem.finish_reason, _remedy(problem, server, key))
    return RetryableError(problem.words, retry_after(reply.headers), problem.status in OVERLOADED)


def _remedy(problem: ServerError, server: Generator, key: str | None) -> str:
    """The end of the message about an error that every call gets: what to do."""
    if problem.status == 401 or (problem.status == 403 and problem.about == "prompt"):
        cause = (
            f"the key of ${server.api_key_env} is not accepted" if key else f"no key is set in ${server.api_key_env}"
        )
        return f"; {cause}. Put the key in the environment."
    if problem.status == 404:
        return (
            f", expected a server that has the model {server.model!r}. Correct generator.base_url or generator.model."
        )
    if problem.about == "prompt":
        return ", also to a harmless prompt, expected an answer. Correct generator.* or the server."
    return ", expected an account that may ask more. Raise its quota or wait for it, then rerun the command to resume."


def _parsed(text: str) -> Any:
    """The JSON of a reply; the text itself if it is not JSON."""
    try:
        return decode_json(text)
    except (ValueError, RecursionError):
        return text


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks to wait, as a number or an HTTP date; None if it asks for none, or it cannot be read."""
    header = headers.get("Retry-After")
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
