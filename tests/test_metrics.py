"""Metrics against hand-worked numbers, and for every task an oracle, a constant, a permuted and a garbage predictor."""

import pytest
from conftest import TASKS, settings
from sklearn.metrics import accuracy_score, f1_score

from eval.metrics import METRICS, Prediction, gold_of, majority, options_of, score
from targen.data import FIXTURE, local_file, read_rows
from targen.task import Example, TaskSpec

SPECS = settings().tasks


def examples_of(task: TaskSpec) -> list[Example]:
    rows = read_rows(local_file(FIXTURE, task, task.eval_split), task)
    return [example for row in rows for example in task.code.examples(task, row)]


def predict(task: TaskSpec, answers: list[str | None]) -> dict[str, float]:
    examples = examples_of(task)
    return score(task, [Prediction(e.id, gold_of(task, e), a, {}) for e, a in zip(examples, answers, strict=True)])


@pytest.mark.parametrize("name", TASKS)
def test_oracle_constant_permuted_and_garbage_predictors(name: str) -> None:
    task = SPECS[name]
    examples = examples_of(task)
    oracle = predict(task, [gold_of(task, example)[0] for example in examples])
    assert set(oracle.values()) == {1.0}
    wrong = predict(task, [next(o for o in options_of(task, e) if o not in gold_of(task, e)) for e in examples])
    assert all(value == 0.0 for metric, value in wrong.items() if metric not in ("gender_parity", "record_f1"))
    garbage = predict(task, [None] * len(examples))
    assert set(garbage.values()) == {0.0}
    baseline = score(task, majority(task, examples))
    for constant in [label.name for label in task.labels]:
        found = predict(task, [constant] * len(examples))
        assert found["accuracy"] <= baseline["accuracy"]
        if "gender_parity" in found:
            assert found["gender_parity"] == 1.0
    assert all(0 <= value < 1 for metric, value in baseline.items() if metric != "gender_parity")


def predictions(gold: list[str], answers: list[str | None]) -> list[Prediction]:
    return [Prediction(i, (g,), a, {}) for i, (g, a) in enumerate(zip(gold, answers, strict=True))]


def test_macro_f1_counts_classes_that_never_occur() -> None:
    labels = ["entailment", "contradiction", "neutral"]
    found = predictions(["entailment", "entailment", "contradiction"], ["entailment", "contradiction", "contradiction"])
    # entailment: precision 1, recall 1/2, F1 2/3; contradiction: 1/2, 1, 2/3; neutral: 0
    assert METRICS["f1_macro"](found, labels) == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)


def test_accuracy_and_macro_f1_are_scikit_learns() -> None:
    labels = ["a", "b", "c"]
    gold, answers = list("abcabcaabb"), list("abccbaabab")
    found = predictions(gold, answers)
    assert METRICS["accuracy"](found, labels) == accuracy_score(gold, answers)
    assert METRICS["f1_macro"](found, labels) == pytest.approx(f1_score(gold, answers, average="macro"))


def test_gender_parity_is_over_consecutive_rows() -> None:
    found = predictions(["x"] * 6, ["x", "x", "x", "y", None, None])
    assert METRICS["gender_parity"](found, ["x", "y"]) == pytest.approx(1 / 3)


def test_record_takes_the_best_answer_up_to_case_articles_and_punctuation() -> None:
    found = [
        Prediction(0, ("The Red Cross", "Red Cross Society"), "red cross.", {}),
        Prediction(1, ("New York City",), "York", {}),
        Prediction(2, ("Kenya",), "Kenyan", {}),
    ]
    assert METRICS["record_em"](found, []) == pytest.approx(1 / 3)
    assert METRICS["record_f1"](found, []) == pytest.approx((1 + 2 * (1 * 1 / 3) / (1 + 1 / 3) + 0) / 3)
