"""Errors in place of an answer: of this prompt, of every call, of this moment."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from targen.llm.server_errors import server_error
from targen.runtime.errors import UserError
from tests.support.commands import lines, reply
from tests.support.fake_model import FakeModel
from tests.support.faulty_server import SIZE, run, step_of

REFUSED = {  # status, body -> finish_reason
    "openai": (400, {"message": "Invalid prompt: flagged as potentially violating our usage policy.", "code": "invalid_prompt"}, "content_filter"),
    "azure": (400, {"message": "The response was filtered", "code": "content_filter", "innererror": {"code": "ResponsibleAIPolicyViolation"}}, "content_filter"),
    "dashscope": (400, {"message": "Input text data may contain inappropriate content.", "code": "data_inspection_failed"}, "content_filter"),
    "deepseek": (400, {"message": "Content Exists Risk", "code": "invalid_request_error"}, "content_filter"),
    "openrouter": (403, {"message": "Input was flagged by moderation", "code": 403}, "content_filter"),
    "zhipu": (400, {"message": "系统检测到输入或生成内容可能包含不安全或敏感内容", "code": "1301"}, "content_filter"),
    "groq": (400, {"message": "Failed to generate JSON. See 'failed_generation'.", "code": "json_validate_failed", "failed_generation": "{schema"}, "invalid_json"),
    "openai context": (400, {"message": "x", "code": "context_length_exceeded"}, "context_length"),
    "vllm": (400, {"message": "This model's maximum context length is 512 tokens. However, your prompt contains 700 input tokens."}, "context_length"),
    "vllm engine": (400, {"message": "The decoder prompt (length 700) is longer than the maximum model length of 512."}, "context_length"),
    "llama.cpp": (400, {"message": "the request exceeds the available context size.", "type": "exceed_context_size_error"}, "context_length"),
    "llama.cpp 500": (500, {"message": "the request exceeds the available context size.", "type": "server_error"}, "context_length"),
    "anthropic": (400, {"message": "prompt is too long: 210000 tokens > 200000 maximum", "type": "invalid_request_error"}, "context_length"),
    "gemini": (400, [{"error": {"message": "The input token count (2000000) exceeds the maximum number of tokens allowed (1048576)."}}], "context_length"),
    "mistral": (400, {"message": "Prompt contains 40000 tokens, too large for model with 32768 maximum context length"}, "context_length"),
    "ollama": (400, {"message": "the input length exceeds the context length"}, "context_length"),
    "xai": (400, "This model's maximum prompt length is 131072 but the request contains 537812 tokens.", "context_length"),
    "tgi": (422, {"error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 2048.", "error_type": "validation"}, "no_room"),
    "deepseek range": (400, {"message": "Invalid max_tokens value, the valid range of max_tokens is [1, 8192]"}, "no_room"),
    "413": (413, "<html><head><title>413 Request Entity Too Large</title></head></html>", "context_length"),
    "unknown": (400, {"message": "Computer says no"}, "request_refused"),
    "unknown 422": (422, {"detail": [{"loc": ["body", "x"], "msg": "no", "input": "unsafe"}]}, "request_refused"),
}  # fmt: skip


@pytest.mark.parametrize("spelling", REFUSED)
def test_how_servers_say_that_they_refuse_a_prompt(spelling: str) -> None:
    status, error, finish_reason = REFUSED[spelling]
    for body in (error, {"error": error}, {"error": {"error": error}}):
        problem = server_error(status, body)
        assert (problem.about, problem.finish_reason) == ("prompt", finish_reason)
        assert problem.words.startswith(f"status {status}: ")
        assert "<h" not in problem.words and "unsafe" not in problem.words


@pytest.mark.parametrize(
    ("status", "error", "about"),
    [
        (401, {"message": "no"}, "every call"),
        (402, {"message": "Insufficient Balance"}, "every call"),
        (404, {"message": "The model `x` does not exist"}, "every call"),
        (429, {"message": "You exceeded your current quota", "code": "insufficient_quota"}, "every call"),
        (429, {"message": "Rate limit exceeded: free-models-per-day"}, "every call"),
        (400, {"message": "Your credit balance is too low to access the API."}, "every call"),
        (403, {"message": "used all available credits or reached its monthly spending limit"}, "every call"),
        (None, {"message": "Rate limit exceeded: free-models-per-day", "code": 429}, "every call"),
        (
            429,
            {"message": "Rate limit reached on tokens per min (TPM): Limit 60000. Please try again in 1.2s."},
            "moment",
        ),
        (429, {"message": "Rate limit reached on requests per day (RPD). Please try again in 8.64s."}, "moment"),
        (429, {"message": "Quota exceeded, you exceeded your current quota. Please retry in 22.4s."}, "moment"),
        (None, {"message": "Provider returned error", "code": 502}, "moment"),
        (None, {"message": "Provider returned error"}, "moment"),
        (500, {"message": "CUDA error"}, "moment"),
        (503, "<html><h1>503 Service Temporarily Unavailable</h1></html>", "moment"),
        (409, {"message": "conflict"}, "moment"),
        (None, "oops", "moment"),
        (500, None, "moment"),
    ],
)
def test_what_is_about_every_call_and_what_about_the_moment(status: int | None, error: Any, about: str) -> None:
    assert server_error(status, {"error": error} if error else error).about == about


def refusing(server: Any, status: int, body: Any, is_refused=lambda number, request: True) -> None:
    """Makes a server refuse some requests, and answer the harmless ones."""
    refused: list[Any] = []

    def misbehave(number: int, handler) -> bool:
        if number == 0:
            return False
        request = server.bodies[number - 1]
        if request not in refused and not is_refused(number, request):
            return False
        refused.append(request)
        reply(handler, status, body if isinstance(body, str) else json.dumps(body))
        return True

    server.misbehave = misbehave
    server.refused = refused


@pytest.mark.parametrize("spelling", REFUSED)
def test_one_refused_prompt_is_a_reject_that_is_not_asked_again(tmp_path: Path, serve, spelling: str) -> None:
    status, error, finish_reason = REFUSED[spelling]
    server = serve(FakeModel())
    refusing(server, status, error if spelling == "413" else {"error": error}, lambda number, request: number in (1, 9))
    run(tmp_path, server, "generator.concurrency=1")
    assert len(lines(tmp_path / "synthetic" / "rte" / "train.jsonl")) == SIZE
    first_body, _ = server.refused
    assert step_of(first_body) == "contexts"  # the very first call, before any other was answered
    rejects = lines(tmp_path / "synthetic" / "rte" / "rejects.jsonl")
    assert all(f"status {status}: " in reject["text"] for reject in rejects) and len(rejects) >= 2
    recorded = [call for call in lines(tmp_path / "calls" / "rte.jsonl") if call["finish_reason"] != "stop"]
    assert [call["finish_reason"] for call in recorded] == [finish_reason] * 2
    again = serve(FakeModel())
    run(tmp_path, again, "generator.concurrency=1")
    assert again.bodies == []


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (400, {"error": {"message": "Computer says no"}}, "answers status 400: Computer says no, also to a harmless prompt"),
        (400, {"error": {"message": "The model `fake` does not exist"}}, "answers status 400: The model `fake` does not exist"),
        (403, {"error": {"message": "Forbidden"}}, "answers status 403: Forbidden; no key is set in"),
        (404, {"error": {"message": "Not Found"}}, "answers status 404: Not Found, expected a server that has the model"),
        (429, {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}, "status 429: You exceeded"),
        (200, {"error": {"message": "Rate limit exceeded: free-models-per-day", "code": 429}}, "error 429: .*free-models-per-day"),
        (200, {"error": {"message": "No auth", "code": 401}}, "error 401: No auth; no key is set in"),
        (200, "<!doctype html><title>Open WebUI</title><body>Sign in</body>", "which answers 'Open WebUI Sign in', expected"),
        (200, {"status": "ok"}, r"which answers '\{\"status\": \"ok\"\}', expected chat completions"),
    ],
)  # fmt: skip
def test_what_every_call_gets_ends_the_run_soon_in_the_servers_words(
    tmp_path: Path, serve, status: int, body: Any, message: str
) -> None:
    server = serve(FakeModel())
    text = body if isinstance(body, str) else json.dumps(body)
    server.misbehave = lambda number, handler: reply(handler, status, text) or True
    begin = time.monotonic()
    with pytest.raises(UserError, match=rf"^generator.base_url: .*{message}") as caught:
        run(tmp_path, server, "generator.retry_pause=0.2")
    assert "\n" not in str(caught.value) and time.monotonic() - begin < 100
    assert len(server.bodies) < 30 and lines(tmp_path / "calls" / "rte.jsonl") == []


def test_a_max_tokens_that_no_prompt_leaves_room_for_is_told_as_that(tmp_path: Path, serve) -> None:
    server = serve(FakeModel())
    vllm = "'max_tokens' is too large: 2048. This model's maximum context length is 2048 tokens."
    server.misbehave = lambda number, handler: reply(handler, 400, json.dumps({"message": vllm})) or True
    with pytest.raises(
        UserError, match=r"^synth.sampling.contexts.max_tokens: got 2048, which .*'max_tokens' is too large"
    ):
        run(tmp_path, server)


def test_a_quota_that_is_used_up_in_mid_run_ends_it_and_keeps_the_answers(tmp_path: Path, serve, good) -> None:
    server = serve(FakeModel())
    used_up = json.dumps({"error": {"message": "You exceeded your current quota", "type": "insufficient_quota"}})
    server.misbehave = lambda number, handler: number > 5 and (reply(handler, 429, used_up) or True)
    with pytest.raises(UserError, match=r"answers status 429: You exceeded .*rerun the command to resume"):
        run(tmp_path, server, "generator.concurrency=1")
    assert len(server.bodies) == 6
    assert run(tmp_path, serve(FakeModel())) == good
