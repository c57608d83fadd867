"""Generation with batch files: pieces, limits, responses of other runs."""

import json
from pathlib import Path

import pytest

from targen.generate import generate
from targen.llm.messages import AwaitingAnswers
from targen.runtime.errors import UserError
from tests.support.commands import files, lines
from tests.support.fake_model import FakeModel
from tests.support.generation_runs import batch_settings, by_batch, respond


def test_batch_files_may_come_back_in_pieces(tmp_path: Path) -> None:
    model = FakeModel(error_rate=0.1, flip_rate=0.2)
    whole = by_batch(tmp_path / "whole", model, "task=[axg,copa,record]")
    parts = by_batch(tmp_path / "parts", model, "task=[axg,copa,record]", keep=0.6)
    assert parts > whole
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
    whole = (tmp_path / "one" / "requests.jsonl").read_bytes()
    sizes = [len(line) for line in whole.splitlines(keepends=True)]
    assert len(sizes) == 3
    for limits, files_ in (
        (["generator.max_lines=1"], ["requests-2.jsonl", "requests-3.jsonl", "requests.jsonl"]),
        ([f"generator.max_bytes={sizes[0] + sizes[1]}"], ["requests-2.jsonl", "requests.jsonl"]),
        ([f"generator.max_bytes={sum(sizes) - 1}", "generator.max_lines=2"], ["requests-2.jsonl", "requests.jsonl"]),
    ):
        with pytest.raises(AwaitingAnswers, match=rf"3 requests wait .*requests.jsonl to requests-{len(files_)}.jsonl"):
            start("many", *limits)
        assert names("requests") == files_  # those of the round before, written anew, are gone
        parts = [tmp_path / "many" / name for name in [files_[-1], *files_[:-1]]]
        assert b"".join(path.read_bytes() for path in parts) == whole

    written = files(tmp_path / "many")
    with pytest.raises(UserError, match=rf"generator.max_bytes: got 99, expected at least {sizes[0]}, .* request cb-"):
        start("many", "generator.max_bytes=99")
    assert files(tmp_path / "many") == written


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
    kept = lines(tmp_path / "left" / "requests-2.jsonl")
    assert [line["custom_id"].split("-")[0] for line in kept] == ["rte"]


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
