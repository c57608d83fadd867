"""The answer in the body of an OpenAI chat completion, if the server finished one."""

import json
from typing import Any

from targen.llm.messages import Answer, why_unfinished
from targen.runtime.jsonl import Json

MOST_TOKENS = 10**12  # of one call; a larger number is not a count
REASONING = ("reasoning_content", "reasoning")  # fields of a message in which servers put what a model thought


def answer_from_completion(id: str, completion: Any) -> Answer:
    """The answer in a completion. Raises: ValueError if it is not a completion, or the server did not finish it."""
    try:
        choice = completion["choices"][0]
        message, finish_reason = choice["message"], str(choice.get("finish_reason") or "")
        usage, error = _counts(completion.get("usage")), choice.get("error")
        text, finish_reason = _text_and_reason(message, finish_reason, usage.get("completion_tokens"))
        answer = Answer(id, text, finish_reason, usage, str(completion.get("model") or ""))
    except (KeyError, IndexError, TypeError, AttributeError) as err:
        raise ValueError(f"not a chat completion ({type(err).__name__}: {err})") from None
    if error or (why := why_unfinished(answer)) is not None:
        raise ValueError("the server reports an error in the completion" if error else why)
    return answer


def _text_and_reason(message: Json, finish_reason: str, completion_tokens: int | None) -> tuple[str, str]:
    """Text and finish_reason of a message; the finish_reason says what the message has in place of a text."""
    content, refusal = message.get("content"), str(message.get("refusal") or "")
    if isinstance(content, list):
        parts = [part if isinstance(part, dict) else {"text": part} for part in content]
        refusal = refusal or "".join(str(part.get("refusal") or "") for part in parts)
        content = "".join(str(part.get("text") or "") for part in parts)
    elif content and not isinstance(content, str):
        content = json.dumps(content)
    if content and (content.strip() or not any(message.get(name) for name in REASONING)):
        return content, finish_reason
    if refusal:
        return refusal, "refusal"
    if message.get("tool_calls") or message.get("function_call"):
        return "", "tool_calls"
    if thoughts := next((str(message[name]) for name in REASONING if message.get(name)), ""):
        return thoughts, "reasoning_length" if finish_reason == "length" else "reasoning"
    if finish_reason == "stop" and (content is None or completion_tokens == 0):
        return "", "blank"
    return "", finish_reason


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
