"""What the error of a server, or of a line of a batch file, is about: this moment, this prompt, or every call."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from targen.llm.messages import ANY_REASON
from targen.runtime.errors import one_line
from targen.runtime.jsonl import Json

MESSAGE_LENGTH = 300  # characters of a server's message that are shown
LONGEST_TEXT = 20_000  # characters of a server's message that are looked at
OVERLOADED = frozenset({429, 502, 503, 504})
AGAIN = OVERLOADED | {408, 409, 425}
NO_STATUS = 500  # the status of an error that names none
MESSAGE_FIELDS = ("message", "detail", "msg")
BAD_REQUEST = re.compile(r"invalid.?request|bad.?request", re.IGNORECASE)
TAGS = re.compile(r"<(script|style)\b.*?</\1>|<[^<>]*>", re.IGNORECASE | re.DOTALL)
USED_UP = re.compile(  # a quota. Unlike a rate, it does not come back within a minute
    r"insufficient.?(quota|balance|credit|funds)|current.?quota|credit.balance|(out of|no|used all available) credits"
    r"|balance is (insufficient|too low)|billing.?(hard|not|limit)|arrear|spending.limit|good.standing|余额|欠费",
    re.IGNORECASE,
)
PER_DAY = re.compile(r"per.(day|month)|daily|monthly|\b[TR]PD\b", re.IGNORECASE)
SOON = re.compile(r"(try again|retry) in [\d.]+ ?(s|ms|seconds?)\b|per.?minute|RESOURCE_EXHAUSTED", re.IGNORECASE)
# finish_reason -> how servers word the refusal of a prompt; the first match counts
SPELLINGS: Mapping[str, re.Pattern[str]] = {
    "invalid_json": re.compile(
        r"json_validate_failed|failed to (generate|validate) json|generated json does not match", re.IGNORECASE
    ),
    "no_room": re.compile(
        r"max_(completion_|new_|output_)?tokens\W.{0,100}?(too (large|high|big)|at most|must be|exceed|less than|range|>|≤|maximum)"
        r"|range of max_tokens",
        re.IGNORECASE,
    ),
    "context_length": re.compile(
        r"context.?(length|size|window|limit|overflow)|string_above_max_length|token limit|input (length|token count)"
        r"|(prompt|inputs?|requests?|sequence|messages?|entity)\b.{0,60}(too (long|large|many)|longer than|exceed)"
        r"|too many (\w+ )?tokens|max(imum|_)?.?(prompt|input|model|sequence|seq).?len|max(imum)? (number of )?tokens"
        r"|reduce (the length|your (prompt|message))|超长",
        re.IGNORECASE,
    ),
    "content_filter": re.compile(
        r"content.?(filter|polic|moderat|management|exists risk|violat)|moderation|flagged|usage.(polic|guideline)|invalid_prompt"
        r"|responsible.?ai|data.?inspection|inappropriate|sensitive|high risk|unsafe|safety|prohibited|guardrail|harmful|敏感|不安全",
        re.IGNORECASE,
    ),
}
About = Literal["moment", "prompt", "every call"]


@dataclass(frozen=True)
class ServerError:
    """An error in place of an answer."""

    status: int
    words: str  # status and message, on one line
    text: str  # codes and message
    about: About
    finish_reason: str  # of a refused prompt, otherwise empty


def error_in(body: Any) -> Any:
    """The error in a body that may be a completion, as an object or a text; None if it has none."""
    if isinstance(body, list) and body:
        return error_in(body[0])
    if not isinstance(body, dict):
        return None
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    if error := body.get("error") or (choice.get("error") if isinstance(choice, dict) else None):
        return error
    return body if not choices and any(body.get(name) for name in MESSAGE_FIELDS) else None


def server_error(status: int | None, error: Any, key: str | None = None) -> ServerError:
    """The meaning of an error. `status`: of HTTP, None where only the error itself can name one."""
    error = _innermost(error)
    message = _message(error)
    known_status = status or _status_in(error)
    message_line = clean_message(message, key).rstrip(". ")
    words = f"{'status' if status else 'error'} {known_status}: {message_line}" if known_status else message_line
    code, type_, status_name, param = (str(error.get(name) or "") for name in ("code", "type", "status", "param"))
    text = " ".join([code, type_, status_name, message, param])[:LONGEST_TEXT]
    about, finish_reason = _about(known_status or NO_STATUS, text)
    return ServerError(known_status or NO_STATUS, words.removesuffix(": "), text, about, finish_reason)


def _about(status: int, text: str) -> tuple[About, str]:
    if status in (401, 402, 404):
        return "every call", ""
    if (USED_UP.search(text) or (status == 429 and PER_DAY.search(text))) and not SOON.search(text):
        return "every call", ""
    if status == 429:
        return "moment", ""
    for finish_reason, spelling in SPELLINGS.items():
        if spelling.search(text):
            return "prompt", finish_reason
    return ("prompt", ANY_REASON) if 400 <= status < 500 and status not in AGAIN else ("moment", "")


def _innermost(error: Any) -> Json:
    """The object that holds the message; made for a text. Servers put errors into lists and into each other."""
    if isinstance(error, list) and error:
        return _innermost(error[0])
    if isinstance(error, dict):
        return _innermost(error["error"]) if error.get("error") else error
    return {"message": "" if error is None else error}


def _message(error: Any) -> str:
    """The message of an error: pydantic's lists without the input that they repeat, pages without their tags."""
    if isinstance(error, str):
        text = error[:LONGEST_TEXT]
        return TAGS.sub(" ", text) if text.lstrip().startswith("<") else text
    if isinstance(error, list):
        return "; ".join(_message(part) for part in error)
    if not isinstance(error, dict):
        return json.dumps(error)
    message = next((error[name] for name in MESSAGE_FIELDS if error.get(name)), None)
    if message is None:
        return json.dumps(error, ensure_ascii=False) if error else ""
    where = error.get("loc")
    return f"{'.'.join(map(str, where))}: {_message(message)}" if isinstance(where, list) else _message(message)


def _status_in(error: Json) -> int | None:
    for name in ("code", "status", "status_code"):
        value = str(error.get(name))
        if re.fullmatch(r"[45][0-9]{2}", value):
            return int(value)
    return 400 if BAD_REQUEST.search(f"{error.get('code')} {error.get('type')}") else None


def clean_message(text: str, key: str | None) -> str:
    """A server's message on one line, without the key and without control characters."""
    without_key = text.replace(key, "***") if key else text
    line = one_line(without_key[: 10 * MESSAGE_LENGTH], MESSAGE_LENGTH)
    return "".join(char if char.isprintable() else "?" for char in line)
