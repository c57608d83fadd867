"""What a server does not take, by its error: a field of the body, a value of it, or the role `system`.

Servers word this in many ways. A guess that is wrong costs one more refused call: a change is kept only if it helps.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from targen.llm.messages import Answer
from targen.runtime.jsonl import Json

STATUSES = (400, 422, 500, 501)  # some servers answer 500 to a field that they do not know
NOT_TAKEN = (
    r"unsupported|not (?:\w+ )?support|n't support|unknown|unrecogni[sz]ed|unexpected|extra.?(?:inputs|fields|forbidden)|"
    r"not (?:be )?(?:permitted|allowed|valid|a valid|enabled|accepted|available|recogni[sz]ed|implemented)|"
    r"only user and assistant|roles must alternate|additional propert|cannot find field|cannot both|no such|deprecated|n't accept|not accept|invalid \w+ ?(?:param|field|arg)|"
    r"invalid (?:param|field|arg|role)|\binstead\b"
)
NOT_THIS_VALUE = r"\bvalue|default|must|only|should|greater|less|range|between|at least|at most"
SYSTEM = (
    r"system.{0,20}(?:role|message|prompt|instruction)|(?:role|message|prompt|instruction)s?\W.{0,20}\bsystem|"
    r"developer instruction|messages\W{1,2}0\W{1,2}role|only user and assistant|roles must alternate"
)
PATTERNS = {  # a field, and how an error names it
    "seed": r"\bseed\b",
    "max_tokens": r"\bmax_tokens\b",
    "top_p": r"\btop_p\b",
    "temperature": r"\btemperature\b",
    "system": SYSTEM,
    "response_format": r"response.?format|schema|structured.?output|guided|grammar",
}
NUMBERS = ("top_p", "temperature")  # of which a server may refuse some values only
OF_ONE_ANSWER = re.compile(r"json_validate_failed|failed to generate json|failed_generation", re.IGNORECASE)
ECHOES = ("input", "ctx", "url")  # keys of an error below which a server repeats the request
MOST_READ = 4000  # characters of an error


class FieldRefused(Exception):
    """The server seems not to take one of `fields`, the likeliest first. The text is its message.

    `otherwise` raises the error that the reply stands for if no change of the body helps.
    """

    def __init__(self, words: str, fields: Sequence[str], otherwise: Callable[[], Answer]) -> None:
        super().__init__(words)
        self._fields, self.otherwise = fields, otherwise

    def changes(self, body: Json) -> list[str]:
        """The changes of a body (see BodyChanges.with_change) that may meet the refusal, the likeliest first."""
        return [f"{field}{body.get(field[:-1], 1)}" if field.endswith("=") else field for field in self._fields]


def refused_fields(status: int, text: str) -> list[str]:
    """The fields of PATTERNS that an error complains about, in the order in which it names them.

    `temperature=` and `top_p=`: only the value that was sent.
    """
    if status not in STATUSES or OF_ONE_ANSWER.search(text[:MOST_READ]):
        return []
    words = _words(text)
    complaint = re.search(NOT_TAKEN, words, re.IGNORECASE)
    bad_value = re.search(NOT_THIS_VALUE, words, re.IGNORECASE)
    positions = {}
    for field, pattern in PATTERNS.items():
        match = re.search(pattern, words, re.IGNORECASE)
        if match and field in NUMBERS and bad_value:
            positions[f"{field}="] = match.start()
        elif match and (complaint or field == "response_format" or (field == "system" and bad_value and status < 500)):
            positions[field] = match.start()
    if "cannot both" in words and set(positions) & {"top_p", "top_p="}:  # with temperature, which matters more
        return ["top_p"]
    return sorted(positions, key=positions.__getitem__)


def _words(text: str) -> str:
    """All text of an error, its message first, without what it repeats of the request."""
    try:
        return " ".join(_strings(json.loads(text)))[:MOST_READ]
    except (ValueError, RecursionError):
        return text[:MOST_READ]


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
    elif isinstance(value, dict):
        yield from _strings_of_object(value)


def _strings_of_object(value: Json) -> Iterator[str]:
    if isinstance(value.get("loc"), list):
        yield ".".join(map(str, value["loc"]))
    for key in sorted(value, key=lambda key: key not in ("error", "message", "detail", "msg")):
        if key not in (*ECHOES, "loc"):
            yield from _strings(value[key])
