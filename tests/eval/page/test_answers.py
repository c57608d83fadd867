"""The evaluation rows on the page: what each cell answered, whose texts they are, how many fit, and that text stays text."""

import json
from pathlib import Path
from typing import Any

from eval.page.answers import answers
from eval.scoring.evaluation_rows import evaluation_rows
from eval.scoring.metrics import Prediction
from eval.scoring.runs import read_runs
from targen.runtime.jsonl import write_jsonl
from tests.support.commands import lines, settings
from tests.support.page_runs import HOSTILE
from tests.support.scored_runs import FakeCell, write_cell, write_scores


def page_data(
    folder: Path, *, budget: int = 10**6, hostile: bool = False, **changes: Any
) -> tuple[dict[str, Any], list[str], str]:
    """The data on the page of two cells that were scored on the fixture: one is always right, the other never."""
    run_settings = settings(f"run.dir={folder}", "task=rte", "data.source=fixture", "arms=[synthetic]")
    rows = evaluation_rows(run_settings, run_settings.tasks["rte"])
    scores: list[dict[str, Any]] = []
    for arm, right in (("synthetic", True), ("original", False)):
        predictions = [
            Prediction(example.id, (gold := example.choices[example.gold[0]],), gold if right else None, {})
            for example in rows.examples
        ]
        scores += write_cell(folder, FakeCell("rte", arm, 0), predictions)
    write_scores(folder, [score | {"evaluated": rows.hash} | changes for score in scores])
    (run,) = read_runs([folder])
    if hostile:
        path = run.scores[0].predictions
        write_jsonl(path, [line | {"prediction": HOSTILE} for line in lines(path)])
    page_answers, missing = answers(run_settings, run_settings.tasks, run.scores, budget)
    assert page_answers is not None
    return json.loads(page_answers.data), missing, page_answers.data


def test_every_row_has_its_texts_and_what_each_arm_answered(tmp_path: Path) -> None:
    data, missing, _ = page_data(tmp_path)
    assert not missing and len(data["entries"]) == 10
    assert data["tasks"] == [{"title": "RTE", "cells": ["original", "synthetic"]}]
    assert all(entry["given"] == [[None], entry["gold"]] for entry in data["entries"])
    assert all([name for name, _ in entry["texts"]] == ["premise", "hypothesis"] for entry in data["entries"])


def test_texts_of_other_rows_are_not_shown(tmp_path: Path) -> None:
    data, missing, _ = page_data(tmp_path, evaluated="0" * 16)
    assert (
        len(missing) == 1
        and "texts of the evaluation rows of RTE: the rows are not those that were scored" in missing[0]
    )
    assert len(data["entries"]) == 10 and not any(entry["texts"] for entry in data["entries"])


def test_they_take_a_share_of_the_page_and_cannot_become_markup(tmp_path: Path) -> None:
    data, _, _ = page_data(tmp_path / "small", budget=4_000)
    assert 0 < len(data["entries"]) < 10
    data, _, text = page_data(tmp_path / "hostile", hostile=True)
    assert not set("<>&\u2028\u2029") & set(text) and any([HOSTILE] in entry["given"] for entry in data["entries"])
