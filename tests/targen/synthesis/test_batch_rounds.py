"""How often batch files have to be answered until a set is done, and that asking ahead changes no byte of it."""

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
    asked = lines(tmp_path / "calls" / "rte.jsonl")
    used = sum(step["calls"] for step in stats["calls"].values())
    assert used <= len(asked) <= 1.2 * used


@pytest.mark.parametrize("few", ["true", "false"])
def test_asking_ahead_changes_no_byte_in_whatever_pieces_the_answers_come(tmp_path: Path, serve, few: str) -> None:
    chosen = ("task=rte", "synth.size=36", f"synth.few_rounds={few}")
    generate(settings(*server_overrides(tmp_path / "server", serve(Repeating()).url, *chosen)))
    by_batch(tmp_path / "whole", Repeating(), *chosen)
    by_batch(tmp_path / "pieces", Repeating(), *chosen, keep=0.7)
    made = files(tmp_path / "server" / "synthetic")
    assert files(tmp_path / "whole" / "synthetic") == made == files(tmp_path / "pieces" / "synthetic")


def test_a_rejected_instance_is_written_once_more_from_its_context_and_seed(tmp_path: Path) -> None:
    by_batch(tmp_path, FakeModel(error_rate=0.2), "task=cb", "synth.size=60")
    of_slots: dict[str, list[dict[str, Any]]] = {}
    for name in ("rejects", "provenance"):
        for made in lines(tmp_path / "synthetic" / "cb" / f"{name}.jsonl"):
            if made["slot"] is not None:
                of_slots.setdefault(made["slot"], []).append(made)
    again = [(one, two) for tries in of_slots.values() for one, two in pairwise(tries)]
    kept = [(one, two) for one, two in again if one["instance_seed"] and one["attempt"] % 2 == 0]
    assert len(kept) > 5
    for one, two in kept:
        assert two["attempt"] == one["attempt"] + 1
        assert (one["context"], one["instance_seed"]) == (two["context"], two["instance_seed"])
        assert one["call_ids"][0] == two["call_ids"][0]
    anew = [(one, two) for one, two in again if one["attempt"] % 2 == 1 or not one["instance_seed"]]
    assert anew and all(two["attempt"] % 2 == 0 < two["attempt"] for _, two in anew)
    assert all(one["call_ids"][0] != two["call_ids"][0] for one, two in anew)


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
    chosen = ("task=[copa,cb]", "synth.near_duplicates=null", *overrides)
    run = batch_settings(tmp_path, *chosen)
    said = re.search(
        r"generator=batch: (\d+) rounds of request files if .* about (\d+) if 10%", plan_text(run, recipes(run))
    )
    assert said is not None
    assert int(said[1]) == by_batch(tmp_path, FakeModel(), *chosen) < int(said[2])


def test_a_loop_can_tell_waiting_from_done(tmp_path: Path) -> None:
    chosen = ("task=rte", "generator=batch", "generator.model=fake", "synth.size=4", "synth.learnability_rows=0")
    codes = []
    while not codes or codes[-1] == 75:
        codes.append(command("targen.generate", *chosen, f"run.dir={tmp_path}").returncode)
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
    written = lines(tmp_path / "requests.jsonl")[0]
    assert list(request) == list(written) and list(request["body"]) == list(written["body"])
    assert request["custom_id"] == response["custom_id"]
    shown = response | {"custom_id": written["custom_id"]}
    write_text(tmp_path / "responses.jsonl", json.dumps(shown) + "\n")
    with pytest.raises(AwaitingAnswers):
        generate(batch_settings(tmp_path, "task=rte"))
    (call,) = lines(tmp_path / "calls" / "rte.jsonl")
    assert (call["text"], call["usage"]["completion_tokens"]) == ('{"premise": "..."}', 85)
