"""Replies that a server streams (text/event-stream), put together to a chat completion."""

import json
from typing import Any

from targen.runtime.jsonl import Json

TEXTS = ("content", "refusal", "reasoning_content", "reasoning")  # parts of a message that come in pieces
END = "[DONE]"


def is_stream(content_type: str, text: str) -> bool:
    """Whether a reply is a stream of events, whatever it calls itself."""
    return "text/event-stream" in content_type.lower() or text[:32].lstrip("\ufeff\r\n").startswith("data:")


def completion_of(text: str) -> str:
    """The chat completion, as JSON, that the events of a stream add up to, or the error that they report.

    The text as it is, which is not a chat completion, if the stream broke off or holds something else.
    """
    events = _events(text)
    try:
        completion = _merged([json.loads(data) for data in events if data != END])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return text
    if "error" not in completion and not (END in events or completion["choices"][0]["finish_reason"]):
        return text
    return json.dumps(completion)


def _events(text: str) -> list[str]:
    """The data of each event. Source: the event stream format of the HTML standard, for events of one line of data."""
    lines = (line.strip() for line in text.splitlines())
    return [line.removeprefix("data:").strip() for line in lines if line.startswith("data:") and line != "data:"]


def _merged(chunks: list[Json]) -> Json:
    message: dict[str, Any] = {}
    finish_reason, model, usage = None, "", None
    for chunk in chunks:
        if chunk.get("error"):
            return {"error": chunk["error"]}
        model, usage = chunk.get("model") or model, chunk.get("usage") or usage
        for choice in chunk.get("choices") or ():
            if choice.get("index", 0) != 0:
                continue
            delta = choice.get("delta") or choice.get("message") or {}
            message |= {name: message.get(name, "") + delta[name] for name in TEXTS if isinstance(delta.get(name), str)}
            message |= {name: delta[name] for name in ("tool_calls", "function_call") if delta.get(name)}
            finish_reason = choice.get("finish_reason") or finish_reason
    choices = [{"message": message, "finish_reason": finish_reason}]
    return {"model": model, "choices": choices, **({"usage": usage} if usage else {})}
