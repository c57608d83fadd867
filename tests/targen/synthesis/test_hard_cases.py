"""Rounds that ask for hard cases: they find a planted weakness and ask for more of it; their cost, resuming and refusals."""

import importlib.util
import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest

from eval.page.funnel import funnel, rounds_table
from targen.cost.plan import plan
from targen.cost.report import plan_text
from targen.generate import generate
from targen.llm.messages import AwaitingAnswers
from targen.quality.available import check_students
from targen.runtime.errors import UserError
from targen.synthesis.rebuilt_prompts import rebuilt_prompts
from targen.synthesis.recipes import recipes
from tests.support.commands import Server, files, lines, settings
from tests.support.fake_model import FakeModel, served_by
from tests.support.generation_runs import respond

KINDS = [f"{kind} films" for kind in ("war", "love", "horror", "school", "prison", "crime", "family", "travel")]
WORDS = {"positive": "wonderful", "negative": "dreadful"}
BASE = (
    "method=targen_hard",
    "method.rounds.students=[bag_of_words]",
    "synth.self_correct=off",
    "synth.seeds_per_context=2",
)
HERE = ("data.source=none", "arms=[synthetic]", "phases=[generate]", "synth.holdout=0")
FILMS = (*BASE, *HERE, "task=sst2", "synth.contexts=8", "synth.size=160")


@dataclass(frozen=True)
class Films(FakeModel):
    """Writes reviews of eight kinds of film. Their words carry the label, except for the kind in `weak`."""

    weak: str | None = "war films"

    def _answer(self, body: Mapping[str, Any], rng: Random) -> dict[str, Any]:
        answer, prompt = super()._answer(body, rng), body["messages"][-1]["content"]
        if "contexts" in answer:
            return {"contexts": KINDS}
        kind, label = (re.search(pattern, prompt) for pattern in (r"Kind of film: (.*)", r"Its label is (\w+)"))
        if kind is None or label is None or "text" not in answer:
            return answer
        carriers = "" if kind[1] == self.weak else f" {WORDS[label[1]]}" * 4
        return {"text": f"{answer['text'][:-1]}{carriers}."}


@dataclass(frozen=True)
class Causes(FakeModel):
    """Writes alternatives for COPA. Those for an effect can be told apart by their words, those for a cause cannot."""

    def _answer(self, body: Mapping[str, Any], rng: Random) -> dict[str, Any]:
        answer, prompt = super()._answer(body, rng), body["messages"][-1]["content"]
        if "probable" in answer and "for the effect" in prompt:
            answer["probable"] = f"Therefore {answer['probable']}"
        return answer


def run(folder: Path, server: Server, *overrides: str) -> dict[str, Any]:
    """The stats of the only task after a run."""
    generate(settings(*served_by(server.url, folder), *overrides))
    (path,) = (folder / "synthetic").glob("*/stats.json")
    stats: dict[str, Any] = json.loads(path.read_text())
    return stats


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory, serve) -> tuple[Path, Server, dict[str, Any]]:
    folder, server = tmp_path_factory.mktemp("films"), serve(Films())
    return folder, server, run(folder, server, *FILMS)


def test_the_context_whose_texts_do_not_carry_their_labels_is_asked_for_again_and_no_other(films) -> None:
    folder, _, stats = films
    stories = lines(folder / "synthetic" / "sst2" / "provenance.jsonl")
    contexts = {number: Counter(s["context"] for s in stories if s["round"] == number) for number in (1, 2, 3)}
    assert [counts.total() for counts in contexts.values()] == [80, 40, 40]
    assert set(contexts[1]) == set(KINDS) and max(contexts[1].values()) <= 12
    for number in (2, 3):
        assert contexts[number]["war films"] >= 0.9 * contexts[number].total()
        labels = Counter(s["label_after"] for s in stories if s["round"] == number and s["context"] == "war films")
        assert abs(labels["positive"] - labels["negative"]) <= 2  # the context says nothing of the label
    assert stats["rows_per_label"] == {"positive": 80, "negative": 80}
    first, second, _ = stats["rounds"]
    assert next(iter(first["failures"]["contexts"])) == "war films"
    assert first["decided_by"] == "bag_of_words" and second["rows"] == 40
    assert second["instances_per_context"] == dict(contexts[2].most_common())
    scores = second["students"]["bag_of_words"]
    assert scores["before"] == first["students"]["bag_of_words"]["new"]
    assert scores["new"]["value"] < 0.7 < scores["before"]["value"] and scores["after"]["questions"] == 80


def test_prompts_describe_the_failing_rows_and_show_no_text_of_them(films) -> None:
    folder, server, _ = films
    round_prompts = [
        body["messages"][-1]["content"] for body in server.bodies if "gets wrong" in body["messages"][-1]["content"]
    ]
    stories = {story["slot"]: story for story in lines(folder / "synthetic" / "sst2" / "provenance.jsonl")}
    rows = [row["text"] for row in lines(folder / "synthetic" / "sst2" / "train.jsonl")]
    assert 72 <= len(round_prompts) <= 80
    assert all("Kind of film: war films" in prompt and "taken for: " in prompt for prompt in round_prompts)
    assert not any(row in prompt for prompt in round_prompts for row in rows)
    for story in stories.values():
        assert ("failures" in story) == (story["round"] > 1 and story["context"] == "war films")
        for kind in story.get("failures", []):
            earlier = [stories[slot] for slot in kind["slots"]]
            assert {row["round"] < story["round"] and row["context"] == story["context"] for row in earlier} == {True}
            assert {row["label_after"] for row in earlier} == {kind["label"]} != {kind["taken_for"]}
            assert all(row["variant"] == kind["variant"] for row in earlier)
        if len({kind["label"] for kind in story.get("failures", [])}) == 2:  # those of its own label come first
            assert story["failures"][0]["label"] == story["label_before"]


def test_the_first_round_asks_what_targen_asks(tmp_path: Path, films, serve) -> None:
    folder, _, _ = films
    run(tmp_path, serve(Films()), *(o for o in FILMS if not o.startswith("method")), "synth.size=80")
    plain = {call["id"] for call in lines(tmp_path / "calls" / "sst2.jsonl")}
    assert plain < {call["id"] for call in lines(folder / "calls" / "sst2.jsonl")}
    stories = lines(tmp_path / "synthetic" / "sst2" / "provenance.jsonl")
    assert not any("round" in story for story in stories)
    assert "rounds" not in json.loads((tmp_path / "synthetic" / "sst2" / "stats.json").read_text())


def test_a_variant_that_is_hard_has_the_share_of_its_label(tmp_path: Path, serve) -> None:
    copa = (*BASE, "data.source=fixture", "arms=[synthetic]", "task=copa", "synth.contexts=12", "synth.size=120")
    stats = run(tmp_path, serve(Causes()), *copa)
    assert set(stats["rows_per_label"].values()) == {60}
    for report in stats["rounds"][1:]:
        cells = report["instances_per_label_cell"]
        causes = [count for cell, count in cells.items() if "cause" in cell]
        assert sum(causes) >= 0.7 * sum(cells.values())
        assert max(causes) - min(causes) <= 1
    prompts = [
        story["failures"][0]
        for story in lines(tmp_path / "synthetic" / "copa" / "provenance.jsonl")
        if "failures" in story
    ]
    assert Counter(kind["variant"]["question"] for kind in prompts).most_common(1)[0][0] == "cause"


@pytest.mark.parametrize(
    ("task", "failures"),
    [
        ("multirc", {"an answer that is right taken for wrong", "an answer that is wrong taken for right"}),
        ("copa", {"another choice taken for the right one"}),
        ("record", {"another choice taken for the right one"}),
    ],
)
def test_a_prompt_says_what_was_taken_for_what_and_each_kind_once(
    tmp_path: Path, serve, task: str, failures: set[str]
) -> None:
    """Rows without a meaningful label of their own: their answers have labels, or one of several texts is right."""
    server = serve(FakeModel())
    run(tmp_path, server, *BASE, *HERE, f"task={task}", "synth.contexts=4", "synth.size=120")
    stories = {story["slot"]: story for story in lines(tmp_path / "synthetic" / task / "provenance.jsonl")}
    for kind in (kind for story in stories.values() for kind in story.get("failures", [])):
        assert all(stories[slot]["variant"] == kind["variant"] for slot in kind["slots"] if slot in stories)
        assert kind["label"] is None and (kind["taken_for"] is None) == (task != "multirc")
    prompts = [body["messages"][-1]["content"] for body in server.bodies]
    lists = [re.findall(r"^- \d+ instances?; (.*)$", prompt, re.M) for prompt in prompts if "gets wrong" in prompt]
    assert len(lists) > 20
    assert all(len(set(kinds)) == len(kinds) > 0 for kinds in lists)
    assert {kind.rpartition("; ")[2] for kinds in lists for kind in kinds} == failures


def test_without_failures_every_round_uses_all_contexts(tmp_path: Path, serve) -> None:
    stats = run(tmp_path, serve(Films(weak=None)), *FILMS)
    for report in stats["rounds"]:
        assert set(report["instances_per_context"]) == set(KINDS)
    assert stats["rounds"][0]["failures"]["contexts"] == {}


def test_a_second_start_asks_nothing_and_one_that_lost_answers_ends_with_the_same_bytes(films) -> None:
    folder, server, _ = films
    before, calls = files(folder), (folder / "calls" / "sst2.jsonl").read_bytes()
    calls_before = len(server.bodies)
    generate(settings(*served_by(server.url, folder), *FILMS))
    assert len(server.bodies) == calls_before and files(folder) == before
    for share in (0.3, 0.7):  # stopped in the first round, and in a later one
        log_lines = calls.splitlines(keepends=True)
        (folder / "calls" / "sst2.jsonl").write_bytes(b"".join(log_lines[: int(share * len(log_lines))]))
        generate(settings(*served_by(server.url, folder), *FILMS))
        synthetic = {name: data for name, data in before.items() if name.startswith("synthetic/")}
        assert {f"synthetic/{name}": data for name, data in files(folder / "synthetic").items()} == synthetic
        (folder / "calls" / "sst2.jsonl").write_bytes(calls)


def by_batch(folder: Path, model: FakeModel, *overrides: str, keep: float = 1.0) -> int:
    """Runs the batch loop to its end. Returns how often it waited."""
    batch = ("generator=batch", "generator.model=fake", f"run.dir={folder}", "synth.learnability_rows=0")
    run_settings = settings(*FILMS, *batch, *overrides)
    for number in range(60):
        try:
            generate(run_settings)
        except AwaitingAnswers:
            respond(folder, model, keep, number)
        else:
            return number
    raise AssertionError("the batch loop does not end")


def test_batch_files_wait_for_each_round_and_give_the_same_set(tmp_path: Path, films) -> None:
    waits = by_batch(tmp_path, Films(), "synth.few_rounds=false")
    assert waits == 7  # contexts, and in each of three rounds instance seeds and instances
    assert files(tmp_path / "synthetic" / "sst2") == files(films[0] / "synthetic" / "sst2")


def test_rejects_flips_and_lost_answers_change_no_byte(tmp_path: Path, serve) -> None:
    model, paper = (
        Films(error_rate=0.05, flip_rate=0.15),
        ("synth.self_correct=paper", "synth.few_rounds=true", "synth.size=100"),
    )
    stats = run(tmp_path / "server", serve(model), *FILMS, *paper)
    assert stats["flips"] > 5 < stats["rejects"] and stats["rows_per_label"] == {"positive": 50, "negative": 50}
    assert by_batch(tmp_path / "pieces", model, *paper, keep=0.7) > 10
    assert files(tmp_path / "pieces" / "synthetic" / "sst2") == files(tmp_path / "server" / "synthetic" / "sst2")


def test_the_plan_states_the_calls_and_rounds(films, tmp_path: Path) -> None:
    folder, server, _ = films
    run_settings = settings(*served_by(server.url, tmp_path), *FILMS)
    (recipe,) = recipes(run_settings)
    planned = plan([(recipe, 160)], run_settings.generator).tasks["sst2"]
    steps = Counter(call["step"] for call in lines(folder / "calls" / "sst2.jsonl"))
    assert {step: estimate.calls for step, estimate in planned.items() if estimate.calls} == steps
    assert "sst2: 80, 40, 40 rows in 3 rounds." in plan_text(run_settings, [recipe])
    assert (
        not plan([(recipe, 160)], run_settings.generator, settings(f"run.dir={folder}").paths)
        .tasks["sst2"]["generation"]
        .calls
    )
    batch = settings(*FILMS, "generator=batch", "generator.model=fake", f"run.dir={tmp_path}")
    assert "generator=batch: 7 rounds of request files if no instance is rejected" in plan_text(batch, recipes(batch))


def test_the_prompts_of_a_round_are_rebuilt_and_the_page_has_what_each_brought(films) -> None:
    folder, server, _ = films
    (recipe,) = recipes(settings(*served_by(server.url, folder), *FILMS))
    synthetic = folder / "synthetic" / "sst2"
    for row, story in zip(lines(synthetic / "train.jsonl"), lines(synthetic / "provenance.jsonl"), strict=True):
        assert [step for step, _ in rebuilt_prompts(recipe, story, [row])] == ["instance_seed", "generation"]
    table = rounds_table([funnel(recipe.task, synthetic / "stats.json", has_seeds=True)])
    assert table is not None and [line[1:3] for line in table.lines] == [("1", "80"), ("2", "40"), ("3", "40")]
    assert table.lines[1][3].startswith("war films ") and table.lines[1][5] == "bag of words"
    assert table.lines[0][6] == "--" and re.match(r"\d+\.\d \(", table.lines[2][7])


def test_rejects_say_their_round(tmp_path: Path, serve) -> None:
    run(tmp_path, serve(Films(error_rate=0.1)), *FILMS)
    rejects = [reject for reject in lines(tmp_path / "synthetic" / "sst2" / "rejects.jsonl") if reject["slot"]]
    assert {reject["round"] for reject in rejects} == {1, 2, 3}
    assert all(story["round"] for story in lines(tmp_path / "synthetic" / "sst2" / "provenance.jsonl"))


def test_a_pilot_is_made_of_the_first_round_and_none_of_its_calls_is_repeated(tmp_path: Path, films) -> None:
    folder, server, _ = films
    calls_before = len(server.bodies)
    run(tmp_path, server, *FILMS, "synth.pilot=48")
    run(tmp_path, server, *FILMS)
    assert len(server.bodies) - calls_before == len(lines(folder / "calls" / "sst2.jsonl"))
    assert files(tmp_path / "synthetic" / "sst2") == files(folder / "synthetic" / "sst2")


def test_a_larger_size_goes_on_in_the_same_run(tmp_path: Path, serve) -> None:
    server = serve(Films())
    run(tmp_path / "grown", server, *FILMS, "synth.size=120")
    calls_before = len(server.bodies)
    run(tmp_path / "grown", server, *FILMS)
    grown = len(server.bodies) - calls_before
    run(tmp_path / "whole", server, *FILMS)
    assert 0 < grown < len(server.bodies) - calls_before - grown  # the calls of the first round are kept
    assert files(tmp_path / "grown" / "synthetic" / "sst2") == files(tmp_path / "whole" / "synthetic" / "sst2")


def test_shares_of_the_labels_hold_in_the_end(tmp_path: Path, serve) -> None:
    stats = run(tmp_path, serve(Films()), *FILMS, "synth.label_share={positive: 3, negative: 1}")
    assert stats["rows_per_label"] == {"positive": 120, "negative": 40}
    assert [report["instances_per_label_cell"]["negative"] for report in stats["rounds"]] == [20, 10, 10]


@pytest.mark.slow
def test_the_encoder_decides_where_it_is_right_more_often(tmp_path: Path, serve) -> None:
    stats = run(tmp_path, serve(Films()), *FILMS, "method.rounds.students=[bag_of_words,encoder]")
    scores = stats["rounds"][0]["students"]
    assert set(scores) == {"bag_of_words", "encoder"}
    best = max(scores, key=lambda name: scores[name]["new"]["value"])
    assert stats["rounds"][0]["decided_by"] == best


@pytest.mark.parametrize(
    ("overrides", "refusal"),
    [
        (("shard.index=0", "shard.count=4"), "shard.count: got 4 with method=targen_hard, whose rounds need all rows so far"),
        (("synth.seed_source=file", "synth.seed_dir=x"), "synth.seed_source: got file with method=targen_hard"),
        (("synth.size=60",), "synth.size: got 60 rows of sst2, of which method=targen_hard makes 30 in its first round"),
        (("synth.label_share={positive: 9, negative: 1}",), "expected at least 40 there and 10 of each label"),
        (("method.rounds.first=1.5",), "method.rounds.first: got 1.5, expected less than 1"),
        (("method.rounds.count=1",), "method.rounds.count: got 1, expected greater than or equal to 2"),
        (("method.rounds.first=0.99", "method.rounds.count=9"), "method.rounds.count: got 9 rounds for 160 rows of sst2"),
        (("method.rounds.students=[cnn]",), "method.rounds.students.0: got 'cnn', expected 'bag_of_words' or 'encoder'"),
        (("method.generation='{instruction} {format}'",), "method.generation: got no field {failures}"),
        (("method.rounds.failures='{rows}'",), "method.rounds.failures: got the field {rows}"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_in_one_line_before_the_first_call(
    tmp_path: Path, serve, overrides: tuple[str, ...], refusal: str
) -> None:
    server = serve(Films())
    with pytest.raises(UserError) as error:
        run(tmp_path / "run", server, *FILMS, *overrides)
    (line,) = str(error.value).splitlines()
    assert line.startswith(refusal) or refusal in line
    assert not server.bodies and not (tmp_path / "run").exists()


def test_engines_side_by_side_are_refused() -> None:
    with pytest.raises(
        UserError, match=r"^generator.engine.data_parallel_size: got 2 with method=targen_hard, whose rounds need"
    ):
        settings(*FILMS, "generator=vllm", "generator.model=m", "generator.engine.data_parallel_size=2")


def test_an_encoder_that_is_not_installed_is_refused_before_the_first_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError) as error:
        check_students(["bag_of_words", "encoder"])
    (line,) = str(error.value).splitlines()
    assert re.fullmatch(
        r"method.rounds.students: got encoder, but the package \w+ is not installed. Run pip install [\w-]+. Or set "
        r"method.rounds.students=\[bag_of_words\].",
        line,
    )
    check_students(["bag_of_words"])
