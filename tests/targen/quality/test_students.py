"""Small students and their scores: worked by hand, and on questions that can be learnt."""

from random import Random

import numpy as np
import pytest

from targen.quality.instances import folds_of, groups_of, instances_of
from targen.quality.scores import StudentAnswer, accuracy, group_weights, macro_f1
from targen.quality.students import BagOfWords, answer_probabilities, in_row_space, terms
from targen.runtime.randomness import rng
from targen.tasks.task import Row
from tests.support.small_data import SPECS

CB, COPA, AXG = SPECS["cb"], SPECS["copa"], SPECS["axg"]
NOUNS = ("tram", "kettle", "harbour", "violin", "orchard", "ledger", "sparrow", "quarry", "lantern", "meadow")


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
    probabilities = answer_probabilities(BagOfWords(), questions[:30], questions[30:])
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
    answered = [StudentAnswer(p, (g,), 0.5, n, n) for n, (g, p) in enumerate([(0, 0), (0, 1), (1, 1), (1, 1)])]
    weights = group_weights(answered, rng(0, "weights"), 200)
    assert weights.shape == (200, 4) and set(weights.sum(axis=1).tolist()) == {4}
    assert accuracy(answered, weights).value == 0.75
    assert macro_f1(answered, 2, weights).value == pytest.approx((2 / 3 + 4 / 5) / 2)
    one_group = [StudentAnswer(a.predicted, a.gold, 0.5, 0, a.row) for a in answered]
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
