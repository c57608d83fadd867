"""What in a completion is an answer, and what is a call that the server did not finish."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from targen.generate import generate
from targen.llm.completions import answer_from_completion
from targen.llm.messages import Answer, Request, read_object
from targen.llm.registry import Backend
from targen.runtime.errors import RowError, UserError
from tests.support.commands import lines, reply, settings
from tests.support.fake_model import FakeModel
from tests.support.faulty_server import completion, overrides, run, step_of


@pytest.mark.parametrize(
    ("choice", "text", "finish_reason"),
    [
        ({"message": {"content": None, "refusal": "I will not."}, "finish_reason": "stop"}, "I will not.", "refusal"),
        ({"message": {"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}}, "ab", ""),
        ({"message": {"content": [{"type": "refusal", "refusal": "No."}]}, "finish_reason": "stop"}, "No.", "refusal"),
        ({"message": {"content": ""}, "finish_reason": "stop"}, "", "stop"),
        ({"message": {"content": "{"}, "finish_reason": "length"}, "{", "length"),
        ({"message": {"content": None, "tool_calls": [{"id": "1"}]}, "finish_reason": "stop"}, "", "tool_calls"),
        ({"message": {"content": {"a": "x"}}, "finish_reason": None}, '{"a": "x"}', ""),
        ({"message": {"content": None, "reasoning_content": "Hm."}, "finish_reason": "stop"}, "Hm.", "reasoning"),
        ({"message": {"content": "", "reasoning": "Hm."}, "finish_reason": "length"}, "Hm.", "reasoning_length"),
        ({"message": {"content": "x", "reasoning": "Hm."}, "finish_reason": "stop"}, "x", "stop"),
        ({"message": {"content": None}, "finish_reason": "stop"}, "", "blank"),
        ({"message": {"content": "x"}, "finish_reason": "stop", "error": None}, "x", "stop"),
        ({"message": {"content": ""}, "finish_reason": "ERROR_TOXIC"}, "", "ERROR_TOXIC"),
    ],
)
def test_messages_of_every_kind(choice: Any, text: str, finish_reason: str) -> None:
    answer = answer_from_completion("id", {"choices": [choice], "model": "m"})
    assert (answer.text, answer.finish_reason, answer.usage) == (text, finish_reason, {})


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        ({"prompt_tokens": "12", "completion_tokens": 3.0}, {"prompt_tokens": 12, "completion_tokens": 3}),
        ({"prompt_tokens": "many", "completion_tokens": None}, {}),
        ({"prompt_tokens": -1, "completion_tokens": 10**30}, {}),
        ([1, 2], {}),
        (None, {}),
    ],
)
def test_usage_of_every_kind(usage: Any, counts: dict[str, int]) -> None:
    choice = {"message": {"content": "x"}, "finish_reason": "stop"}
    assert answer_from_completion("id", {"choices": [choice], "usage": usage}).usage == counts


@pytest.mark.parametrize(
    "body", [{}, {"choices": []}, {"choices": None}, {"choices": [{}]}, {"choices": [None]}, [], None]
)
def test_a_body_without_a_message_is_no_answer(body: Any) -> None:
    with pytest.raises(ValueError, match="not a chat completion"):
        answer_from_completion("id", body)


UNFINISHED = {
    "error": {"finish_reason": "error", "error": {"code": 502, "message": "Upstream idle timeout exceeded"}},
    "only said": {"finish_reason": "error"},
    "partial": {"finish_reason": "error", "message": {"content": '{"premise": "The'}},
    "in the choice": {"finish_reason": "stop", "error": {"message": "overloaded"}, "message": {"content": "{}"}},
    "abort": {"finish_reason": "abort", "message": {"content": ""}},
    "busy": {"finish_reason": "insufficient_system_resource", "message": {"content": "This is not safe"}},
    "network": {"finish_reason": "network_error", "message": {"content": "{"}},
    "cancelled": {"finish_reason": "CANCELLED", "message": {"content": "{"}},
    "nothing": {"finish_reason": None, "message": {"content": None}},
    "no message": {"finish_reason": "stop"},
}


@pytest.mark.parametrize("kind", UNFINISHED)
def test_a_call_that_the_server_did_not_finish_is_asked_again_and_never_recorded(
    tmp_path: Path, serve, good, kind: str
) -> None:
    message = {} if kind == "no message" else {"message": {"role": "assistant", "content": ""}}
    broken = json.dumps({"model": "fake", "choices": [message | UNFINISHED[kind]]})

    def misbehave(number: int, handler) -> bool:
        body = server.bodies[number - 1] if number else None
        if body is None or server.bodies[:number].count(body) > 1 or number % 3:
            return False
        broke_off.append(number)
        reply(handler, 200, broken)
        return True

    server, broke_off = serve(FakeModel()), []
    server.misbehave = misbehave
    assert run(tmp_path, server, "generator.concurrency=1") == good
    calls = lines(tmp_path / "calls" / "rte.jsonl")
    assert {call["finish_reason"] for call in calls} == {"stop"}
    assert len(server.bodies) == len(calls) + len(broke_off) > len(calls)


@pytest.mark.parametrize("finish_reason", ["error", "abort", "insufficient_system_resource", ""])
def test_an_existing_run_asks_again_what_was_recorded_without_an_answer(
    tmp_path: Path, serve, good, finish_reason: str
) -> None:
    server = serve(FakeModel())
    run(tmp_path, server)
    path, request_count = tmp_path / "calls" / "rte.jsonl", len(server.bodies)
    calls = lines(path)
    broken = [
        call | {"text": "", "finish_reason": finish_reason} if n % 4 == 0 else call for n, call in enumerate(calls)
    ]
    path.write_text("".join(json.dumps(call) + "\n" for call in broken))
    assert run(tmp_path, server) == good
    repeated = sum(call["text"] == "" for call in broken)
    assert len(server.bodies) - request_count == len(lines(path)) - len(calls) == repeated
    assert run(tmp_path, serve(FakeModel())) == good  # the answers are on record now
    recorded = ("generator=recorded", "generator.model=fake", f"generator.path={tmp_path / 'calls'}", "task=rte")
    small = ("synth.contexts=4", "synth.seeds_per_context=2", "synth.size=6", "synth.learnability_rows=0")
    generate(settings(*recorded, *small, f"run.dir={tmp_path / 'replayed'}"))


class Aborting:
    """A backend that breaks off all it is asked."""

    window = 4

    def __init__(self) -> None:
        self._submitted: list[Request] = []

    def submit(self, request: Request) -> None:
        self._submitted.append(request)

    def collect(self) -> Iterator[Answer]:
        while self._submitted:
            yield Answer(self._submitted.pop().id, '{"contexts": ["a', "abort", {}, "m")

    def close(self) -> None:
        pass


def test_no_backend_records_what_it_broke_off(tmp_path: Path, serve) -> None:
    chosen = overrides(tmp_path, serve(FakeModel()))
    with pytest.raises(UserError, match=r"1 calls got no answer \(finish_reason 'abort' x 1\)"):
        generate(settings(*chosen), Backend(lambda inputs: Aborting()))
    assert lines(tmp_path / "calls" / "rte.jsonl") == []


def test_an_outage_that_outlasts_the_retries_leaves_nothing_behind(tmp_path: Path, serve, good) -> None:
    broken = completion("", "error")
    server = serve(FakeModel())
    server.misbehave = lambda number, handler: number > 5 and (reply(handler, 200, broken) or True)
    with pytest.raises(
        UserError, match=r"status 200 without an answer x \d+.*finish_reason 'error'.*5 answers are saved"
    ):
        run(tmp_path, server, "generator.max_retries=2")
    assert run(tmp_path, serve(FakeModel())) == good


def test_an_empty_message_is_asked_for_again_and_then_a_reject(tmp_path: Path, serve) -> None:
    blank = json.dumps({"model": "fake", "choices": [{"message": {"content": None}, "finish_reason": "stop"}]})
    server, body = serve(FakeModel()), []

    def misbehave(number: int, handler) -> bool:
        requested = server.bodies[number - 1] if number else None
        if requested is not None and not body and step_of(requested) == "generation":
            body.append(requested)
        if requested is not None and requested in body:
            reply(handler, 200, blank)
        return requested is not None and requested in body

    server.misbehave = misbehave
    run(tmp_path, server, "generator.concurrency=1")
    (reject,) = lines(tmp_path / "synthetic" / "rte" / "rejects.jsonl")
    assert reject["reason"] == "answer is empty" and server.bodies.count(body[0]) == 3


def test_a_model_that_only_thinks_is_told_with_the_remedy(tmp_path: Path, serve) -> None:
    def misbehave(number: int, handler) -> bool:
        answer = FakeModel().complete(server.bodies[number - 1] if number else server.probes[0])
        message = answer["choices"][0]["message"]
        message["content"], message["reasoning_content"] = None, message["content"]
        reply(handler, 200, json.dumps(answer))
        return True

    server = serve(FakeModel())
    server.misbehave = misbehave
    with pytest.raises(
        UserError, match=r"9 x model only thought \(reasoning_content\) .*such as .*enable_thinking: false"
    ):
        run(tmp_path, server)


@pytest.mark.parametrize(
    ("content", "finish_reason", "reason"),
    [
        (
            "Sure, here they are: a mill, a river",
            "stop",
            "9 x answer holds no JSON object, such as 'Sure, here they are",
        ),
        ('{"contexts": ["a mill', "length", "9 x answer was cut at max_tokens, .*Raise synth.sampling"),
        ("", "stop", "9 x answer is empty"),
        ('{"contexts": ["."]}', "stop", "they hold none"),
    ],
)
def test_a_run_without_a_context_says_why(tmp_path: Path, serve, content: str, finish_reason: str, reason: str) -> None:
    server = serve(FakeModel())
    server.misbehave = lambda number, handler: reply(handler, 200, completion(content, finish_reason)) or True
    with pytest.raises(UserError, match=rf"^rte: got no readable context in 9 answers of fake \({reason}"):
        run(tmp_path, server)


@pytest.mark.parametrize(
    ("finish_reason", "reason"),
    [("SAFETY", "content filter"), ("max_tokens", "cut at max_tokens"), ("model_length", "cut"), ("blank", "empty")],
)
def test_reasons_of_other_servers_are_read(finish_reason: str, reason: str) -> None:
    with pytest.raises(RowError, match=reason):
        read_object(Answer("id", "{}", finish_reason, {}, ""), {"type": "object", "required": []})


def test_answers_without_an_object_are_recorded_and_rejected_and_bodies_without_one_asked_again(
    tmp_path: Path, serve
) -> None:
    odd_replies = [
        completion(None, choices=[{"message": {"content": None, "refusal": "I will not."}, "finish_reason": "stop"}]),
        completion(""),
        completion("{", "length"),
        completion(None, "content_filter"),
        completion(None, "tool_calls"),
        completion("x", choices=[]),
    ]
    asked_again: list[str] = []

    def misbehave(number: int, handler) -> bool:
        if number and step_of(server.bodies[number - 1]) == "generation" and odd_replies:
            asked_again.extend([json.dumps(server.bodies[number - 1])] * (len(odd_replies) == 1))
            reply(handler, 200, odd_replies.pop(0))
            return True
        return False

    server = serve(FakeModel())
    server.misbehave = misbehave
    run(tmp_path, server, "generator.concurrency=1", "synth.max_attempts=9")
    rejects = lines(tmp_path / "synthetic" / "rte" / "rejects.jsonl")
    assert {reject["reason"] for reject in rejects} == {
        "model refused to answer",
        "answer is empty",
        "answer was cut at max_tokens",
        "answer was withheld by the provider's content filter",
        "answer is a tool call",
    }
    assert "I will not." in {reject["text"] for reject in rejects}
    assert len(server.bodies) == len(lines(tmp_path / "calls" / "rte.jsonl")) + 1
    assert [json.dumps(body) for body in server.bodies].count(asked_again[0]) == 2
