"""The answer of a run: one sentence with average, interval and verdict, which follows p as tables and page do."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eval.reporting.paper_report import paper_report
from eval.scoring.metrics import Prediction
from eval.scoring.runs import read_runs
from eval.statistics.comparisons import Comparison
from eval.tables import answer as sentences
from eval.tables.answer import answer_sentences, learnability_sentences
from tests.support.scored_runs import SPECS, FakeCell, gold_of, write_cell, write_scores


def cell(run: Path, task: str, arm: str, right: int, wrong: int) -> list[dict[str, Any]]:
    """The rows of a cell with these numbers of right and wrong answers."""
    names = [label.name for label in SPECS[task].labels]
    golds = [gold for (gold,) in gold_of(SPECS[task], right + wrong)]
    predictions = [
        Prediction(idx, (gold,), gold if idx < right else next(name for name in names if name != gold), {})
        for idx, gold in enumerate(golds)
    ]
    return write_cell(run, FakeCell(task, arm, 0), predictions)


def answer_of(run: Path, rows: Sequence[dict[str, Any]]) -> list[str]:
    write_scores(run, rows)
    (loaded_run,) = read_runs([run])
    return answer_sentences(paper_report(loaded_run.scores, SPECS).main)


def test_the_average_is_said_first_with_its_verdict(tmp_path: Path) -> None:
    rows = cell(tmp_path, "rte", "original", 30, 10) + cell(tmp_path, "wic", "original", 30, 10)
    rows += cell(tmp_path, "rte", "synthetic", 29, 11) + cell(tmp_path, "wic", "synthetic", 29, 11)
    comparison, evaluation = answer_of(tmp_path, rows)
    assert re.fullmatch(
        r"Trained on 250 synthetic rows per task, flan_t5_base scores 72\.5 \(\d\d\.\d to \d\d\.\d\) on average over 2 tasks, "
        r"2\.5 points below original rows \([-+]\d+\.\d to [-+]\d+\.\d\): the difference is not significant at this size \(p = \d\.\d+\)\.",
        comparison,
    ), comparison
    assert evaluation == "Scored on 80 rows: SuperGLUE val."


def test_a_large_difference_of_one_task_is_said(tmp_path: Path) -> None:
    rows = cell(tmp_path, "rte", "original", 10, 30) + cell(tmp_path, "rte", "synthetic", 40, 0)
    first, _ = answer_of(tmp_path, rows)
    assert "scores 100.0" in first and " accuracy on RTE, 75.0 points above original rows" in first
    assert first.endswith(": chance hardly explains so large a difference (p < 0.001).")


def test_without_another_arm_the_baseline_is_the_measure(tmp_path: Path) -> None:
    (tmp_path / "even").mkdir()
    even, _ = answer_of(tmp_path / "even", cell(tmp_path / "even", "rte", "synthetic", 20, 20))
    good, _ = answer_of(tmp_path / "good", cell(tmp_path / "good", "cb", "synthetic", 40, 0))
    assert "original" not in even
    assert re.search(
        r": at this size not distinguishable from \d\d\.\d, the score of always predicting the most frequent answer\.$",
        even,
    )
    assert "scores 100.0" in good and " (mean of accuracy and macro-F1): above " in good


def test_a_verdict_against_the_interval_has_a_word_on_it() -> None:
    levels, bounds = ("synthetic", "original"), (-0.2, -0.01)
    comparison = Comparison("rte", "accuracy", *levels, (0.5, 0.6), bounds, 0.03, 0.06, 40, 1, None)
    assert (
        sentences._verdict(comparison)
        == "the difference is not significant at this size (p = 0.060), although the interval excludes 0"
    )
    certain = replace(comparison, bounds=(-0.2, 0.01), corrected=0.01)
    assert sentences._verdict(certain).endswith("(p = 0.010), although the interval includes 0")


@pytest.mark.parametrize("above", [True, False])
def test_what_rows_teach_is_said_beside_chance(above: bool) -> None:
    score = {"f1_macro": {"value": 0.712, "low": 0.6, "high": 0.8}}
    learnability = {
        "metric": "f1_macro",
        "students": {"bag_of_words": score},
        "chance": {"f1_macro": 0.25},
        "above_chance": above,
    }
    (text,) = learnability_sentences({"Tickets": learnability})
    assert "scores 71.2 (60.0 to 80.0) on the others, chance 25.0: " in text
    assert ("teach their labels" in text) == above and ("may learn nothing" in text) != above
