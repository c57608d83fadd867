"""Nothing is repeated: rows, instance seeds, contexts, evaluation rows; and the majority of several corrections."""

import json
import logging
import random
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from targen.data.contamination import evaluation_rows
from targen.data.original import Split
from targen.generate import generate
from targen.runtime.errors import UserError
from targen.synthesis.item_lists import DistinctItems
from targen.text.normalise import normalised, words
from targen.text.similarity import candidate_pairs, jaccard, signature, similarity, trigrams
from tests.support.commands import files, lines, settings
from tests.support.fake_model import FakeModel, served_by

WORDS = [
    head + tail for head in ("ba", "ko", "mi", "tu", "re", "sha", "lor") for tail in ("den", "gat", "lim", "pos", "van")
]


def overrides(folder: Path, url: str, *more: str) -> list[str]:
    base = [*served_by(url, folder), "task=rte"]
    return [*base, "synth.size=40", "synth.contexts=6", "synth.seeds_per_context=2", *more]


def sentence(rng: random.Random, count: int = 20) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(count))


def stats(folder: Path) -> dict[str, Any]:
    run_stats: dict[str, Any] = json.loads((folder / "synthetic" / "rte" / "stats.json").read_text())
    return run_stats


def test_similarity_by_hand() -> None:
    assert similarity("The cat sat.", "the  CAT, sat") == 1.0
    assert similarity("abc", "xyz") == similarity("", "") == similarity("a", "!") == 0.0
    # " ab " has the trigrams _ab, ab_; " abc " has _ab, abc, bc_: one of four is shared
    assert similarity("ab", "abc") == 0.25
    assert similarity("猫が座った", "猫が座った") == 1.0 > similarity("猫が座った", "犬が走った") > 0.0


def test_words_of_every_script() -> None:
    text = "Café déjà vu, naïve résumé"
    composed, decomposed = unicodedata.normalize("NFC", text), unicodedata.normalize("NFD", text)
    assert composed != decomposed and words(composed) == words(decomposed) == ["café", "déjà", "vu", "naïve", "résumé"]
    assert similarity(composed, decomposed) == 1.0
    assert words("मैं स्कूल जाता हूँ।") == ["मैं", "स्कूल", "जाता", "हूँ"]
    assert normalised("की") != normalised("का") and words("ที่นั่น") == ["ที่นั่น"]
    assert words("Don't! The dog’s ❤️ it's_1") == ["don't", "the", "dog’s", "it's_1"]


@pytest.mark.parametrize(
    ("original", "copy", "other"),
    [
        ("今天天气很好，我们去公园玩吧。", "他说：天气很好，我们去公园看书。", "今天下雨了，我们不去公园玩。"),
        ("ฉันไปโรงเรียนทุกวันตอนเช้า", "เขาไปโรงเรียนทุกวันด้วยรถ", "พวกเรากินข้าวที่บ้านตอนเย็น"),
        (
            "one two three four five six seven eight nine",
            "so two three four five six seven eight nine",
            "one two three",
        ),
    ],
)
def test_runs_are_of_words_or_where_no_blanks_part_them_of_characters(original: str, copy: str, other: str) -> None:
    task = settings("task=rte").tasks["rte"]
    split = Split(({"premise": "A short one.", "hypothesis": original, "label": "entailment", "idx": 0},), "here")
    evaluation = evaluation_rows(task, split)
    assert evaluation.match({"hypothesis": copy}, 1.0) == "shares a run of words with evaluation example 0"
    assert evaluation.match({"hypothesis": other}, 1.0) is None


def test_near_copies_are_found_among_many_and_nothing_else_is() -> None:
    rng = random.Random(0)
    texts = [sentence(rng, 30) for _ in range(300)]
    copied = {}
    for number in range(0, 300, 10):
        words = texts[number].split()
        words[number % 20] = "changed"
        copied[len(texts)] = number
        texts.append(" ".join(words))
    texts.append("")
    pairs = {
        (later, earlier)
        for later, earlier in candidate_pairs([signature(text) for text in texts], 0.8)
        if similarity(texts[later], texts[earlier]) >= 0.8
    }
    sets = [trigrams(text) for text in texts]
    exact = {(b, a) for b in range(len(texts)) for a in range(b) if jaccard(sets[b], sets[a]) >= 0.8}
    assert pairs == exact >= set(copied.items())


def test_a_crowd_of_equal_texts_is_settled_quickly() -> None:
    pairs = list(candidate_pairs([signature("the same words again and again")] * 5000, 0.8))
    assert {later for later, _ in pairs} == set(range(1, 5000))
    assert len(pairs) < 3 * 5000


class FewContexts(FakeModel):
    """Names the same three contexts whatever it is asked."""

    def _answer(self, body, rng):
        answer = super()._answer(body, rng)
        return (
            answer | {"contexts": ["a river at dawn", "a board meeting", "a zoo"]} if "contexts" in answer else answer
        )


def test_fewer_contexts_than_asked_are_said_and_more_attempts_ask_for_no_more(tmp_path: Path, serve, caplog) -> None:
    server = serve(FewContexts())
    generate(settings(*overrides(tmp_path, server.url)))
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert "rte: got 3 different items for context from 9 answers, expected 6" in warning
    calls, files_before = len(server.bodies), files(tmp_path / "synthetic")
    generate(settings(*overrides(tmp_path, server.url, "synth.max_attempts=12")))
    assert len(server.bodies) == calls and files(tmp_path / "synthetic") == files_before


def test_a_thousand_contexts_are_held_against_each_other(tmp_path: Path, serve) -> None:
    generate(settings(*overrides(tmp_path, serve(FakeModel()).url, "synth.contexts=1000", "synth.size=2")))
    assert stats(tmp_path)["contexts"] == 1000


def test_each_of_a_thousand_items_is_prepared_once() -> None:
    prepared: Counter[str] = Counter()

    def counted(item: str) -> frozenset[int]:
        prepared[item] += 1
        return frozenset(trigrams(item).tolist())

    items, draws = DistinctItems(None, counted), random.Random(0)
    texts = [sentence(draws, 8) for _ in range(1000)]
    for text in texts:
        items.add(text)
    assert items.items == texts and prepared == dict.fromkeys(texts, 1)


class Repeating(FakeModel):
    """Half of its hypotheses are one and the same up to a word, and so are half of its premises."""

    def _answer(self, body, rng):
        answer = super()._answer(body, rng)
        letters = random.Random(7).choices("abcdefghijklmnopqrstuvwxyz   ", k=1200)
        if "hypothesis" in answer and rng.random() < 0.5:
            answer["hypothesis"] = f"{''.join(letters)} {rng.choice(WORDS)}."
        for seed in answer.get("instance_seeds", []):
            if rng.random() < 0.5:
                seed["premise"] = f"{rng.choice(WORDS)} {sentence(random.Random(8), 30)}."
        if "contexts" in answer:
            town = [f"the old harbor of the northern town, {rng.choice('ab')}" for _ in answer["contexts"][1:]]
            answer["contexts"] = [*town, "a quiet garden behind the school"]
        return answer


def test_rows_seeds_and_contexts_that_nearly_repeat_others_are_replaced(tmp_path: Path, serve) -> None:
    url = serve(Repeating()).url
    generate(settings(*overrides(tmp_path / "one", url, "synth.max_attempts=40")))
    rows = lines(tmp_path / "one" / "synthetic" / "rte" / "train.jsonl")
    texts = [f"{row['premise']} {row['hypothesis']}" for row in rows]
    assert len(rows) == 40 and Counter(row["label"] for row in rows) == {"entailment": 20, "not_entailment": 20}
    assert max(similarity(text, earlier) for position, text in enumerate(texts) for earlier in texts[:position]) < 0.8
    counts = stats(tmp_path / "one")
    assert counts["near_duplicates"] > 0 and counts["repeated_instance_seeds"] > 0
    assert counts["contexts"] == 2  # the harbor once, the garden once, whatever was asked
    steps = Counter(line["step"] for line in lines(tmp_path / "one" / "synthetic" / "rte" / "rejects.jsonl"))
    assert steps["near_duplicate"] == counts["near_duplicates"]
    generate(settings(*overrides(tmp_path / "off", url, "synth.near_duplicates=null", "synth.max_attempts=40")))
    assert stats(tmp_path / "off")["near_duplicates"] == 0
    generate(settings(*overrides(tmp_path / "slow", url, "synth.max_attempts=40", "generator.concurrency=1")))
    assert files(tmp_path / "slow" / "synthetic") == files(tmp_path / "one" / "synthetic")


class OneSeed(FakeModel):
    """Knows one premise only."""

    def _answer(self, body, rng):
        answer = super()._answer(body, rng)
        for seed in answer.get("instance_seeds", []):
            seed["premise"] = "The harbor was closed for repairs in March."
        return answer


def test_a_model_that_knows_one_instance_seed_only_costs_attempts_and_not_the_run(tmp_path: Path, serve) -> None:
    generate(settings(*overrides(tmp_path, serve(OneSeed()).url)))
    counts = stats(tmp_path)
    assert counts["rows"] == 40 and counts["repeated_instance_seeds"] == 2 * 39


class Quoting(FakeModel):
    """A third of its hypotheses are an evaluation row's."""

    def _answer(self, body, rng):
        answer = super()._answer(body, rng)
        if "hypothesis" in answer and rng.random() < 0.3:
            answer["hypothesis"] = "The committee of the northern harbor voted against the second bridge in 1994."
        return answer


def test_rows_that_repeat_the_evaluation_split_are_counted_or_replaced(tmp_path: Path, serve) -> None:
    data = tmp_path / "data" / "RTE"
    data.mkdir(parents=True)
    hypothesis = "the committee of the northern harbor voted against the second bridge in 1994"
    row = {"premise": "A short one.", "hypothesis": hypothesis, "label": "entailment", "idx": 0}
    (data / "val.jsonl").write_text(json.dumps(row) + "\n")
    source = ("data.source=local", f"data.dir={tmp_path / 'data'}", "arms=[synthetic]", "synth.near_duplicates=null")
    url = serve(Quoting()).url
    generate(settings(*overrides(tmp_path / "measure", url, *source)))
    measured = stats(tmp_path / "measure")["contamination"]
    quoted = [
        line["idx"]
        for line in lines(tmp_path / "measure" / "synthetic" / "rte" / "train.jsonl")
        if "committee" in line["hypothesis"]
    ]
    assert measured["rows"] == len(quoted) > 0 and (measured["examples"], measured["filtered"]) == (1, 0)
    assert [match["idx"] for match in measured["first"]] == quoted[:20]
    generate(settings(*overrides(tmp_path / "filter", url, *source, "synth.contamination=filter")))
    filtered = stats(tmp_path / "filter")
    assert filtered["rows"] == 40 and filtered["contamination"]["rows"] == 0 < filtered["contamination"]["filtered"]
    generate(settings(*overrides(tmp_path / "off", url, *source, "synth.contamination=off")))
    assert stats(tmp_path / "off")["contamination"] is None


def test_a_split_that_is_asked_for_and_not_there_ends_it_before_the_first_call(tmp_path: Path, serve) -> None:
    server = serve(FakeModel())
    source = ("data.source=local", f"data.dir={tmp_path}", "phases=[generate]")
    with pytest.raises(UserError, match=r"data.dir: .*RTE/val.jsonl is missing"):
        generate(settings(*overrides(tmp_path / "run", server.url, *source, "synth.contamination=filter")))
    assert not server.bodies
    with pytest.raises(UserError, match=r"data.dir: .*RTE/val.jsonl is missing"):
        generate(settings(*overrides(tmp_path / "run", server.url, *source, "synth.contamination=measure")))
    assert not server.bodies
    generate(settings(*overrides(tmp_path / "run", server.url, *source)))
    assert stats(tmp_path / "run")["contamination"] is None


def test_the_majority_of_several_corrections_is_final(tmp_path: Path, serve) -> None:
    server = serve(FakeModel(error_rate=0.05, flip_rate=0.4))
    generate(
        settings(*overrides(tmp_path, server.url, "synth.self_correct=vote", "synth.votes=3", "synth.max_slots=20"))
    )
    stories = lines(tmp_path / "synthetic" / "rte" / "provenance.jsonl")
    for story in stories:
        votes, before = story["votes"], story["label_before"]
        best = max(votes.values())
        winners = {label for label, count in votes.items() if count == best}
        assert story["label_after"] == (before if before in winners else min(winners))
        assert 1 <= sum(votes.values()) <= 3
        assert sum("self_correction" in id for id in story["call_ids"]) == 3
    assert any(len(story["votes"]) == 2 for story in stories)
    bodies = [body for body in server.bodies if body["response_format"]["json_schema"]["name"] == "self_correction"]
    assert {body["temperature"] for body in bodies} == {0.7}
    assert len({body["seed"] for body in bodies}) == len(bodies)
