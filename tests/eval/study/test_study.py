"""The study of synthetic data: draws, cells that are computed once, numbers that can be recomputed, and errors in one line."""

import csv
import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score

from eval.scoring.metrics import METRICS, ClassMetric
from eval.statistics.resampling import class_counts
from eval.study.cells import Cell
from eval.study.measures import spearman
from eval.study.rows.cost import Cost
from eval.study.rows.draws import random_items, stratified_indices, with_broken_labels
from eval.study.rows.material import Material, originals, with_sets
from eval.study.rows.parts import levels
from eval.study.rows.selection import CRITERIA
from eval.study.rows.sets import METHODS, synthetic_sets
from eval.study.run import study
from eval.study.statistics import level_results
from eval.study.worth import crossing
from targen.config.group_files import task_from_file
from targen.config.settings import Settings
from targen.interface.generation import generate_rows
from targen.quality.selection import LabelProbability, held_out_probabilities, without_lowest
from targen.quality.students import BagOfWords
from targen.runtime.errors import UserError
from targen.tasks.task import Row
from tests.support.commands import command, files, lines, settings
from tests.support.fake_model import FakeModel

SST2 = task_from_file("sst2")
GOOD = ("warm", "funny", "moving", "tender", "bright")
BAD = ("dull", "clumsy", "tired", "empty", "loud")
THINGS = ("plot", "cast", "score", "ending", "script", "opening", "humour", "pace")
VALUES = {label.name: label.value for label in SST2.labels}


def made_rows(count: int, seed: int) -> list[Row]:
    """Balanced reviews: a third of their words go with the label, and every fifth has a word of the other one."""
    draws = Random(seed)
    rows = []
    for idx in range(count):
        label = ("positive", "negative")[idx % 2]
        words = GOOD if (label == "positive") != (draws.random() < 0.2) else BAD
        text = f"a {draws.choice(words)} {draws.choice(THINGS)} and {draws.choice(THINGS)} in part {draws.randrange(10**6)}"
        rows.append({"sentence": text, "label": VALUES[label], "idx": idx})
    return [{**{name: row["sentence"] for name in SST2.row}, "label": row["label"], "idx": row["idx"]} for row in rows]


def write(path: Path, records: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def write_set(folder: Path, method: str, rows: list[Row]) -> None:
    names = {value: name for name, value in VALUES.items()}
    stories = [
        {
            "idx": row["idx"],
            "context": f"context {row['idx'] % 10}",
            "label_before": "positive" if row["idx"] == 1 else names[row["label"]],
            "label_after": names[row["label"]],
            "demonstrations": {"idx": [row["idx"], row["idx"] % 7]} if method == "few_shot" else None,
        }
        for row in rows
    ]
    write(folder / "sets" / method / "synthetic" / "sst2" / "train.jsonl", rows)
    write(folder / "sets" / method / "synthetic" / "sst2" / "provenance.jsonl", stories)


def overrides_of(folder: Path, *more: str) -> list[str]:
    """A study of SST-2 with sets of every method but one, of 40 rows each."""
    text = SST2.row[0]
    scored = made_rows(30, 1)
    same = [{**scored[number], text: scored[number][text].upper() + "!", "idx": 60 + number} for number in range(5)]
    write(folder / "data" / "SST-2" / "val.jsonl", scored)
    write(folder / "data" / "SST-2" / "train.jsonl", [*made_rows(60, 2), *same])
    for number, method in enumerate(METHODS[:-1]):
        rows = made_rows(40, 10 + number)
        rows[3] = {**rows[3], text: scored[1][text]} if method == "zero_shot" else rows[3]
        write_set(folder / "run", method, rows)
    return [
        "+experiment=text_classification", "task=[sst2]", "data.source=local", f"data.dir={folder / 'data'}",
        f"run.dir={folder / 'run'}", f"generator.path={folder}", "seeds=[0,1]", "analysis.students=[bag_of_words]", *more,
    ]  # fmt: skip


def settings_of(overrides: list[str]) -> Settings:
    return settings(*overrides)


def material_of(run_settings: Settings, overrides: list[str]) -> Material:
    sets, _ = synthetic_sets(run_settings, overrides)
    (original,) = originals(run_settings)
    return with_sets(original, sets["sst2"])


def table(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / "run" / "study" / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str], str]:
    folder = tmp_path_factory.mktemp("study")
    overrides = overrides_of(folder)
    return folder, overrides, study(settings_of(overrides), overrides)


def test_a_study_writes_every_table_and_says_what_is_missing(done: tuple[Path, list[str], str]) -> None:
    folder, _, text = done
    names = {path.name for path in (folder / "run" / "study").iterdir()}
    parts = "methods tokens quantity mixing quality selection diversity shares natural"
    for name in ("sets", "worth", "measures", "complexity", *parts.split()):
        assert {f"{name}.md", f"{name}.csv", f"{name}.tex"} <= names
    for name in ("sizes", "methods", "selection"):
        assert {f"{name}.png", f"{name}.pdf"} <= names
    assert {"study.md", "cells.jsonl"} <= names
    missing = text.partition("## Missing")[2]
    assert "sets: attrprompt, sst2: generator.path" in missing
    assert "tokens: sst2: the cost of targen is not known" in missing
    assert "bag of words, SST-2: targen" in text and "few_shot (prompts showed 40 original rows)" in text


def test_the_numbers_of_the_tables_follow_from_the_cells(done: tuple[Path, list[str], str]) -> None:
    folder, _, _ = done
    (evaluation,) = lines(folder / "run" / "study" / "evaluation.jsonl")
    by_level: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for cell in lines(folder / "run" / "study" / "cells.jsonl"):
        right = [answer == gold for answer, gold in zip(cell["predictions"], evaluation["gold"], strict=True)]
        assert cell["accuracy"] == pytest.approx(fmean(right))
        assert cell["f1_macro"] == pytest.approx(f1_score(evaluation["gold"], cell["predictions"], average="macro"))
        by_level.setdefault((cell["part"], cell["level"]), []).append(cell)
    differences = 0
    for part in ("methods", "quantity", "mixing", "quality", "selection", "diversity", "shares", "natural"):
        for record in table(folder, part):
            level_cells = by_level[part, record["level"]]
            assert [cell["seed"] for cell in level_cells] == [0, 1]
            assert (
                float(record["low"]) <= float(record["value"]) + 1e-4
                and float(record["value"]) <= float(record["high"]) + 1e-4
            )
            value = fmean(cell[record["score"]] for cell in level_cells)
            if record["kind"] == "difference":
                value -= fmean(cell["accuracy"] for cell in by_level[part, record["reference"]])
                differences += 1
            assert float(record["value"]) == pytest.approx(value, abs=1e-4)
    assert differences >= 40


def test_a_study_that_was_killed_goes_on_with_the_cell_it_lost(done: tuple[Path, list[str], str]) -> None:
    folder, overrides, text = done
    path = folder / "run" / "study" / "cells.jsonl"
    before, whole = files(folder / "run" / "study"), path.read_bytes()
    path.write_bytes(whole[: whole.rstrip().rfind(b"\n") + 40])
    assert study(settings_of(overrides), overrides) == text
    assert files(folder / "run" / "study") == before
    first, *others = lines(path)
    marked = [{**first, "accuracy": 0.125}, *others]  # a cell that was computed again would have its own score
    write(path, marked)
    study(settings_of(overrides), overrides)
    assert lines(path) == marked
    path.write_bytes(whole)
    assert study(settings_of(overrides), overrides) == text


def test_original_rows_that_are_missing_are_found_before_a_set_is_made(tmp_path: Path) -> None:
    overrides = overrides_of(tmp_path)
    for path in (tmp_path / "run" / "sets").rglob("*.jsonl"):
        path.unlink()
    (tmp_path / "data" / "SST-2" / "val.jsonl").unlink()
    with pytest.raises(UserError, match=r"val.jsonl is missing"):
        study(settings_of(overrides), overrides)
    assert not list((tmp_path / "run").rglob("*.jsonl"))


def test_no_student_is_taught_an_evaluation_row(done: tuple[Path, list[str], str]) -> None:
    _, overrides, _ = done
    run_settings = settings_of(overrides)
    material = material_of(run_settings, overrides)
    evaluation_keys = {SST2.duplicate_key(row) for row in material.evaluation.split.rows}
    pools = (material.original, material.sets["zero_shot"], material.sets["targen"])
    assert [pool.left_out for pool in pools] == [5, 1, 0]
    all_levels, _ = levels(material)
    assert len(all_levels) >= 25
    for level in all_levels:
        for seed in (0, 1):
            training = level.training_rows(seed, BagOfWords())
            assert training.rows and not evaluation_keys & {SST2.duplicate_key(row) for row in training.rows}
            assert sum(training.sources.values()) == len(training.rows)


def test_levels_hold_what_they_say(done: tuple[Path, list[str], str]) -> None:
    _, overrides, _ = done
    run_settings = settings_of(overrides)
    material = material_of(run_settings, overrides)
    by_name = {(level.part, level.name): level for level in levels(material)[0]}

    def training_rows(part: str, name: str) -> list[Row]:
        return list(by_name[part, name].training_rows(0, BagOfWords()).rows)

    whole, before = (
        training_rows("quality", "labels after self-correction"),
        training_rows("quality", "labels before self-correction"),
    )
    assert [row["idx"] for row, other in zip(whole, before, strict=True) if row["label"] != other["label"]] == [1]
    for share, count in ((10, 4), (20, 8), (30, 12)):
        broken = training_rows("quality", f"{share}% of labels broken")
        assert sum(row["label"] != other["label"] for row, other in zip(whole, broken, strict=True)) == count
    for how in ("at random", "by the set itself", "by 48 original rows"):
        kept = [row["idx"] for row in training_rows("quality", f"25% left out {how}")]
        assert len(kept) == 30 and set(kept) < {row["idx"] for row in whole}
    twice = Counter(row["idx"] for row in training_rows("diversity", "10 rows, each twice"))
    assert len(twice) == 10 and set(twice.values()) == {2}
    few, many = training_rows("diversity", "5 contexts"), training_rows("diversity", "10 contexts")
    assert len(few) == len(many) and len({row["idx"] % 10 for row in few}) <= 5
    assert Counter(row["label"] for row in few) == Counter(row["label"] for row in many)
    mixed = by_name["mixing", "8 original + targen"].training_rows(0, BagOfWords())
    assert mixed.sources == {"original": 8, "targen": 40}


def test_rows_are_left_out_by_the_same_values_at_every_share(done: tuple[Path, list[str], str]) -> None:
    _, overrides, _ = done
    material = material_of(settings_of(overrides), overrides)
    by_name = {(level.part, level.name): level for level in levels(material)[0]}
    whole = {row["idx"] for row in by_name["selection", "all rows"].training_rows(0, BagOfWords()).rows}
    assert len(whole) == 40
    for how in CRITERIA:
        larger = whole
        for share, count in ((90, 36), (75, 30), (50, 20), (25, 10)):
            level = by_name["selection", f"{share}% kept {how}"]
            assert level.reference == ("all rows" if how == "at random" else f"{share}% kept at random")
            rows = {row["idx"] for row in level.training_rows(0, BagOfWords()).rows}
            assert len(rows) == count and rows < larger
            larger = rows
            if share == 75 and how != "by PVI":
                same = by_name["quality", f"25% left out {how}"].training_rows(0, BagOfWords()).rows
                assert rows == {row["idx"] for row in same}


def test_the_information_of_a_row_is_what_its_label_share_does_not_say() -> None:
    rows = made_rows(60, 5)
    rows = [row for row in rows if row["label"] == VALUES["positive"]] + [
        row for row in rows if row["label"] != VALUES["positive"]
    ][:10]
    labels = held_out_probabilities(SST2, rows, [""] * len(rows), BagOfWords(), Random(1))
    assert [label.prior for label in labels] == [0.75] * 30 + [0.25] * 10  # the folds are stratified
    for label in labels:
        assert 0 < label.probability < 1
        assert label.pvi == pytest.approx(math.log2(label.probability / label.prior))
    assert LabelProbability(0.5, 0.25).pvi == 1.0 and LabelProbability(0.0, 0.0).pvi == 0.0


def test_shares_of_labels_are_those_of_the_original_or_equal(done: tuple[Path, list[str], str]) -> None:
    """55.8 % of the published rows are positive, and the sets have 20 of them: 36 rows."""
    _, overrides, _ = done
    material = material_of(settings_of(overrides), overrides)
    by_name = {(level.part, level.name): level for level in levels(material)[0]}
    for source in ("original", "targen", "zero_shot"):
        for kind, counts in (("balanced", (18, 18)), ("natural", (20, 16))):
            level, again = (by_name[part, f"{source}, {kind}"] for part in ("shares", "natural"))
            training = level.training_rows(0, BagOfWords())
            labels = Counter(row["label"] for row in training.rows)
            assert (labels[VALUES["positive"]], labels[VALUES["negative"]]) == counts
            assert training == again.training_rows(0, BagOfWords()) and training.sources == {source: 36}
            assert level.reference == (None if source == "original" else f"original, {kind}")
            assert again.reference == (None if kind == "balanced" else f"{source}, balanced")
    equal = replace(material, task=replace(material.task, label_counts={"positive": 5, "negative": 5}))
    all_levels, missing = levels(equal)
    assert not [level for level in all_levels if level.part in ("shares", "natural")]
    assert [item.why for item in missing if item.part == "shares"] == [
        "sst2: its labels are equally frequent in the original rows"
    ]


def test_a_measure_that_is_not_on_record_is_computed_and_no_other(done: tuple[Path, list[str], str]) -> None:
    folder, overrides, text = done
    path = folder / "run" / "study" / "measures.jsonl"
    before = lines(path)
    of_words = ("words_per_row", "distinct_2", "self_bleu")
    marked = [{**line, "values": {name: 0.125 for name in line["values"] if name not in of_words}} for line in before]
    write(path, marked)
    study(settings_of(overrides), overrides)
    after = lines(path)[len(before) :]
    for new, old in zip(after, before, strict=True):
        assert {name: new["values"][name] for name in of_words} == {name: old["values"][name] for name in of_words}
        assert {value for name, value in new["values"].items() if name not in of_words} == {0.125}
    write(path, before)
    assert study(settings_of(overrides), overrides) == text


def test_averages_are_over_the_tasks_that_have_a_level(done: tuple[Path, list[str], str]) -> None:
    folder, overrides, _ = done
    run_settings = settings_of(overrides)
    material = material_of(run_settings, overrides)
    other = replace(material, task=replace(material.task, name="other"))
    names = ("original", "targen", "few_shot")
    cells = [_cell_of(cell) for cell in lines(folder / "run" / "study" / "cells.jsonl") if cell["part"] == "methods"]
    cells = [cell for cell in cells if cell.level in names]
    worse = [replace(cell, task="other", accuracy=0.5, predictions=("positive",) * 30) for cell in cells]
    results = level_results(
        [*cells, *(cell for cell in worse if cell.level != "few_shot")],
        {task: [level for level in levels(material)[0] if level.part == "methods"] for task in ("sst2", "other")},
        [material, other],
    )
    by_name = {(result.task, result.level): result for result in results}
    assert set(by_name) == {
        *(("sst2", name) for name in names), ("other", "original"), ("other", "targen"),
        ("average of 2 tasks", "original"), ("average of 2 tasks", "targen"),
    }  # fmt: skip
    average = by_name["average of 2 tasks", "targen"]
    accuracy = by_name["sst2", "targen"].estimates["accuracy"].value
    assert average.estimates["accuracy"].value == pytest.approx((accuracy + 0.5) / 2)
    assert average.comparison is not None and by_name["sst2", "targen"].comparison is not None
    assert average.comparison.difference == pytest.approx(by_name["sst2", "targen"].comparison.difference / 2)
    flat = by_name["other", "targen"].comparison
    assert flat is not None and (flat.difference, flat.corrected, flat.tests) == (0.0, 1.0, 3)


def _cell_of(record: dict[str, Any]) -> Cell:
    return Cell(**{**record, "predictions": tuple(record["predictions"])})


def test_a_resample_counts_as_if_its_rows_were_there_as_often() -> None:
    gold, answered, times = np.array([0, 1, 2, 1]), np.array([[0, 2], [1, 1], [0, 2], [2, 1]]), np.array([3, 1, 0, 2])
    counts = class_counts(gold, answered, 3, times[None].astype(float))
    metric = METRICS["f1_macro"]
    assert isinstance(metric, ClassMetric)
    expected = [
        f1_score(
            np.repeat(gold, times),
            np.repeat(answered[:, seed], times),
            average="macro",
            labels=[0, 1, 2],
            zero_division=0,
        )
        for seed in (0, 1)
    ]
    assert metric.of_counts(counts).tolist() == [pytest.approx(expected)]
    assert (counts.right.sum(axis=-1) / 6).tolist() == [pytest.approx([4 / 6, 3 / 6])]


def test_draws_are_balanced_and_grow() -> None:
    labels = ["a"] * 100 + ["b"] * 50 + ["c"] * 50
    for count in (4, 24, 100, 200):
        chosen = stratified_indices(labels, count, Random(3))
        assert Counter(labels[index] for index in chosen) == {"a": count // 2, "b": count // 4, "c": count // 4}
        assert len(set(chosen)) == count
    assert set(stratified_indices(labels, 24, Random(3))) < set(stratified_indices(labels, 100, Random(3)))
    assert set(random_items(range(50), 8, Random(4))) < set(random_items(range(50), 24, Random(4)))
    assert stratified_indices(labels, 24, Random(3)) != stratified_indices(labels, 24, Random(4))


def test_broken_labels_are_exactly_the_share_and_never_the_same_label() -> None:
    rows = made_rows(50, 5)
    few, more = (with_broken_labels(SST2, rows, share, Random(6)) for share in (0.1, 0.3))
    changed = [
        {row["idx"] for row, old in zip(new, rows, strict=True) if row["label"] != old["label"]} for new in (few, more)
    ]
    assert [len(idxs) for idxs in changed] == [5, 15] and changed[0] < changed[1]
    assert without_lowest("abcd", [0.4, 0.1, 0.3, 0.2], 0.5) == ["a", "c"]


def test_the_size_at_which_a_curve_reaches_a_score_worked_by_hand() -> None:
    """Half way from 0.5 at 25 to 0.7 at 100 is reached at the geometric mean, 50."""
    scores = np.array([[0.5, 0.7]] * 4 + [[0.7, 0.5]])
    assert crossing([25, 100], scores, np.array([0.6, 0.7, 0.8, 0.4, 0.6])).tolist() == pytest.approx(
        [50, 100, float("inf"), 0, 0]
    )


def test_correlations_are_of_what_differs_within_a_task() -> None:
    """Each task for itself goes up with the measure; without centring the second task's level would turn it round."""
    easy, hard = np.array([[1.0, 0.90], [2.0, 0.92]]), np.array([[11.0, 0.30], [12.0, 0.32]])
    assert spearman([easy, hard]) == pytest.approx(1.0)
    assert spearman([easy * [1, -1], hard * [1, -1]]) == pytest.approx(-1.0)
    assert spearman([easy * [0, 1]]) == 0.0


def test_sets_are_replayed_from_a_recording_and_their_cost_is_known(tmp_path: Path) -> None:
    small = {"synth.contexts": 4, "synth.seeds_per_context": 2, "method": "zero_shot", "generator.model": "fake"}
    generated = generate_rows(SST2, fake_answer, size=6, run_dir=tmp_path / "made", settings=small)
    overrides = overrides_of(
        tmp_path, "generator.model=fake", "synth.size=6", "synth.contexts=4", "synth.seeds_per_context=2"
    )
    overrides = [override for override in overrides if not override.startswith("generator.path=")]
    overrides.append(f"generator.path={tmp_path / 'made' / 'calls'}")
    for path in (tmp_path / "run" / "sets" / "zero_shot").rglob("*.jsonl"):
        path.unlink()
    sets, missing = synthetic_sets(settings_of(overrides), overrides)
    replayed = sets["sst2"]["zero_shot"]
    assert [row.row for row in generated] == list(replayed.rows)
    assert replayed.cost is not None and replayed.cost.calls == 6 and replayed.cost.tokens is None
    answers = sum(len(line["text"]) for line in lines(tmp_path / "made" / "calls" / "sst2.jsonl"))
    assert replayed.cost.characters > answers
    assert [item.why.split(":")[0] for item in missing] == ["attrprompt, sst2"]
    assert Cost(2, 30, 99).paid(True) == 30 and Cost(2, None, 99).paid(True) == 99


def fake_answer(body: dict[str, Any]) -> str:
    return str(FakeModel().complete(body)["choices"][0]["message"]["content"])


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("copa", "task: got copa, which chooses among texts, expected tasks with labels"),
        ("axg", "task: got axg, whose rows belong together, expected tasks of single rows"),
        ("sst2", "data.source: got local, which has no training rows of sst2, expected original rows"),
    ],
)
def test_what_cannot_be_studied_is_said_in_one_line(tmp_path: Path, task: str, message: str) -> None:
    overrides = [override for override in overrides_of(tmp_path) if not override.startswith("task=")]
    (tmp_path / "data" / "SST-2" / "train.jsonl").unlink()
    result = command("eval.study", *overrides, f"task=[{task}]")
    error = result.stderr.decode() if isinstance(result.stderr, bytes) else result.stderr
    assert result.returncode == 2 and error.startswith(f"error: {message}") and error.count("\n") == 1


def test_a_label_without_rows_is_named(tmp_path: Path) -> None:
    overrides = overrides_of(tmp_path)
    scored = [row for row in made_rows(30, 1) if row["label"] == VALUES["negative"]]
    good = [row for row in made_rows(40, 3) if row["label"] == VALUES["positive"]]
    write(tmp_path / "data" / "SST-2" / "train.jsonl", [*good, *scored])
    with pytest.raises(
        UserError, match=r"data.dir: the train split of sst2: got no row of negative, expected rows of every"
    ):
        study(settings_of(overrides), overrides)
    write(tmp_path / "data" / "SST-2" / "train.jsonl", made_rows(60, 2))
    write_set(tmp_path / "run", "targen", good)
    with pytest.raises(UserError, match=r"sets/targen/synthetic/sst2/train.jsonl: got 0 of 'negative'"):
        study(settings_of(overrides), overrides)
