"""Servers that ignore or refuse the JSON schema of a request."""

import json
import threading
import time
from pathlib import Path

import pytest

from targen.llm.backends.openai.client import BEFORE_PROBE
from targen.llm.backends.openai.limits import Limits
from targen.runtime.errors import UserError
from tests.support.commands import LONGEST, lines, reply
from tests.support.fake_model import FakeModel
from tests.support.faulty_server import SIZE, completion, run, step_of, warnings


def test_a_server_that_ignores_the_schema_is_found_out_by_the_probe_and_asked_once(
    tmp_path: Path, serve, good, caplog
) -> None:
    server = serve(FakeModel())
    server.misbehave = lambda number, handler: (
        number == 0 and (reply(handler, 200, completion("Cat.\n\x1b[2J")) or True)
    )
    assert run(tmp_path, server) == good
    (warning,) = warnings(caplog)
    assert "does not enforce the JSON schema" in warning and "answered 'Cat.\\n\\x1b[2J'" in warning
    (record,) = lines(tmp_path / "calls" / "canary.jsonl")
    assert record["id"].startswith("canary-probe-") and len(record["id"]) == len("canary-probe-") + 12
    assert record["text"] == "Cat.\n\x1b[2J" and set(record) == set(lines(tmp_path / "calls" / "rte.jsonl")[0])
    assert len(server.probes) == 1 and server.probes[0]["response_format"]["json_schema"]["strict"] is True
    caplog.clear()
    run(tmp_path, server, "synth.size=8")
    assert len(server.probes) == 1 and len(warnings(caplog)) == 1
    second_server = serve(FakeModel())
    run(tmp_path, second_server, "synth.size=24")
    assert len(second_server.probes) == 1


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
        if number == BEFORE_PROBE:
            enough.set()
        if number == 0:
            assert enough.wait(LONGEST)
            time.sleep(0.5)  # in which more could come
            before.append(len(server.bodies))
        return False

    server.misbehave = misbehave
    run(tmp_path, server, "method=zero_shot", "synth.size=60", limits=Limits(probe_wait=LONGEST))
    assert before == [BEFORE_PROBE]
    assert len(server.bodies) >= 60


@pytest.mark.parametrize("refuses", [False, True])
def test_calls_wait_long_for_a_probe_only_where_the_server_has_refused_something(
    tmp_path: Path, serve, refuses: bool
) -> None:
    server, before = serve(FakeModel()), []

    def misbehave(number: int, handler) -> bool:
        if number == 0 and refuses and len(server.probes) == 1:
            reply(handler, 400, '{"error": {"message": "Unsupported parameter: top_p"}}')
            return True
        if number == 0:
            time.sleep(2.5)  # five times as long as for a silent server, half of what it may be
            before.append(len(server.bodies))
        return False

    server.misbehave = misbehave
    run(tmp_path, server, "method=zero_shot", "synth.size=60", limits=Limits(probe_wait=5.0))
    assert (before[:1] == [BEFORE_PROBE]) == refuses


@pytest.mark.parametrize(("rate", "warning_count"), [(0.1, 0), (0.9, 1)])
def test_after_a_held_probe_only_many_odd_answers_are_a_finding(
    tmp_path: Path, serve, caplog, rate: float, warning_count: int
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
    findings = [line for line in warnings(caplog) if "does not enforce the JSON schema" in line]
    assert len(findings) == warning_count and all("answers do not fit it; the last," in line for line in findings)


def test_a_probe_without_an_answer_holds_nothing_up(tmp_path: Path, serve, good) -> None:
    server, run_ended = serve(FakeModel()), threading.Event()
    server.misbehave = lambda number, handler: number == 0 and run_ended.wait(LONGEST)
    assert run(tmp_path, server, limits=Limits(probe_wait=0.2)) == good
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
    data = run(tmp_path, server, "generator.concurrency=1")
    assert data["rte/train.jsonl"] == good["rte/train.jsonl"]
    (warning,) = warnings(caplog)
    assert "a request of step contexts was answered" in warning


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
    (warning,) = warnings(caplog)
    assert "refuses a response_format (status 400: response_format of type json_schema" in warning
    assert sum("response_format" in body for body in server.bodies) == 1 < len(server.bodies) - 1
    answered = {call["id"] for call in lines(tmp_path / "calls" / "rte.jsonl")}
    count = len(server.bodies)
    with pytest.raises(UserError, match="rte: got 0 instances"):
        run(tmp_path, serve(FakeModel()), "synth.max_attempts=2", "synth.max_slots=1")
    assert {call["id"] for call in lines(tmp_path / "calls" / "rte.jsonl")} == answered and len(server.bodies) == count


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
    (warning,) = warnings(caplog)
    assert "refuses the JSON schema of rte, step generation" in warning
    plain = [body for body in server.bodies if "response_format" not in body]
    refused = [body for body in server.bodies if "response_format" in body and step_of(body) == "generation"]
    assert len(refused) == 1 and len(plain) == SIZE
