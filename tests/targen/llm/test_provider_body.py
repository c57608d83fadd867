"""Bodies that are fitted to the provider: by settings, or because the server refuses something. Calls keep their ids."""

import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from targen.generate import generate
from targen.llm.backends.batch import AwaitingAnswers
from targen.llm.refused_fields import refused_fields
from targen.runtime.errors import UserError
from tests.support.commands import Server, lines, reply
from tests.support.fake_model import FakeModel
from tests.support.faulty_server import completion, run, warnings
from tests.support.generation_runs import batch_settings

PLAIN = {"model", "messages", "temperature", "top_p", "max_tokens", "seed", "response_format"}


def ids(folder: Path) -> set[str]:
    return {call["id"] for call in lines(folder / "calls" / "rte.jsonl")}


def body_of(server: Server, number: int) -> dict[str, Any]:
    """The body of a call as `misbehave` sees it: number 0 is the latest probe."""
    return server.bodies[number - 1] if number else server.probes[-1]


def answering(server: Server, refuses: Callable[[dict[str, Any]], tuple[int, Any] | None], good: Server) -> None:
    """The server answers as `good` did to the same prompts, whatever else the body holds, unless it refuses the body."""
    by_prompt = {body["messages"][-1]["content"]: body for body in [*good.bodies, *good.probes]}

    def misbehave(number: int, handler: BaseHTTPRequestHandler) -> bool:
        body = body_of(server, number)
        if refused := refuses(body):
            status, error = refused
            reply(handler, status, error if isinstance(error, str) else json.dumps(error))
            return True
        prompt = body["messages"][-1]["content"]
        known = next(
            (earlier for text, earlier in by_prompt.items() if prompt == text or prompt.endswith("\n\n" + text)), body
        )
        reply(handler, 200, json.dumps(FakeModel().complete(known)))
        return True

    server.misbehave = misbehave


@pytest.fixture
def good_run(tmp_path: Path, serve) -> tuple[Server, dict[str, bytes], set[str]]:
    """A good server that answered a run; the data of the run, and the ids of its calls."""
    server = serve(FakeModel())
    data = run(tmp_path / "good", server)
    return server, data, ids(tmp_path / "good")


def test_settings_change_the_body_and_not_the_calls(tmp_path: Path, serve, good_run, caplog) -> None:
    good, data, calls = good_run
    server = serve(FakeModel())
    answering(server, lambda body: None, good)
    overrides = ["generator.drop=[top_p]", "generator.rename={max_tokens: max_completion_tokens, seed: random_seed}"]
    overrides += ["generator.system=merge", "+generator.extra_body.reasoning_effort=low"]
    overrides += ["+generator.chat_template_kwargs.enable_thinking=false"]
    assert run(tmp_path / "fitted", server, *overrides) == data
    assert ids(tmp_path / "fitted") == calls and warnings(caplog) == []
    fields = PLAIN - {"top_p", "max_tokens", "seed"}
    fields |= {"max_completion_tokens", "random_seed", "reasoning_effort", "chat_template_kwargs"}
    for body, plain in zip([*server.probes, server.bodies[0]], [*good.probes, good.bodies[0]], strict=True):
        assert set(body) == fields
        assert body["chat_template_kwargs"] == {"enable_thinking": False}
        system, user = (message["content"] for message in plain["messages"])
        assert body["messages"] == [{"role": "user", "content": f"{system}\n\n{user}"}]
        assert (body["random_seed"], body["max_completion_tokens"]) == (plain["seed"], plain["max_tokens"])
    run(tmp_path / "fitted", server, "synth.size=8")  # without them: the same calls, so only the new ones are made
    assert calls < ids(tmp_path / "fitted")


def test_request_files_are_fitted_too(tmp_path: Path) -> None:
    bodies = []
    for folder, fit_overrides in (
        ("plain", []),
        ("fitted", ["generator.drop=[seed]", "generator.system=merge", "generator.extra_body={a: {b: 1}}"]),
    ):
        with pytest.raises(AwaitingAnswers):
            generate(batch_settings(tmp_path / folder, "task=rte", *fit_overrides))
        bodies.append({line["custom_id"]: line["body"] for line in lines(tmp_path / folder / "requests.jsonl")})
    plain, fitted = bodies
    assert set(plain) == set(fitted)
    for id, body in fitted.items():
        assert set(body) == PLAIN - {"seed"} | {"a"} and body["a"] == {"b": 1}
        assert len(body["messages"]) == 1 < len(plain[id]["messages"])


def extra_forbidden(body: dict[str, Any]) -> tuple[int, Any] | None:
    detail = {"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs are not permitted", "input": 1}
    return (422, {"object": "error", "message": {"detail": [detail]}}) if "seed" in body else None


def reasoning_model(body: dict[str, Any]) -> tuple[int, Any] | None:
    words = None
    if "max_tokens" in body:
        words = (
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
        )
    elif body.get("temperature", 1) != 1:
        words = "Unsupported value: 'temperature' does not support 0.0 with this model. Only the default (1) value is supported."
    return (400, {"error": {"message": words, "param": None}}) if words else None


def no_system(body: dict[str, Any]) -> tuple[int, Any] | None:
    has = any(message["role"] == "system" for message in body["messages"])
    return (500, {"error": {"message": "Only user and assistant roles are supported!"}}) if has else None


def strict(body: dict[str, Any]) -> tuple[int, Any] | None:
    """Names what it does not know, and then what it knows."""
    unknown = sorted(set(body) - {"messages", "model", "temperature", "response_format", "max_tokens"})
    words = f"unknown field {unknown[0]!r}, known are max_tokens, messages, temperature" if unknown else ""
    return (400, {"error": words}) if unknown else None


@pytest.mark.parametrize(
    ("refuses", "phrases", "changed"),
    [
        (extra_forbidden, ["does not take seed (status 422: body.seed: Extra"], {"seed"}),
        (reasoning_model, ["does not take max_tokens (", "does not take temperature=0.0 ("], {"max_tokens"}),
        (no_system, ["does not take the role system (status 500: Only user and"], set()),
        (strict, ["does not take seed (", "does not take top_p ("], {"seed", "top_p"}),
    ],
)
def test_what_a_server_refuses_is_found_by_the_probe_and_changed_for_good(
    tmp_path: Path, serve, good_run, caplog, refuses, phrases: list[str], changed: set[str]
) -> None:
    good, data, calls = good_run
    server = serve(FakeModel())
    answering(server, refuses, good)
    assert run(tmp_path / "run", server) == data
    assert ids(tmp_path / "run") == calls
    messages = warnings(caplog)
    assert len(messages) == len(phrases)
    assert all(words in text for words, text in zip(phrases, sorted(messages), strict=True)), messages
    refused = [body for body in [*server.probes, *server.bodies] if refuses(body)]
    assert len(server.probes) + len(server.bodies) == len(good.probes) + len(good.bodies) + len(refused)
    assert len(refused) <= 2 * len(phrases)  # by the probe and by the call that went out beside it
    assert not changed & set(server.bodies[-1])
    before = len(server.bodies), len(server.probes)
    answering(server, refuses, good)
    caplog.clear()
    server.misbehave = lambda number, handler: False
    run(tmp_path / "run", server, "synth.size=8")  # found again in the probe's record
    assert len(server.probes) == before[1] and len(warnings(caplog)) == len(phrases)
    assert not any(refuses(body) for body in server.bodies[before[0] :])


@pytest.mark.parametrize("words", ["response_format.type: Input should be 'text'", ""])
def test_a_status_500_that_only_a_response_format_gets_means_that_it_is_refused(
    tmp_path: Path, serve, good_run, caplog, words: str
) -> None:
    good, data, _ = good_run
    server = serve(FakeModel())
    answering(server, lambda body: (500, {"error": {"message": words}}) if "response_format" in body else None, good)
    assert run(tmp_path / "run", server) == data
    (warning,) = warnings(caplog)
    assert "refuses a response_format (status 500" in warning
    assert sum("response_format" in body for body in server.bodies) <= 2


def test_a_status_500_that_comes_once_changes_nothing(tmp_path: Path, serve, good_run, caplog) -> None:
    good, data, _ = good_run
    server, bodies = serve(FakeModel()), []

    def refuses(body: dict[str, Any]) -> tuple[int, Any] | None:
        bodies.append(body)
        return (500, "") if len(bodies) == 1 else None

    answering(server, refuses, good)
    assert run(tmp_path / "run", server) == data
    assert warnings(caplog) == [] and sum("response_format" not in body for body in server.bodies) <= 1


def test_a_refusal_that_no_change_meets_changes_nothing(tmp_path: Path, serve, caplog) -> None:
    """A filter whose words look like a complaint about fields."""
    server = serve(FakeModel())
    words = (
        "Your prompt is not allowed: the system prompt or the seed of it is not supported by our policy, temperature 0"
    )
    server.misbehave = lambda number, handler: number > 3 and (reply(handler, 400, words) or True)
    with pytest.raises(UserError):
        run(tmp_path, server, "generator.concurrency=1", "synth.max_attempts=1", "synth.max_slots=1")
    assert warnings(caplog) == []


@pytest.mark.parametrize(
    ("error", "fields"),
    [
        ({"error": {"message": "Unsupported parameter: 'temperature' is not supported with this model."}}, ["temperature"]),
        ({"error": {"message": "`temperature` must be strictly positive"}}, ["temperature="]),
        ({"error": {"message": "`temperature` and `top_p` cannot both be specified for this model. Use only one."}}, ["top_p"]),
        ({"error": {"message": "top_p must be in (0,1)"}}, ["top_p="]),
        ({"error": {"message": "property 'seed' is unsupported"}}, ["seed"]),
        ({"error": {"message": 'Invalid JSON payload received. Unknown name "seed": Cannot find field.'}}, ["seed"]),
        ({"detail": "chat() got an unexpected keyword argument 'seed'"}, ["seed"]),
        ({"error": {"message": "m does not support parameters: ['seed', 'top_p']"}}, ["seed", "top_p"]),
        ({"error": {"message": "Unsupported value", "param": "messages[0].role"}}, ["system"]),
        ({"error": {"message": "Developer instruction is not enabled for models/gemma-3-27b-it"}}, ["system"]),
        ({"error": {"message": "Conversation roles must alternate user/assistant/user/assistant"}}, ["system"]),
        ({"error": {"message": "'max_tokens' or 'max_completion_tokens' is too large: 4096."}}, []),
        ({"error": {"message": "Failed to generate JSON.", "code": "json_validate_failed"}}, []),
        ({"error": {"message": "Invalid prompt: it was flagged as potentially violating our usage policy."}}, []),
        ({"detail": [{"loc": ["body", "n"], "msg": "not permitted", "input": {"seed": 1}}]}, []),
    ],
)  # fmt: skip
def test_what_an_error_complains_about(error: dict[str, Any], fields: list[str]) -> None:
    assert refused_fields(400, json.dumps(error)) == fields
    assert refused_fields(429, json.dumps(error)) == []


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
@pytest.mark.parametrize("finish_reason", ["stop", "length"])
def test_a_model_that_only_thinks_is_told_as_that_with_the_remedy(
    tmp_path: Path, serve, caplog, field: str, finish_reason: str
) -> None:
    def misbehave(number: int, handler: BaseHTTPRequestHandler) -> bool:
        answer = json.loads(completion(None, finish_reason))
        answer["choices"][0]["message"][field] = "Okay, the user wants me to write"
        reply(handler, 200, json.dumps(answer))
        return True

    server = serve(FakeModel())
    server.misbehave = misbehave
    with pytest.raises(UserError):
        run(tmp_path, server)
    (warning,) = warnings(caplog)
    assert "reasoning_content" in warning and "max_tokens" in warning and "generator.chat_template_kwargs=" in warning
    assert {call["finish_reason"] for call in lines(tmp_path / "calls" / "rte.jsonl")} == {
        "reasoning" if finish_reason == "stop" else "reasoning_length"
    }
