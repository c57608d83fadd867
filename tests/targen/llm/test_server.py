"""A server that is not as it should be: hostile, broken, overloaded, away, or another one than before."""

import contextlib
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from targen.generate import generate
from targen.llm.backends.openai import client as openai
from targen.llm.backends.openai import pace, replies
from targen.llm.backends.openai.pace import Pace, pause
from targen.llm.messages import Answer, answer_from_completion, read_object
from targen.runtime.errors import RowError, UserError
from tests.support.commands import LONGEST, PROJECT, Server, command, files, lines, reply, settings
from tests.support.fake_model import FakeModel

SIZE = 6
ANSWER = Answer("id", "", "stop", {}, "")
PAIR = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}} | {
    "required": ["a", "b"],
    "additionalProperties": False,
}
SEEDS = {
    "type": "object",
    "properties": {"seeds": {"type": "array", "items": PAIR}},
    "required": ["seeds"],
    "additionalProperties": False,
}


def overrides(folder: Path, server: Server, *more: str) -> list[str]:
    base = [
        "generator=openai",
        "generator.model=fake",
        f"generator.base_url={server.url}",
        f"run.dir={folder}",
        "task=rte",
    ]
    base += ["synth.contexts=4", "synth.seeds_per_context=2", f"synth.size={SIZE}", "generator.retry_pause=0.01"]
    return [*base, *more]


def run(folder: Path, server: Server, *more: str) -> dict[str, bytes]:
    """A generate phase over one small task; what it made."""
    generate(settings(*overrides(folder, server, *more)))
    return files(folder / "synthetic")


def completion(text: Any, finish_reason: str = "stop", **rest: Any) -> str:
    return json.dumps(
        {"model": "fake", "choices": [{"message": {"content": text}, "finish_reason": finish_reason}]} | rest
    )


def step_of(body: dict[str, Any]) -> str:
    return body["response_format"]["json_schema"]["name"]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.fixture(autouse=True)
def _every_probe_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long a loaded machine takes over it: more calls than go out beside it end only after it."""
    monkeypatch.setattr(openai, "PROBE_WAIT", 600.0)
    monkeypatch.setattr("targen.llm.backends.openai.structured.LONGEST_WAIT", 600.0)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a good server with the fake model gives."""
    from targen.llm.backends.batch import AwaitingAnswers

    folder = tmp_path_factory.mktemp("good")
    values = ("generator=batch", "generator.model=fake", f"run.dir={folder}", "task=rte")
    while True:
        try:
            generate(settings(*values, "synth.contexts=4", "synth.seeds_per_context=2", f"synth.size={SIZE}"))
            return files(folder / "synthetic")
        except AwaitingAnswers:
            requests = [line for path in folder.glob("requests*.jsonl") for line in lines(path)]
            answers = [
                {"custom_id": r["custom_id"], "response": {"status_code": 200, "body": FakeModel().complete(r["body"])}}
                for r in requests
            ]
            (folder / "responses.jsonl").write_text("".join(json.dumps(answer) + "\n" for answer in answers))


# --- structured outputs ---


def test_a_server_that_ignores_the_schema_is_found_out_by_the_probe_and_asked_once(
    tmp_path: Path, serve, good, caplog
) -> None:
    server = serve(FakeModel())
    server.misbehave = lambda number, handler: (
        number == 0 and (reply(handler, 200, completion("Cat.\n\x1b[2J")) or True)
    )
    assert run(tmp_path, server) == good
    (said,) = warnings(caplog)
    assert "does not enforce the JSON schema" in said and "answered 'Cat.\\n\\x1b[2J'" in said
    (record,) = lines(tmp_path / "calls" / "canary.jsonl")
    assert record["id"].startswith("canary-probe-") and len(record["id"]) == len("canary-probe-") + 12
    assert record["text"] == "Cat.\n\x1b[2J" and set(record) == set(lines(tmp_path / "calls" / "rte.jsonl")[0])
    assert len(server.probes) == 1 and server.probes[0]["response_format"]["json_schema"]["strict"] is True
    caplog.clear()
    run(tmp_path, server, "synth.size=8")
    assert len(server.probes) == 1 and len(warnings(caplog)) == 1
    other = serve(FakeModel())
    run(tmp_path, other, "synth.size=24")
    assert len(other.probes) == 1


@pytest.mark.parametrize("kind", ["500", "400", "401", "garbage", "closed", "thinking", "refusal"])
def test_a_probe_that_tells_nothing_is_not_repeated_and_not_fatal(
    tmp_path: Path, serve, good, caplog, kind: str
) -> None:
    def misbehave(number: int, handler) -> bool:
        if number:
            return False
        if kind.isdigit():
            reply(handler, int(kind), '{"error": {"message": "max_tokens is too small"}}')
        elif kind == "closed":
            handler.close_connection = True
        else:
            text = {"garbage": "[" * 100_000, "thinking": completion("", "length")}.get(kind)
            reply(handler, 200, text or completion(None, "content_filter"))
        return True

    server = serve(FakeModel())
    server.misbehave = misbehave
    assert run(tmp_path, server) == good
    assert len(server.probes) == 1 and warnings(caplog) == []


def test_few_calls_go_out_before_a_slow_probe_has_ended(tmp_path: Path, serve, good) -> None:
    server, before, enough = serve(FakeModel()), [], threading.Event()

    def misbehave(number: int, handler) -> bool:
        if number == openai.BEFORE_PROBE:
            enough.set()
        if number == 0:
            assert enough.wait(LONGEST)
            time.sleep(0.5)  # in which more could come
            before.append(len(server.bodies))
        return False

    server.misbehave = misbehave
    run(tmp_path, server, "method=zero_shot", "synth.size=60")
    assert before == [openai.BEFORE_PROBE]
    assert len(server.bodies) >= 60


@pytest.mark.parametrize(("rate", "said"), [(0.1, 0), (0.9, 1)])
def test_after_a_held_probe_only_many_odd_answers_are_a_finding(
    tmp_path: Path, serve, caplog, rate: float, said: int
) -> None:
    model = {"now": FakeModel()}

    class Changing(FakeModel):
        def complete(self, body):
            return model["now"].complete(body)

    server, method = serve(Changing()), "method=zero_shot"
    run(tmp_path, server, method, "synth.size=20")  # the probe is on record, and held
    model["now"] = FakeModel(rate)
    run(tmp_path, server, method, "synth.size=42", "synth.max_attempts=200")
    assert len(server.probes) == 1
    found = [line for line in warnings(caplog) if "does not enforce the JSON schema" in line]
    assert len(found) == said and all("answers do not fit it; the last," in line for line in found)


def test_a_probe_without_an_answer_holds_nothing_up(tmp_path: Path, serve, good, monkeypatch) -> None:
    monkeypatch.setattr(openai, "PROBE_WAIT", 0.2)
    server, run_ended = serve(FakeModel()), threading.Event()
    server.misbehave = lambda number, handler: number == 0 and run_ended.wait(LONGEST)
    assert run(tmp_path, server) == good
    run_ended.set()


@pytest.mark.parametrize("around", ["Here it is: {}", "```json\n{}\n```", "<think>Hm.</think>{}"])
def test_prose_around_a_real_answer_is_the_same_finding_said_once(
    tmp_path: Path, serve, good, caplog, around: str
) -> None:
    def misbehave(number: int, handler) -> bool:
        if number == 0:
            reply(handler, 500, "")
            return True
        answer = FakeModel().complete(server.bodies[number - 1])
        answer["choices"][0]["message"]["content"] = around.format(answer["choices"][0]["message"]["content"])
        reply(handler, 200, json.dumps(answer))
        return True

    server = serve(FakeModel())
    server.misbehave = misbehave
    made = run(tmp_path, server, "generator.concurrency=1")
    assert made["rte/train.jsonl"] == good["rte/train.jsonl"]
    (said,) = warnings(caplog)
    assert "a request of step contexts was answered" in said


def test_a_server_without_structured_outputs_is_asked_without_them(tmp_path: Path, serve, caplog) -> None:
    server = serve(FakeModel())

    def misbehave(number: int, handler) -> bool:
        body = server.probes[0] if number == 0 else server.bodies[number - 1]
        if "response_format" in body:
            reply(handler, 400, '{"error": {"message": "response_format of type json_schema is not supported"}}')
        else:
            reply(handler, 200, completion('{"contexts": ["a mill", "a river", "a road", "a shop"]}'))
        return True

    server.misbehave = misbehave
    with pytest.raises(UserError, match="rte: got 0 instances"):
        run(tmp_path, server, "generator.concurrency=1", "synth.max_attempts=2", "synth.max_slots=1")
    (said,) = warnings(caplog)
    assert "refuses a response_format (status 400: response_format of type json_schema" in said
    assert sum("response_format" in body for body in server.bodies) == 1 < len(server.bodies) - 1
    answered = {call["id"] for call in lines(tmp_path / "calls" / "rte.jsonl")}
    asked = len(server.bodies)
    with pytest.raises(UserError, match="rte: got 0 instances"):
        run(tmp_path, serve(FakeModel()), "synth.max_attempts=2", "synth.max_slots=1")
    assert {call["id"] for call in lines(tmp_path / "calls" / "rte.jsonl")} == answered and len(server.bodies) == asked


def test_a_single_schema_that_is_refused_is_left_out_alone(tmp_path: Path, serve, good, caplog) -> None:
    server, form = serve(FakeModel()), {}

    def misbehave(number: int, handler) -> bool:
        body = server.probes[0] if number == 0 else server.bodies[number - 1]
        if "response_format" not in body:  # answered as if it were there
            reply(handler, 200, json.dumps(FakeModel().complete(body | form)))
            return True
        if step_of(body) != "generation":
            return False
        form["response_format"] = body["response_format"]
        reply(handler, 422, '{"error": {"message": "guided decoding: cannot compile"}}')
        return True

    server.misbehave = misbehave
    assert run(tmp_path, server, "generator.concurrency=1") == good
    (said,) = warnings(caplog)
    assert "refuses the JSON schema of rte, step generation" in said
    plain = [body for body in server.bodies if "response_format" not in body]
    refused = [body for body in server.bodies if "response_format" in body and step_of(body) == "generation"]
    assert len(refused) == 1 and len(plain) == SIZE


# --- reading of answers ---


@pytest.mark.parametrize(
    "text",
    [
        '{"a": "x", "b": "y"}',
        'Sure! {"a": "x", "b": "y"} Is it what you want?',
        '```json\n{"a": "x", "b": "y"}\n```',
        '<think>First {"a": "1", "b": "2"} came to mind.</think>\n{"a": "x", "b": "y"}',
        'The template opened it: {"a": "1"} no.</think>{"a": "x", "b": "y"}',
        '<think>one</think><think>{"a": "1", "b": "2"}</think>{"a": "x", "b": "y"}<think>done',
        '{} {"a": 1, "b": "y"} {"a": "x", "b": "y"} {"a": "later", "b": "later"}',
        '{"a": "x", "b": "y", "confidence": 0.9, "notes": {"c": []}}',
        '{"a": "x", "b": "y",}',
        "{'a': 'x', 'b': 'y'}",
        '{"a": "x", "b": "y" // the end\n}',
        '{"a": "x", "b": "y"',
        '```\n{"a": "x", "b": "y"\n```',
        '{see below} {"a": "x", "b": "y"}',
    ],
)
def test_an_object_is_found_wherever_it_stands(text: str) -> None:
    assert read_object(Answer("id", text, "stop", {}, ""), PAIR) == {"a": "x", "b": "y"}


@pytest.mark.parametrize(
    ("text", "finish_reason", "reason"),
    [
        ('{"a": "x", "b": "y"', "", "no JSON object"),  # nobody said that it was finished
        ('{"a": "x", "b": "the man', "stop", "no JSON object"),
        ('{"a": "x", "b": "y"}', "length", "cut at max_tokens"),
        ('{"a": , "b": "y"}', "stop", "no JSON object"),
        ('{"a": "x"}', "stop", "does not fit the schema: the object: required"),
        ('{"a": "x", "b": null}', "stop", "does not fit the schema: b: type"),
        ('{"a": "x", "b": 5}', "stop", "does not fit the schema: b: type"),
        ('<think>{"a": "x", "b": "y"}', "stop", "no JSON object"),
        ('{"a": "x", "b": "\\ud83d"}', "stop", "half a character"),
        (" \n", "stop", "empty"),
        ("I cannot do this.", "refusal", "refused"),
        ("", "tool_calls", "tool call"),
        ("", "content_filter", "content filter"),
    ],
)
def test_nothing_is_made_up(text: str, finish_reason: str, reason: str) -> None:
    with pytest.raises(RowError, match=reason):
        read_object(Answer("id", text, finish_reason, {}, ""), PAIR)


def test_unknown_keys_are_left_out_at_any_depth_and_values_stay_as_they_are() -> None:
    text = '{"seeds": [{"a": "</think>{\\"a\\"}", "b": "don\'t,\\n\\u2028]", "c": 1}], "d": {"a": "1", "b": "2"}}'
    found = read_object(Answer("id", text, "stop", {}, ""), SEEDS)
    assert found == {"seeds": [{"a": '</think>{"a"}', "b": "don't,\n\u2028]"}]}


def test_damage_within_a_list_is_mended_as_a_whole() -> None:
    text = '{"seeds": [{"a": "x", "b": "y"}, {"a": "he said "no" to me", "b": "y",},]}'
    found = read_object(Answer("id", text, "stop", {}, ""), SEEDS)
    assert found == {"seeds": [{"a": "x", "b": "y"}, {"a": 'he said "no" to me', "b": "y"}]}


MEGABYTE = 10**6
GARBAGE = [
    "{",
    " ",
    "[",
    '{"',
    '{"a":',
    "{ ",
    "{}",
    '{"a":1}',
    '"',
    "<think>",
    "</think>",
    '{"a":[',
    '{"a":[1,',
    "\\",
    "1",
]


@pytest.mark.parametrize("unit", [*GARBAGE, '{"a": "x", "b": 1}', '{"a":"', "{'a':", "(", "```"])
@pytest.mark.parametrize("start", ["", '{"a":', '{"a": "x", "b": '])
def test_a_megabyte_of_garbage_is_judged_at_once(unit: str, start: str) -> None:
    for size in (MEGABYTE, 12_000):
        text = start + (unit * (size // len(unit)))
        begin = time.thread_time()  # of this thread alone; work that grows with the square would take hours
        for whole in (text, text + "}" * text.count("{")):
            with contextlib.suppress(RowError):
                read_object(Answer("id", whole, "stop", {}, ""), PAIR)
        assert time.thread_time() - begin < 10.0


def test_a_better_reader_reads_an_existing_run_anew_without_a_request(tmp_path: Path, serve, monkeypatch) -> None:
    def damaged(number: int, handler) -> bool:
        if number == 0 or step_of(server.bodies[number - 1]) != "generation" or len(done) == 3:
            return False
        done.append(number)
        answer = FakeModel().complete(server.bodies[number - 1])
        content = answer["choices"][0]["message"]["content"]
        reply(handler, 200, completion(content[:-1] + ",}"))
        return True

    server, done = serve(FakeModel()), []
    server.misbehave = damaged
    with monkeypatch.context() as worse:
        worse.setattr("targen.llm.messages.repaired", lambda text, finished: None)
        before = run(tmp_path, server, "synth.self_correct=off", "generator.concurrency=1")
    asked = len(server.bodies)
    assert b"no JSON object" in before["rte/rejects.jsonl"]
    after = run(tmp_path, server, "synth.self_correct=off", "generator.concurrency=1")
    assert after["rte/rejects.jsonl"] == b"" and len(server.bodies) == asked


# --- messages ---


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
    ],
)
def test_messages_of_every_kind(choice: Any, text: str, finish_reason: str) -> None:
    found = answer_from_completion("id", {"choices": [choice], "model": "m"})
    assert (found.text, found.finish_reason, found.usage) == (text, finish_reason, {})


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


def test_answers_without_an_object_are_recorded_and_rejected_and_bodies_without_one_asked_again(
    tmp_path: Path, serve
) -> None:
    strange = [
        completion(None, choices=[{"message": {"content": None, "refusal": "I will not."}, "finish_reason": "stop"}]),
        completion(""),
        completion("{", "length"),
        completion(None, "content_filter"),
        completion(None, "tool_calls"),
        completion("x", choices=[]),
    ]
    again: list[str] = []

    def misbehave(number: int, handler) -> bool:
        if number and step_of(server.bodies[number - 1]) == "generation" and strange:
            again.extend([json.dumps(server.bodies[number - 1])] * (len(strange) == 1))
            reply(handler, 200, strange.pop(0))
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
    assert [json.dumps(body) for body in server.bodies].count(again[0]) == 2


# --- another model ---


class Renamed(FakeModel):
    def complete(self, body: Any) -> dict[str, Any]:
        return super().complete(body) | {"model": "another-7b"}


def test_another_model_behind_the_same_name_is_refused_after_one_call(tmp_path: Path, serve) -> None:
    run(tmp_path, serve(FakeModel()))
    before = files(tmp_path / "calls")
    other = serve(Renamed())
    with pytest.raises(UserError, match=r"answers as 'another-7b', expected 'fake', which gave the answers"):
        run(tmp_path, other, "synth.size=12")
    assert len(other.bodies) + len(other.probes) == 1
    assert files(tmp_path / "calls") == before
    silent = serve(FakeModel())
    silent.misbehave = lambda number, handler: (
        number
        and (reply(handler, 200, json.dumps(FakeModel().complete(silent.bodies[number - 1]) | {"model": None})) or True)
    )
    run(tmp_path, silent, "synth.size=12")


def test_a_model_that_changes_in_mid_run_is_refused_at_that_answer(tmp_path: Path, serve) -> None:
    server = serve(FakeModel())
    server.misbehave = lambda number, handler: (
        number > 5 and (reply(handler, 200, json.dumps(Renamed().complete(server.bodies[number - 1]))) or True)
    )
    ended = command("targen.generate", *overrides(tmp_path, server, "generator.concurrency=2"))
    assert ended.returncode == 2 and ended.stderr.count("error: ") == 1
    assert "'another-7b', expected 'fake'" in ended.stderr
    assert {call["model"] for call in lines(tmp_path / "calls" / "rte.jsonl")} == {"fake"}
    assert len(server.bodies) <= 5 + 2


# --- overload and outage ---


def test_the_number_of_calls_at_once_falls_and_rises_with_the_server() -> None:
    import asyncio

    found = Pace(64)

    async def calls(*ends: bool) -> None:
        for refused in ends:
            found.leave(await found.enter(), refused)

    asyncio.run(calls(*[number % 33 == 0 for number in range(2000)]))
    assert found.places == 64  # single refusals, 3 %
    asyncio.run(calls(*[True] * 11))
    assert found.places == 32
    asyncio.run(calls(*[True] * 200))
    assert found.places == 1
    asyncio.run(calls(*[False] * 200))
    assert found.places == 64


def test_no_more_calls_at_once_than_an_overloaded_server_takes(tmp_path: Path, serve) -> None:
    lock, now, seen = threading.Lock(), [0], []

    def misbehave(number: int, handler) -> bool:
        with lock:
            now[0] += 1
            busy = now[0] > 4
            seen.append(busy)
        time.sleep(0.01)
        with lock:
            now[0] -= 1
        if busy:
            reply(handler, 429, "", Retry_After="0")
        return busy

    server = serve(FakeModel())
    server.misbehave = misbehave
    more = ("generator.concurrency=64", "synth.size=100", "synth.contexts=40")
    run(tmp_path, server, *more)
    assert len(lines(tmp_path / "synthetic" / "rte" / "train.jsonl")) == 100
    assert sum(seen[150:]) < 0.4 * len(seen[150:])


def test_retries_outlive_an_outage_of_half_a_minute_whatever_is_drawn(monkeypatch) -> None:
    monkeypatch.setattr(pace.random, "uniform", lambda low, high: low)
    server = settings("generator=openai", "generator.model=m").generator
    shortest = [pause(server.retry_pause, attempt, 0.0) for attempt in range(server.max_retries)]
    assert sum(shortest) > 60 and shortest == sorted(shortest)
    assert pause(0.5, 0, 7.0) == 7.0 and pause(0.5, 0, 3600.0) == 60.0


def test_retry_after_is_a_number_or_a_date() -> None:
    from email.utils import formatdate

    assert replies.seconds("2.5") == 2.5
    assert replies.seconds(formatdate(time.time() + 5000, usegmt=True)) == pytest.approx(5000, abs=500)
    assert [replies.seconds(text) for text in (None, "soon", "nan", "inf")] == [None] * 4


def away(server: Server, seconds: float) -> None:
    """From its tenth call on, the server is away for some time: connections are cut."""
    back = [0.0]

    def misbehave(number: int, handler) -> bool:
        if number >= 10 and not back[0]:
            back[0] = time.monotonic() + seconds
        if time.monotonic() < back[0]:
            handler.close_connection = True
            handler.connection.shutdown(socket.SHUT_RDWR)
            return True
        return False

    server.misbehave = misbehave


def test_an_outage_of_sixty_first_pauses_is_outlived(tmp_path: Path, serve, good) -> None:
    server = serve(FakeModel())  # 60 x 0.01 s here, as 60 x 0.5 s by default
    away(server, 0.6)
    assert run(tmp_path, server) == good


@pytest.mark.slow
def test_a_real_outage_of_five_seconds_is_outlived(tmp_path: Path, serve, good) -> None:
    server = serve(FakeModel())
    away(server, 5.0)
    assert run(tmp_path, server, "generator.retry_pause=0.5") == good


# --- endless and broken replies ---


def head(handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(10**9))
    handler.end_headers()
    handler.wfile.flush()


@pytest.mark.parametrize("kind", ["silent", "head", "drip"])
def test_an_endless_answer_is_ended_by_the_timeout(tmp_path: Path, serve, kind: str) -> None:
    stop, nameless = threading.Event(), serve(FakeModel())  # which model it is does not matter here
    nameless.misbehave = lambda number, handler: (
        number
        and (
            reply(handler, 200, json.dumps(FakeModel().complete(nameless.bodies[number - 1]) | {"model": None})) or True
        )
    )
    run(tmp_path, nameless)
    kept = len(nameless.bodies)

    def misbehave(number: int, handler) -> bool:
        if number == 0:
            return False
        if kind != "silent":
            head(handler)
        while not stop.wait(0.05):
            if kind == "drip":
                try:
                    handler.wfile.write(b" ")
                    handler.wfile.flush()
                except OSError:
                    break
        return True

    server = serve(FakeModel())
    server.misbehave = misbehave
    begin = time.monotonic()
    with pytest.raises(UserError, match=rf"calls got no answer \(.*timeout x \d+.* {kept} answers are saved") as ended:
        run(tmp_path, server, "synth.size=24", "generator.timeout=0.3")
    stop.set()
    assert time.monotonic() - begin < 100
    assert "no complete answer in 0.3 s (generator.timeout), after 2 retries" in str(ended.value)


def test_a_reply_without_end_is_cut_off(tmp_path: Path, serve, monkeypatch) -> None:
    def misbehave(number: int, handler) -> bool:
        if number <= 3:
            return False
        head(handler)
        try:
            while True:
                handler.wfile.write(b" " * 65536)
        except OSError:
            handler.close_connection = True
            return True

    monkeypatch.setattr(openai, "MOST_BYTES", 2**20)
    server = serve(FakeModel())
    server.misbehave = misbehave
    with pytest.raises(UserError, match=r"reply too long x \d+.*more than 1048576 bytes, after 2 retries"):
        run(tmp_path, server, "generator.concurrency=2")


def test_a_fatal_end_does_not_wait_for_calls_that_hang(tmp_path: Path, serve, monkeypatch) -> None:
    stop = threading.Event()

    def misbehave(number: int, handler) -> bool:
        if number == 6:
            time.sleep(0.2)
            reply(handler, 401, "no")
        elif number > 3:
            stop.wait(LONGEST)
        return number > 3

    monkeypatch.setattr(openai, "DRAIN", 0.5)
    server = serve(FakeModel())
    server.misbehave = misbehave
    begin = time.monotonic()
    with pytest.raises(UserError, match="answers status 401: no; no key is set"):
        run(tmp_path, server, "synth.size=24")
    stop.set()
    assert time.monotonic() - begin < 100


def test_the_end_says_what_happened_how_often_and_what_is_kept(tmp_path: Path, serve) -> None:
    def misbehave(number: int, handler) -> bool:
        if number > 3:
            reply(handler, 500 if number % 2 else 503, '{"error": {"message": "out of\\nmemory \\u001b[31m"}}')
        return number > 3

    server = serve(FakeModel())
    server.misbehave = misbehave
    ended = command("targen.generate", *overrides(tmp_path, server, "generator.max_retries=2"))
    assert ended.returncode == 2
    (line,) = [line for line in ended.stderr.splitlines() if line.startswith("error:")]
    assert "calls got no answer (" in line and "status 50" in line and " x " in line
    assert "out of memory ?[31m, after 2 retries. 3 answers are saved. Fix the cause and rerun the command" in line


def test_a_redirect_is_not_followed(tmp_path: Path, serve) -> None:
    server, other = serve(FakeModel()), serve(FakeModel())
    server.misbehave = lambda number, handler: reply(handler, 307, "", Location=other.url + "/chat/completions") or True
    with pytest.raises(UserError, match=rf"answers status 307 and points to {other.url}/chat/completions"):
        run(tmp_path, server)
    assert other.bodies == []


# --- without a network, with any text ---

NO_NETWORK = """
import socket
real = socket.socket.connect
def connect(self, address):
    if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1"):
        raise SystemExit(f"reached out to {address}")
    return real(self, address)
socket.socket.connect = connect
lookup = socket.getaddrinfo
def getaddrinfo(host, *rest, **more):
    if host not in ("127.0.0.1", "localhost", None):
        raise SystemExit(f"looked up {host}")
    return lookup(host, *rest, **more)
socket.getaddrinfo = getaddrinfo
import atexit, sys
atexit.register(lambda: print("HEAVY", {"torch", "transformers", "tokenizers", "datasets"} & set(sys.modules)))
"""


def test_nothing_is_downloaded_and_no_tokenizer_is_loaded(tmp_path: Path, serve, good) -> None:
    (tmp_path / "sitecustomize.py").write_text(NO_NETWORK)
    variables = os.environ | {"PYTHONPATH": f"{tmp_path}:{PROJECT}"}
    variables = {name: value for name, value in variables.items() if not name.lower().endswith("_proxy")}
    arguments = [sys.executable, "-m", "targen.generate", *overrides(tmp_path / "run", serve(FakeModel()))]
    done = subprocess.run(arguments, env=variables, capture_output=True, text=True, timeout=LONGEST)
    assert done.returncode == 0, done.stderr
    assert "HEAVY set()" in done.stdout
    assert files(tmp_path / "run" / "synthetic") == good


TEXTS = {
    "scripts": "Ωμέγα, ภาษาไทย, العربية, हिन्दी, 日本語, 👩‍👩‍👧 and e\u0301 were all there.",
    "control": "It rang\x07 and\x1b[31m the\x85 line\u2028 ended\u2029 there\x7f twice.",
    "nul": "The file had\x00 a hole.",
    "quotes": 'He said: "{\'a\': \\"b\\"}" and left.\r\n\tThen <think> he </think> came back.',
    "long": "The very long day went on and on. " * 30_000,
    "half": "Only half \ud83d of it.",
}


@pytest.mark.parametrize("kind", TEXTS)
def test_any_text_comes_back_as_it_was_or_is_rejected_with_a_reason(tmp_path: Path, serve, kind: str) -> None:
    def misbehave(number: int, handler) -> bool:
        steps = [step_of(body) for body in server.bodies[:number]]
        if steps[-1:] != ["generation"] or steps.count("generation") > 1:  # but for the first to come, all are as usual
            return False
        reply(handler, 200, completion(json.dumps({"hypothesis": TEXTS[kind]}, ensure_ascii=kind == "half")))
        return True

    server = serve(FakeModel())
    server.misbehave = misbehave
    run(tmp_path, server)
    for path in tmp_path.rglob("*.jsonl"):
        for line in path.read_bytes().decode("ascii").splitlines():
            json.loads(line)
    rows = lines(tmp_path / "synthetic" / "rte" / "train.jsonl")
    rejects = lines(tmp_path / "synthetic" / "rte" / "rejects.jsonl")
    kept = [row for row in rows if row["hypothesis"] == TEXTS[kind]]
    assert len(rows) == SIZE and len(kept) + len(rejects) == 1
    assert bool(rejects) == (kind == "half"), rejects
    assert all("half a character" in reject["reason"] for reject in rejects)
