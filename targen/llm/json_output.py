"""JSON objects in text that a model wrote. Hostile text is safe: the effort of every function is linear or bounded."""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NoReturn

import orjson

from targen.runtime.jsonl import Json

OPEN, CLOSE = "<think>", "</think>"
START = re.compile(r'\{\s*["}]')  # every object begins like this
MOST_STARTS = 1000  # positions in one text that are tried
_WHOLE = re.compile(r"[0-9]{1,9}")
MOST_REPAIRED = 12_288  # characters; about twice the longest answer that a prompt asks for


def without_thoughts(text: str) -> str:
    """The text without its `<think>` parts. The first opening tag may be missing: some chat templates put it in the prompt."""
    if text.lstrip().startswith("{"):  # an object, whose texts may hold these tags
        return text
    *thoughts, rest = text.split(CLOSE)
    before = "".join(part.partition(OPEN)[0] for part in thoughts if OPEN in part)
    return before + rest.partition(OPEN)[0]


def objects_in(text: str) -> Iterator[Json]:
    """The outermost JSON objects of a text, in order. In garbage the search ends when the effort reaches its bound."""
    with suppress(ValueError):
        if isinstance(value := orjson.loads(text), dict):  # the usual case
            yield value
            return
    decoder = json.JSONDecoder(strict=False, parse_constant=_refuse)
    effort, position = max(4 * len(text), 100_000), 0
    for _ in range(MOST_STARTS):
        if (start := START.search(text, position)) is None or effort < 0:
            return
        position = start.start() + 1
        try:
            value, end = decoder.raw_decode(text, start.start())
        except json.JSONDecodeError as err:
            effort -= err.pos - position
        except ValueError:  # NaN, or a number of thousands of digits
            effort -= len(text) - position
        except RecursionError:  # no real answer nests this deep
            return
        else:
            effort, position = effort - (end - position), end
            yield value


def repair_object(text: str, finished: bool) -> Json | None:
    """The object in a text with the usual damage: trailing commas, single quotes, quotes inside strings, comments.

    Missing closing braces are added only if the server says that the model had `finished`; a cut string is never completed.
    None if there is no object or it cannot be repaired.
    """
    start, end = text.find("{"), text.rfind("}") + 1
    damaged = text[start:end]
    if start < 0 or len(text) - start > MOST_REPAIRED:
        return None
    if not damaged or any(damaged.count(opening) != damaged.count(closing) for opening, closing in ("{}", "[]")):
        damaged = text[start:].strip().removesuffix("```").rstrip()
        if not finished or damaged[-1] not in "\"']}":
            return None
    from json_repair import loads

    try:
        value = loads(damaged, skip_json_loads=True, strict=True)  # strict: adds no value and no key
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def conform_to_schema(value: Any, schema: Json) -> Any:
    """The value without the keys that its schema does not list, if the schema allows no others, and with "3" read as 3 where
    the schema wants an integer: models copy the quotes of the form that they are shown."""
    if isinstance(value, dict) and schema.get("additionalProperties") is False:
        fields = schema.get("properties", {})
        return {key: conform_to_schema(item, fields[key]) for key, item in value.items() if key in fields}
    if isinstance(value, list) and isinstance(schema.get("items"), dict):
        return [conform_to_schema(item, schema["items"]) for item in value]
    if schema.get("type") == "integer" and isinstance(value, str) and _WHOLE.fullmatch(value):
        return int(value)
    return value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
