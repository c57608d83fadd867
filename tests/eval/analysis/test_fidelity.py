"""How far two sets are apart: scores across sets, the two-sample test, cues; worked by hand or on sets made for it."""

import json
from dataclasses import replace
from math import log, sqrt
from pathlib import Path
from random import Random

import pytest

from eval.analysis.measures.cues import check_cues, cues, difference_z, log_odds, structures
from eval.analysis.measures.fidelity import fidelity
from eval.analysis.results import Measure
from eval.analysis.sets import DataSet, SetPair
from targen.runtime.errors import UserError
from targen.tasks.specification import Cue
from targen.tasks.task import Row
from tests.support.commands import settings
from tests.support.small_data import SPECS

CB, COPA = SPECS["cb"], SPECS["copa"]
PLACES = ("harbour", "orchard", "quarry", "meadow", "station", "library", "kitchen", "attic", "garden", "market")
SAYING = {"entailment": "I know", "contradiction": "I do not think", "neutral": "Do you say"}
OTHER_SAYING = {"entailment": "I do not think", "contradiction": "Do you say", "neutral": "I know"}


def cb_rows(count: int, saying: dict[str, str], seed: int, end: str = ".") -> tuple[Row, ...]:
    draws = Random(seed)
    rows: list[Row] = []
    for number in range(count):
        for label, verb in saying.items():
            clause = f"number {number} of the {draws.choice(PLACES)} and {draws.choice(PLACES)} fell"
            rows.append({"premise": f"{verb} {clause}{end}", "hypothesis": clause, "label": label, "idx": len(rows)})
    return tuple(rows)


def pair_of(a: tuple[Row, ...], b: tuple[Row, ...]) -> SetPair:
    return SetPair(CB, DataSet("a", "one", a), DataSet("b", "two", b), seed=0, at_most=None)


def fidelity_of(a: tuple[Row, ...], b: tuple[Row, ...]) -> tuple[dict[str, Measure], dict]:
    result = fidelity(settings("analysis.students=[bag_of_words]"), pair_of(a, b))
    return {measure.name: measure for measure in result.measures}, result.details["fidelity"]


def value(measure: Measure, side: str) -> float:
    interval = getattr(measure, side)
    assert interval is not None and interval.low <= interval.value <= interval.high
    return interval.value


def test_two_sets_of_one_making_teach_each_other_and_cannot_be_told_apart() -> None:
    measures, details = fidelity_of(cb_rows(20, SAYING, 1), cb_rows(30, SAYING, 2))
    for name in ("own_f1", "transfer_f1", "own_accuracy", "transfer_accuracy", "kept_f1"):
        for side in ("a", "b"):
            assert value(measures[f"{name}.bag_of_words"], side) > 0.9
    two_sample = measures["told_apart.bag_of_words"]
    assert value(two_sample, "b") < 0.6
    assert 90 <= two_sample.size["b"] <= 120
    assert details["baselines"]["a"] == {"chance": 0.3333, "majority_accuracy": 0.3333, "majority_f1": 0.1667}


def test_a_set_that_means_something_else_by_its_words_teaches_nothing_right() -> None:
    measures, details = fidelity_of(cb_rows(20, SAYING, 1), cb_rows(20, OTHER_SAYING, 2, end=" indeed!"))
    assert value(measures["own_f1.bag_of_words"], "b") == 1.0
    assert value(measures["transfer_f1.bag_of_words"], "a") == value(measures["kept_f1.bag_of_words"], "b") == 0.0
    assert measures["kept_f1.bag_of_words"].difference is None
    assert value(measures["told_apart.bag_of_words"], "b") > 0.95
    term = details["tells_apart"]["b"][0]
    assert term["term"].startswith("premise: ") and (term["a"], term["b"]) == (0, 60)
    word = details["cues"]["words"]["entailment"][0]
    assert {word["a"]["rows"], word["b"]["rows"]} == {0, 20}


def test_rows_that_share_a_context_are_never_split(tmp_path: Path) -> None:
    """The only word that goes with the label is the context's: a student that has not seen the context cannot know."""
    draws = Random(3)
    rows, stories = [], []
    for number in range(60):
        label = list(SAYING)[number % 3]
        row = {"premise": f"In {PLACES[number % 10]}{number % 3} it is {draws.random()}.", "hypothesis": f"{number}"}
        rows.append(row | {"label": label, "idx": number})
        stories.append({"idx": number, "context": f"{number % 10} and {number % 3}"})
    (tmp_path / "provenance.jsonl").write_text("".join(json.dumps(story) + "\n" for story in stories))
    pair = replace(pair_of(tuple(rows), tuple(rows)), a=None)
    bag_of_words = settings("analysis.students=[bag_of_words]")
    alone = {measure.name: measure for measure in fidelity(bag_of_words, pair).measures}["own_accuracy.bag_of_words"]
    with_contexts = replace(pair, b=replace(pair.b, folder=tmp_path))
    grouped = {measure.name: measure for measure in fidelity(bag_of_words, with_contexts).measures}
    assert value(alone, "b") > 0.8 and value(grouped["own_accuracy.bag_of_words"], "b") < 0.5


def test_log_odds_and_their_difference_worked_by_hand() -> None:
    """3 of 4 against 1 of 4, with half a row added to each cell: log (3.5 / 1.5) - log (1.5 / 3.5)."""
    odds = log_odds(3, 4, 1, 4)
    assert odds.value == pytest.approx(2 * log(3.5 / 1.5))
    assert odds.variance == pytest.approx(2 / 3.5 + 2 / 1.5)
    assert odds.z == pytest.approx(odds.value / sqrt(odds.variance))
    assert log_odds(2, 4, 2, 4).value == 0.0
    assert difference_z(odds, odds) == 0.0
    assert difference_z(log_odds(2, 4, 2, 4), odds) == pytest.approx(odds.value / sqrt(odds.variance + 4 / 2.5))


def test_structures_of_a_row() -> None:
    task = replace(CB, cues={"attitude": Cue(pattern="(?i)n't think", field="premise")})
    features = structures(
        task, {"premise": "Well? I don't think he left.", "hypothesis": "He left", "label": "neutral", "idx": 0}
    )
    assert features == {
        "words of premise": 6, "words of hypothesis": 2,
        "premise has a question mark": 1, "premise has a negation": 1, "premise has a first person": 1,
        "premise is copied in hypothesis": 0, "hypothesis has a question mark": 0, "hypothesis has a negation": 0,
        "hypothesis has a first person": 0, "hypothesis is copied in premise": 1, "attitude": 1,
    }  # fmt: skip
    copa = {
        "premise": "It fell.",
        "choice1": "We ran.",
        "choice2": "No wind.",
        "question": "cause",
        "label": 0,
        "idx": 0,
    }
    assert structures(COPA, copa)["question is cause"] == 1
    assert structures(COPA, copa)["choice1 has a first person"] == structures(COPA, copa)["choice2 has a negation"] == 1


def test_cues_of_a_label_stand_in_the_order_of_their_difference() -> None:
    a, b = cb_rows(20, SAYING, 1), cb_rows(20, OTHER_SAYING, 2)
    by_kind = cues(pair_of(a, b), {"a": list(a), "b": list(b)}, 5).details["cues"]
    assert list(by_kind["structures"]) == ["all", "entailment", "contradiction", "neutral"]
    negated = {cue["cue"]: cue for cue in by_kind["structures"]["contradiction"]}["premise has a negation"]
    assert (negated["a"]["mean"], negated["b"]["mean"]) == (1.0, 0.0)
    assert negated["z"] == pytest.approx(2 * log(0.5 / 20.5) / sqrt(2 / 20.5 + 2 / 0.5), abs=0.01)
    for group in (*by_kind["structures"].values(), *by_kind["words"].values()):
        sizes = [abs(cue["z"]) for cue in group]
        assert sizes == sorted(sizes, reverse=True)


def test_a_cue_of_no_field_is_refused() -> None:
    task = replace(CB, cues={"x": Cue(pattern="a", field="premis")})
    with pytest.raises(
        UserError, match=r"tasks\.cb\.cues\.x\.field: got 'premis', expected one of premise, hypothesis"
    ):
        check_cues([task])
    with pytest.raises(ValueError, match="no regular expression"):
        Cue(pattern="(")


def test_few_rows_are_not_measured() -> None:
    missing = fidelity(settings(), pair_of(cb_rows(5, SAYING, 1), cb_rows(6, SAYING, 2))).missing
    assert [(entry.part, entry.why) for entry in missing] == [
        ("fidelity", "15 in a and 15 in b labelled questions, expected at least 20")
    ]
