"""Generation with batch files: partial responses, limits, responses of other runs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from targen.generate import generate
from targen.llm.messages import AwaitingAnswers
from targen.runtime.errors import UserError
from tests.support.commands import files, lines
from tests.support.fake_model import FakeModel
from tests.support.generation_runs import batch_settings, by_batch, respond


def test_batch_files_may_come_back_in_pieces(tmp_path: Path) -> None:
    model = FakeModel(error_rate=0.1, flip_rate=0.2)
    rounds_whole = by_batch(tmp_path / "whole", model, "task=[axg,copa,record]")
    rounds_in_parts = by_batch(tmp_path / "parts", model, "task=[axg,copa,record]", keep=0.6)
    assert rounds_in_parts > rounds_whole
    assert files(tmp_path / "parts" / "synthetic") == files(tmp_path / "whole" / "synthetic")


def test_the_request_file_is_the_same_to_the_byte_and_of_the_openai_form(tmp_path: Path) -> None:
    for name in ("one", "two"):
        with pytest.raises(AwaitingAnswers, match=r"16 requests wait for answers .*run-batch"):
            generate(batch_settings(tmp_path / name))
    text = (tmp_path / "one" / "requests.jsonl").read_bytes()
    assert text == (tmp_path / "two" / "requests.jsonl").read_bytes()
    for line in lines(tmp_path / "one" / "requests.jsonl"):
        assert list(line) == ["custom_id", "method", "url", "body"]
        assert (line["method"], line["url"]) == ("POST", "/v1/chat/completions")
        assert len(line["custom_id"]) <= 64
        assert line["body"]["response_format"]["type"] == "json_schema"


def test_what_one_file_may_not_hold_goes_on_in_further_files(tmp_path: Path) -> None:
    def names(stem: str) -> list[str]:
        return sorted(path.name for path in (tmp_path / "many").glob(f"{stem}*.jsonl"))

    def start(name: str, *overrides: str) -> None:
        generate(batch_settings(tmp_path / name, "task=[cb,copa,rte]", "synth.few_rounds=false", *overrides))

    with pytest.raises(AwaitingAnswers):
        start("one")
    all_requests = (tmp_path / "one" / "requests.jsonl").read_bytes()
    sizes = [len(line) for line in all_requests.splitlines(keepends=True)]
    assert len(sizes) == 3
    for limits, files_ in (
        (["generator.max_lines=1"], ["requests-2.jsonl", "requests-3.jsonl", "requests.jsonl"]),
        ([f"generator.max_bytes={sizes[0] + sizes[1]}"], ["requests-2.jsonl", "requests.jsonl"]),
        ([f"generator.max_bytes={sum(sizes) - 1}", "generator.max_lines=2"], ["requests-2.jsonl", "requests.jsonl"]),
    ):
        with pytest.raises(AwaitingAnswers, match=rf"3 requests wait .*requests.jsonl to requests-{len(files_)}.jsonl"):
            start("many", *limits)
        assert names("requests") == files_  # those of the round before are gone
        parts = [tmp_path / "many" / name for name in [files_[-1], *files_[:-1]]]
        assert b"".join(path.read_bytes() for path in parts) == all_requests

    files_before = files(tmp_path / "many")
    with pytest.raises(UserError, match=rf"generator.max_bytes: got 99, expected at least {sizes[0]}, .* request cb-"):
        start("many", "generator.max_bytes=99")
    assert files(tmp_path / "many") == files_before


def test_answers_come_from_every_response_file_and_unanswered_request_files_stay(tmp_path: Path) -> None:
    model = FakeModel(flip_rate=0.2)
    rounds = by_batch(tmp_path / "one", model, "task=[copa,rte]")
    for _ in range(rounds):
        with pytest.raises(AwaitingAnswers):
            generate(batch_settings(tmp_path / "many", "task=[copa,rte]", "generator.max_lines=2"))
        for old in (tmp_path / "many").glob("responses*"):
            old.unlink()
        for path in (tmp_path / "many").glob("requests*.jsonl"):
            answers = [
                {"custom_id": line["custom_id"], "response": {"status_code": 200, "body": model.complete(line["body"])}}
                for line in lines(path)
            ]
            text = "".join(json.dumps(answer) + "\n" for answer in answers)
            path.with_name(path.name.replace("requests", "responses")).write_text(text)
    generate(batch_settings(tmp_path / "many", "task=[copa,rte]", "generator.max_lines=2"))
    assert files(tmp_path / "many" / "synthetic") == files(tmp_path / "one" / "synthetic")

    with pytest.raises(AwaitingAnswers):
        generate(
            batch_settings(tmp_path / "left", "task=[copa,rte]", "synth.few_rounds=false", "generator.max_lines=1")
        )
    with pytest.raises(AwaitingAnswers):  # rte is left out: its request is neither answered nor written anew
        generate(batch_settings(tmp_path / "left", "task=copa", "synth.few_rounds=false", "generator.max_lines=1"))
    unanswered = lines(tmp_path / "left" / "requests-2.jsonl")
    assert [line["custom_id"].split("-")[0] for line in unanswered] == ["rte"]


def test_responses_of_another_run_are_refused(tmp_path: Path) -> None:
    for name, seed in (("one", 0), ("two", 1)):
        with pytest.raises(AwaitingAnswers):
            generate(batch_settings(tmp_path / name, f"seed={seed}"))
    respond(tmp_path / "one", FakeModel())
    (tmp_path / "one" / "responses.jsonl").rename(tmp_path / "two" / "responses.jsonl")
    with pytest.raises(UserError, match=r"responses.jsonl:1: got the custom_id .* another run"):
        generate(batch_settings(tmp_path / "two", "seed=1"))
    assert not (tmp_path / "two" / "synthetic").exists()


def test_over_generation_saves_rounds_and_holds_back_what_is_not_needed(tmp_path: Path) -> None:
    model = FakeModel(error_rate=0.1, flip_rate=0.2)
    serial = by_batch(tmp_path / "serial", model, "task=[rte,copa]")
    spare = by_batch(tmp_path / "spare", model, "task=[rte,copa]", "synth.spare=1.0", "synth.max_attempts=2")
    assert spare < serial
    stats = json.loads((tmp_path / "spare" / "synthetic" / "rte" / "stats.json").read_text())
    assert stats["rows_per_label"] == {"entailment": 6, "not_entailment": 6}
    assert stats["surplus"] > 0


def rounds(folder: Path, bad: Callable[[str, Any], dict[str, Any] | None], most: int = 30) -> list[str]:
    """Answers every request until the run ends, with what `bad` makes of it or else properly. Returns the run's messages."""
    messages = []
    for _ in range(most):
        try:
            generate(batch_settings(folder, "task=rte"))
        except AwaitingAnswers as waiting:
            messages.append(str(waiting))
        else:
            return messages
        answered = []
        for request in lines(folder / "requests.jsonl"):
            id = request["custom_id"]
            good = {"response": {"status_code": 200, "body": FakeModel().complete(request["body"])}, "error": None}
            answered.append({"custom_id": id} | (bad(id, request["body"]) or good))
        (folder / "responses.jsonl").write_text("".join(json.dumps(line) + "\n" for line in answered))
    raise AssertionError(f"still waits after {most} rounds: {messages[-1]}")


TOO_LONG = "This model's maximum context length is 512 tokens. However, your prompt contains 700 input tokens."
FORBIDDEN = {"message": "Your prompt was flagged", "type": "invalid_request_error", "code": "invalid_prompt"}
REFUSALS = {
    "vllm": {"response": {"status_code": 400, "body": None}, "error": {"error": {"message": TOO_LONG, "code": 400}}},
    "text": {"response": {"status_code": 400, "body": None}, "error": TOO_LONG},
    "flat": {"response": None, "error": {"message": TOO_LONG, "type": "BadRequestError", "code": 400}},
    "openai": {"response": {"status_code": 400, "body": {"error": FORBIDDEN}}, "error": None},
    "unknown": {"response": {"status_code": "422", "body": {"detail": "Computer says no"}}, "error": None},
}


@pytest.mark.parametrize("kind", REFUSALS)
def test_a_line_that_is_refused_is_a_reject_and_not_asked_again(tmp_path: Path, kind: str) -> None:
    refused: list[str] = []

    def bad(id: str, body: Any) -> dict[str, Any] | None:
        if len(refused) < 2 and "-generation-" in id:
            refused.append(id)
        return REFUSALS[kind] if id in refused else None

    messages = rounds(tmp_path, bad)
    assert not any("came back with errors" in message for message in messages)
    calls = {call["id"]: call for call in lines(tmp_path / "calls" / "rte.jsonl")}
    assert all("status 4" in calls[id]["text"] or "error 4" in calls[id]["text"] for id in refused)
    rejects = [line["call_ids"][-1] for line in lines(tmp_path / "synthetic" / "rte" / "rejects.jsonl")]
    assert set(refused) <= set(rejects) and len(lines(tmp_path / "synthetic" / "rte" / "train.jsonl")) == 12


UNFINISHED = {
    "choice": {"finish_reason": "error", "error": {"code": 502, "message": "x"}, "message": {"content": ""}},
    "abort": {"finish_reason": "abort", "message": {"content": '{"premise": "The'}},
    "empty": {},
    "nothing": {"message": {"content": None}, "finish_reason": None},
}


@pytest.mark.parametrize("kind", UNFINISHED)
def test_a_line_that_the_server_did_not_finish_is_asked_again(tmp_path: Path, kind: str) -> None:
    attempts: list[str] = []

    def bad(id: str, body: Any) -> dict[str, Any] | None:
        attempts.append(id)
        if attempts.count(id) > 1 or len(attempts) % 3:
            return None
        return {"response": {"status_code": 200, "body": {"model": "fake", "choices": [UNFINISHED[kind]]}}}

    messages = rounds(tmp_path, bad)
    assert any("came back with errors before" in message for message in messages)
    assert {call["finish_reason"] for call in lines(tmp_path / "calls" / "rte.jsonl")} == {"stop"}
    by_batch(tmp_path / "good", FakeModel(), "task=rte")
    assert files(tmp_path / "synthetic") == files(tmp_path / "good" / "synthetic")


def test_a_line_that_fails_in_every_round_is_a_reject_in_the_end(tmp_path: Path) -> None:
    attempts: list[str] = []

    def broken(id: str, body: Any) -> dict[str, Any] | None:
        if "-generation-" not in id or id not in [*attempts, id][:1]:
            return None
        attempts.append(id)
        return {"response": {"status_code": 503, "body": "out of order"}}

    rounds(tmp_path, broken)
    assert len(attempts) == 9
    (reject,) = [
        line for line in lines(tmp_path / "synthetic" / "rte" / "rejects.jsonl") if attempts[0] in line["call_ids"]
    ]
    assert "out of order, in 9 rounds" in reject["reason"]


def test_a_status_in_quotes_is_a_status(tmp_path: Path) -> None:
    def as_text(id: str, body: Any) -> dict[str, Any]:
        return {"response": {"status_code": "200", "body": FakeModel().complete(body)}}

    rounds(tmp_path, as_text)


@pytest.mark.parametrize("status", [400, 401, 404])
def test_what_every_line_gets_ends_the_run_in_the_providers_words(tmp_path: Path, status: int) -> None:
    error = {"response": {"status_code": status, "body": {"error": {"message": "no such model"}}}}
    with pytest.raises(
        UserError, match=rf"responses.jsonl: got no answer, all \d+ requests .*status {status}: no such model"
    ):
        rounds(tmp_path, lambda id, body: error)
    assert lines(tmp_path / "calls" / "rte.jsonl") == []
    (tmp_path / "responses.jsonl").unlink()
    rounds(tmp_path, lambda id, body: None)
