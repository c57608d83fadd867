"""JSON between this program and models, many times a second: by orjson, and by the standard library where orjson refuses.

Not for files of the user: here whole numbers beyond 64 bits become floats. Not where bytes are promised: orjson writes no blanks.
"""

import json
from typing import Any

import orjson


def decode_json(text: str | bytes, strict: bool = True) -> Any:
    """The value of a JSON text; not `strict`: its strings may hold control characters. Raises: ValueError, RecursionError."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:  # also NaN, half characters (lone surrogates), and lists 1,024 deep
        return json.loads(text, strict=strict)


def encode_json(value: Any) -> bytes:
    """The value as JSON in UTF-8, on one line without a newline."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:  # half characters, and whole numbers beyond 64 bits
        return json.dumps(value).encode("ascii")
