"""What small students learn: worked by hand, and on sets whose labels can or cannot be learnt."""

from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np
import pytest

from targen.config.group_files import model_from_file
from targen.quality.encoder import EmbeddingCache, NoEncoder, embed_in_subprocess
from targen.quality.instances import folds_of, groups_of, instances_of
from targen.quality.learnability import MadeRow, learnability
from targen.quality.scores import Answer, accuracy, group_weights, macro_f1
from targen.quality.students import BagOfWords, LinearOnEncoder, answers, in_row_space, terms
from targen.runtime.randomness import rng
from targen.tasks.task import Row
from tests.support.small_data import SPECS

CB, COPA, AXG = SPECS["cb"], SPECS["copa"], SPECS["axg"]
NOUNS = ("tram", "kettle", "harbour", "violin", "orchard", "ledger", "sparrow", "quarry", "lantern", "meadow")
SAYING = {"entailment": "I know", "contradiction": "I doubt", "neutral": "I ask"}


def cb_set(count: int, says: bool) -> list[MadeRow]:
    """CB rows, `count` per label, whose verb goes with the label, or not. Contexts have rows of all labels."""
    draws, made = Random(1), []
    for number in range(count):
        for label in SAYING:
            verb = SAYING[label if says else draws.choice(list(SAYING))]
            clause = f"number {number} of the {draws.choice(NOUNS)} and {draws.choice(NOUNS)} fell"
            row = {"premise": f"{verb} {clause}.", "hypothesis": clause, "label": label, "idx": len(made)}
            made.append(MadeRow(row, f"context {number % 10}", len(made) % 3))
    return made


def measured(made: Sequence[MadeRow]) -> dict:
    return learnability(CB, made, [BagOfWords()], seed=0)


def test_a_set_whose_words_carry_the_label_is_learnt_and_one_without_is_not() -> None:
    learnt, not_learnt = measured(cb_set(20, True)), measured(cb_set(20, False))
    score = learnt["students"]["bag_of_words"]
    assert score["f1_macro"]["value"] == 1.0 and learnt["above_chance"] is True
    assert not_learnt["students"]["bag_of_words"]["f1_macro"]["value"] < 0.5 and not_learnt["above_chance"] is False
    assert learnt["questions"] == 60 and learnt["groups"] == 10
    assert learnt["chance"] == {"accuracy": 0.333, "f1_macro": 0.333}
    assert learnt["majority"] == {"accuracy": 0.333, "f1_macro": 0.167}
    assert measured(cb_set(20, True)) == learnt


def test_a_mislabelled_row_is_the_hardest_of_its_label() -> None:
    made = cb_set(20, True)
    wrong = made[0].row | {"premise": made[0].row["premise"].replace("know", "doubt")}
    made[0] = MadeRow(wrong, made[0].context)
    assert measured(made)["students"]["bag_of_words"]["hardest"]["entailment"][0] == 0


def test_a_context_or_a_place_that_goes_with_the_label_is_a_leak() -> None:
    made = cb_set(20, True)
    leak = measured(made)["context_leak"]
    assert leak["seed_position"]["by_label"] == {"entailment": 1.0, "contradiction": 1.0, "neutral": 1.0}
    assert leak["context"]["accuracy"]["value"] < 0.45
    told = [MadeRow(item.row, f"a place of {item.row['label']} {number % 7}") for number, item in enumerate(made)]
    leak = measured(told)["context_leak"]
    assert leak["context"]["accuracy"]["value"] == 1.0 and leak["seed_position"] is None


def test_too_few_rows_give_a_reason_in_place_of_a_number() -> None:
    assert measured(cb_set(9, True)) == {"questions": 27, "not_measured": "27 questions, expected at least 40"}
    made = [item for item in cb_set(20, True) if item.row["label"] != "neutral" or item.row["idx"] < 20]
    assert measured(made)["not_measured"] == "6 of neutral, expected at least 10 rows per label"


def copa_row(idx: int, premise: str, right: str, wrong: str, label: int) -> Row:
    choices = (right, wrong) if label == 0 else (wrong, right)
    return {"premise": premise, "choice1": choices[0], "choice2": choices[1], "question": "cause", "label": label,
            "idx": idx}  # fmt: skip


def test_choices_are_learnt_as_differences_whatever_their_place() -> None:
    draws = Random(2)
    rows = [
        copa_row(n, f"The {draws.choice(NOUNS)} fell.", f"The {draws.choice(NOUNS)} was wet.",
                 f"The {draws.choice(NOUNS)} was calm.", draws.randrange(2))
        for n in range(40)
    ]  # fmt: skip
    questions = instances_of(COPA, rows)
    assert [len(question.options) for question in questions] == [2] * 40
    probabilities = answers(BagOfWords(), questions[:30], questions[30:])
    assert [int(p.argmax()) for p in probabilities] == [row["label"] for row in rows[30:]]
    assert all(p.sum() == pytest.approx(1) for p in probabilities)


def test_rows_with_a_common_context_or_run_of_words_are_one_group() -> None:
    run = "one two three four five six seven eight"
    premises = [
        f"{run} nine",
        f"zero {run}",
        "a b c d",
        "A, b c d!",
        "a b c",
        "a b c",
        "x y z q",
        "k l m n",
        "u v w r",
        "o p",
    ]
    rows = [{"premise": p, "hypothesis": "it", "label": "neutral", "idx": i} for i, p in enumerate(premises)]
    assert groups_of(CB, rows) == [0, 0, 1, 1, 2, 3, 4, 5, 6, 7]
    contexts = [None] * 8 + ["here", "here"]
    assert groups_of(CB, rows, contexts)[8:] == [6, 6]
    assert groups_of(CB, rows, ["one context"] * 10) == groups_of(CB, rows)
    pairs = [{"premise": f"p{i}", "hypothesis": "h", "label": "entailment", "idx": i} for i in range(4)]
    assert groups_of(AXG, pairs) == [0, 0, 1, 1]


def test_folds_keep_groups_whole_and_labels_even() -> None:
    strata = [number % 2 for number in range(40)]
    groups = [number // 4 for number in range(40)]
    fold_of = folds_of(strata, groups, 5, rng(0, "folds"))
    assert {fold_of[number] for number in range(4)} == {fold_of[0]}
    assert all(sum(f == fold and s == 0 for f, s in zip(fold_of, strata, strict=True)) == 4 for fold in range(5))


def test_scores_worked_by_hand() -> None:
    """Gold 0 0 1 1, predicted 0 1 1 1: F1 of 0 is 2 / 3, of 1 is 4 / 5."""
    answered = [Answer(p, (g,), 0.5, n, n) for n, (g, p) in enumerate([(0, 0), (0, 1), (1, 1), (1, 1)])]
    weights = group_weights(answered, rng(0, "weights"), 200)
    assert weights.shape == (200, 4) and set(weights.sum(axis=1).tolist()) == {4}
    assert accuracy(answered, weights).value == 0.75
    assert macro_f1(answered, 2, weights).value == pytest.approx((2 / 3 + 4 / 5) / 2)
    one_group = [Answer(a.predicted, a.gold, 0.5, 0, a.row) for a in answered]
    assert set(group_weights(one_group, rng(0, "weights"), 9).ravel().tolist()) == {1}


def test_terms_name_their_text_and_what_texts_share() -> None:
    assert terms(("He left?", "he left early")) == [
        "1:he", "1:left", "1:?", "1:he left", "1:left ?", "2:he", "2:left", "2:early", "2:he left", "2:left early",
        "1+2:shares 3/5",
    ]  # fmt: skip


def test_texts_without_words_or_blanks_have_terms_too() -> None:
    assert terms(("...", "")) == ["1:(no words)"]
    assert terms(("東京？",)) == ["1:東", "1:京", "1:？", "1:東 京", "1:京 ？"]


def test_the_space_of_the_rows_keeps_all_products() -> None:
    generator = np.random.default_rng(0)
    train, test = generator.normal(size=(5, 30)), generator.normal(size=(3, 30))
    small_train, small_test = in_row_space(train, test)
    assert small_train.shape == (5, 5)
    assert small_train @ small_train.T == pytest.approx(train @ train.T)
    assert small_test @ small_train.T == pytest.approx(test @ train.T)


def test_embeddings_are_computed_once_and_kept(tmp_path: Path) -> None:
    asked: list[str] = []

    def compute(texts: Sequence[str]) -> np.ndarray:
        asked.extend(texts)
        return np.array([[len(text), 1.0] for text in texts])

    model = model_from_file("minilm")
    first = EmbeddingCache(tmp_path, model, compute).embed(["a", "bb", "a"])
    assert first.tolist() == [[1, 1], [2, 1], [1, 1]]
    assert EmbeddingCache(tmp_path, model, compute).embed(["bb", "ccc"]).tolist() == [[2, 1], [3, 1]]
    assert asked == ["a", "bb", "ccc"]
    student = LinearOnEncoder(EmbeddingCache(tmp_path, model, compute).embed)
    train, _ = student.features([("a", "bb"), ("bb", "a")], [("a", "a")])
    assert train.shape == (2, 8)


def test_an_encoder_that_cannot_be_loaded_is_said(tmp_path: Path) -> None:
    from dataclasses import replace

    with pytest.raises(NoEncoder, match="nowhere"):
        embed_in_subprocess(replace(model_from_file("minilm"), path="package:nowhere/model"), ["a"])
