"""How many rounds of batch files a set takes, and that asking ahead changes no byte of it."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest

from targen.config.run_directory import read_config
from targen.cost.report import plan_text
from targen.generate import generate
from targen.llm.messages import AwaitingAnswers
from targen.runtime.jsonl import write_text
from targen.synthesis.recipes import recipes
from tests.support.commands import PROJECT, command, files, lines, settings
from tests.support.fake_model import FakeModel
from tests.support.generation_runs import batch_settings, by_batch, respond, server_overrides

SET = ("task=rte", "synth.size=90", "synth.contexts=50")


@dataclass(frozen=True)
class Repeating(FakeModel):
    """Some of its premises, hypotheses and contexts repeat others, and it errs and flips labels."""

    error_rate: float = 0.05
    flip_rate: float = 0.15

    def _answer(self, body: Mapping[str, Any], rng: Random) -> dict[str, Any]:
        answer = super()._answer(body, rng)
        if "hypothesis" in answer and rng.random() < 0.1:
            answer["hypothesis"] = "The harbor was closed."
        for seed in answer.get("instance_seeds", []):
            if rng.random() < 0.1:
                seed["premise"] = (
                    f"In March the old harbor of the northern town was closed for the repair of pier {rng.randrange(3)}."
                )
        if "contexts" in answer:
            answer["contexts"] = ["the harbor at dawn", *answer["contexts"][1:]]
        return answer


def test_a_set_with_rejects_and_repeats_takes_few_rounds(tmp_path: Path) -> None:
    """Each attempt has up to three calls that follow one another, and so have the slots that replace flipped rows."""
    rounds = by_batch(tmp_path, Repeating(), *SET)
    stats = json.loads((tmp_path / "synthetic" / "rte" / "stats.json").read_text())
    assert stats["rejects"] > 10 and stats["flips"] > 1
    assert stats["duplicates"] + stats["near_duplicates"] + stats["repeated_instance_seeds"] > 2
    assert rounds <= 9
    calls = lines(tmp_path / "calls" / "rte.jsonl")
    calls_used = sum(step["calls"] for step in stats["calls"].values())
    assert calls_used <= len(calls) <= 1.2 * calls_used


@pytest.mark.parametrize("few", ["true", "false"])
def test_asking_ahead_changes_no_byte_in_whatever_pieces_the_answers_come(tmp_path: Path, serve, few: str) -> None:
    overrides = ("task=rte", "synth.size=36", f"synth.few_rounds={few}")
    generate(settings(*server_overrides(tmp_path / "server", serve(Repeating()).url, *overrides)))
    by_batch(tmp_path / "whole", Repeating(), *overrides)
    by_batch(tmp_path / "pieces", Repeating(), *overrides, keep=0.7)
    expected = files(tmp_path / "server" / "synthetic")
    assert files(tmp_path / "whole" / "synthetic") == expected == files(tmp_path / "pieces" / "synthetic")


def test_a_rejected_instance_is_written_once_more_from_its_context_and_seed(tmp_path: Path) -> None:
    by_batch(tmp_path, FakeModel(error_rate=0.2), "task=cb", "synth.size=60")
    attempts_of_slot: dict[str, list[dict[str, Any]]] = {}
    for name in ("rejects", "provenance"):
        for attempt in lines(tmp_path / "synthetic" / "cb" / f"{name}.jsonl"):
            if attempt["slot"] is not None:
                attempts_of_slot.setdefault(attempt["slot"], []).append(attempt)
    pairs = [(before, after) for attempts in attempts_of_slot.values() for before, after in pairwise(attempts)]
    same_seed = [(before, after) for before, after in pairs if before["instance_seed"] and before["attempt"] % 2 == 0]
    assert len(same_seed) > 5
    for before, after in same_seed:
        assert after["attempt"] == before["attempt"] + 1
        assert (before["context"], before["instance_seed"]) == (after["context"], after["instance_seed"])
        assert before["call_ids"][0] == after["call_ids"][0]
    new_seed = [(before, after) for before, after in pairs if before["attempt"] % 2 == 1 or not before["instance_seed"]]
    assert new_seed and all(after["attempt"] % 2 == 0 < after["attempt"] for _, after in new_seed)
    assert all(before["call_ids"][0] != after["call_ids"][0] for before, after in new_seed)


def test_a_list_that_repeats_itself_or_is_lost_once_takes_one_round(tmp_path: Path) -> None:
    lost: list[int] = []

    class HalfMute(Repeating):
        def complete(self, body: Mapping[str, Any]) -> dict[str, Any]:
            completion = super().complete(body)
            if not lost:
                lost.append(body["seed"])
                completion["choices"][0]["message"]["content"] = "I would rather not."
            return completion

    run = batch_settings(tmp_path, *SET)
    for _ in range(2):
        with pytest.raises(AwaitingAnswers):
            generate(run)
        steps = Counter(line["custom_id"].split("-")[1] for line in lines(tmp_path / "requests.jsonl"))
        respond(tmp_path, HalfMute(error_rate=0.0))
    assert lost
    assert set(steps) == {"instance_seed"}


@pytest.mark.parametrize(
    "overrides", [(), ("synth.self_correct=off",), ("synth.few_rounds=false", "synth.contexts=45")]
)
def test_the_plan_says_how_many_rounds_there_are(tmp_path: Path, overrides: tuple[str, ...]) -> None:
    overrides = ("task=[copa,cb]", "synth.near_duplicates=null", *overrides)
    run = batch_settings(tmp_path, *overrides)
    match = re.search(
        r"generator=batch: (\d+) rounds of request files if .* about (\d+) if 10%", plan_text(run, recipes(run))
    )
    assert match is not None
    assert int(match[1]) == by_batch(tmp_path, FakeModel(), *overrides) < int(match[2])


def test_a_loop_can_tell_waiting_from_done(tmp_path: Path) -> None:
    overrides = ("task=rte", "generator=batch", "generator.model=fake", "synth.size=4", "synth.learnability_rows=0")
    codes = []
    while not codes or codes[-1] == 75:
        codes.append(command("targen.generate", *overrides, f"run.dir={tmp_path}").returncode)
        if codes[-1] == 75:
            respond(tmp_path, FakeModel())
    assert codes == [75, 75, 75, 75, 0]


def test_a_run_from_before_the_setting_goes_on_as_it_began(tmp_path: Path) -> None:
    began = ("generator=batch", "generator.model=fake", "task=rte", "synth.few_rounds=false", f"run.dir={tmp_path}")
    assert command("targen.generate", *began).returncode == 75
    config = read_config(tmp_path / "config.yaml")
    del config["synth"]["few_rounds"]
    write_text(tmp_path / "config.yaml", json.dumps(config))
    refused = command("targen.generate", *(value for value in began if "few_rounds" not in value))
    assert refused.returncode == 2 and "synth.few_rounds was False and is True" in refused.stderr
    assert command("targen.generate", *began).returncode == 75


def test_the_lines_in_the_documentation_are_those_of_the_files(tmp_path: Path) -> None:
    text = (PROJECT / "docs" / "generation.md").read_text(encoding="utf-8")
    request, response = map(json.loads, re.findall(r"^\{\"custom_id\".*$", text, re.MULTILINE))
    with pytest.raises(AwaitingAnswers):
        generate(batch_settings(tmp_path, "task=rte"))
    request_line = lines(tmp_path / "requests.jsonl")[0]
    assert list(request) == list(request_line) and list(request["body"]) == list(request_line["body"])
    assert request["custom_id"] == response["custom_id"]
    response_line = response | {"custom_id": request_line["custom_id"]}
    write_text(tmp_path / "responses.jsonl", json.dumps(response_line) + "\n")
    with pytest.raises(AwaitingAnswers):
        generate(batch_settings(tmp_path, "task=rte"))
    (call,) = lines(tmp_path / "calls" / "rte.jsonl")
    assert (call["text"], call["usage"]["completion_tokens"]) == ('{"premise": "..."}', 85)
