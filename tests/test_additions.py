"""Additions stay cheap: in a copy of the project, each is made as whoever adds one would make it, and nothing else changes.

A backend has the same kind of test beside the contract of the backends.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.commands import LONGEST, PROJECT, lines

pytestmark = pytest.mark.slow
TASK = """\
# @package tasks.reviews
name: reviews
folder: Reviews
title: Product reviews
description: >-
  Read a review of a product. The label is positive if the reviewer recommends the product, and negative otherwise.
question: Does the reviewer recommend the product?
metrics: [accuracy]
sizes: {train: 200, val: 40, test: 0}
eval_split: val
row: [product, review]
labels:
  - {value: 1, name: positive, verbalizer: "yes", constraint: The reviewer recommends the product.}
  - {value: 0, name: negative, verbalizer: "no", constraint: The reviewer advises against the product.}
contexts: kinds of shops and people who buy there
instance_seed:
  instruction: Each is a product that somebody bought in this context.
  fields: {product: "the product, in two to six words"}
generation:
  instruction: "Context: {context}\\nProduct: {product}\\n\\nWrite a review of the product."
  fields: {review: the review}
instance: "Product: {product}\\nReview: {review}"
long_field: review
encoder: {first: "{product}", second: "{review}", truncate: second}
"""
FORMAT = '''\
"""Reviews: `{"product": "desk lamp", "review": "The light is warm.", "words": 4, "label": 1, "idx": 0}`."""

from targen.runtime.errors import RowError
from targen.tasks.row_checks import check_keys
from targen.tasks.task import Row, Task


class Reviews(Task):
    """Reviews with their number of words."""

    def check_format(self, row: Row) -> None:
        check_keys(row, [*self.row, "words", "idx"], optional=["label"])
        if row["words"] != len(row["review"].split()):
            raise RowError(f"words: got {row['words']!r}, expected {len(row['review'].split())}")
        self.check_label(row)
'''
REVIEWS = ["The light is warm and steady.", "It broke on the second day.", "Soft after twenty washes.", "Stay away."]
ROWS = [
    {"product": "desk lamp", "review": review, "words": len(review.split()), "label": (number + 1) % 2, "idx": number}
    for number, review in enumerate(REVIEWS * 2)
]
ARM = 'Arm("again", "synthetic once more", "#56B4E9", uses_synthetic=True),'


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with a ninth task (one YAML, one module for its format, one fixture) and a sixth arm (one line)."""
    folder = tmp_path_factory.mktemp("additions")
    for name in ("targen", "train", "eval", "conf"):
        shutil.copytree(PROJECT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "results").mkdir()
    shutil.copy(PROJECT / "results" / "paper.yaml", folder / "results")
    (folder / "conf" / "task" / "reviews.yaml").write_text(TASK)
    (folder / "targen" / "tasks" / "formats" / "reviews.py").write_text(FORMAT)
    write_rows(folder / "eval" / "fixture" / "Reviews" / "val.jsonl", ROWS)
    arms = folder / "targen" / "config" / "arms.py"
    before, line, after = arms.read_text().partition('        Arm("self_instruct"')
    arms.write_text(f"{before}        {ARM}\n{line}{after}")
    return folder


def write_rows(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def in_copy(project: Path, module: str, *overrides: str) -> subprocess.CompletedProcess[str]:
    variables = os.environ | {"PYTHONPATH": str(project), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    arguments = [sys.executable, "-m", module, "task=reviews", *overrides]
    return subprocess.run(arguments, cwd=project, capture_output=True, text=True, env=variables, timeout=LONGEST)


def test_a_ninth_task_and_a_sixth_arm_are_trained_scored_and_reported(project: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    write_rows(run / "synthetic" / "reviews" / "train.jsonl", ROWS)
    small = ["model=tiny_encoder", "train.epochs=1", "train.max_length=32", "data.source=fixture", f"run.dir={run}"]
    done = in_copy(project, "targen.run", *small, "arms=[synthetic,again]", "phases=[train,evaluate,report]")
    assert done.returncode == 0, done.stderr
    scores = {row["cell"]: row for row in lines(run / "scores.jsonl")}
    assert set(scores) == {f"tiny_encoder-single-reviews-{arm}-s0" for arm in ("synthetic", "again")}
    assert all((row["metric"], row["n"]) == ("accuracy", 8) for row in scores.values())
    table = (run / "report" / "tables" / "scores.md").read_text()
    assert "| task | metric | majority | synthetic | again |" in table and "| Reviews | accuracy |" in table


def test_a_row_that_breaks_the_ninth_tasks_format_is_named(project: Path, tmp_path: Path) -> None:
    data = tmp_path / "data" / "Reviews" / "val.jsonl"
    write_rows(data, [*ROWS[:2], ROWS[2] | {"words": 99}])
    local = ["data.source=local", f"data.dir={tmp_path / 'data'}", f"run.dir={tmp_path / 'run'}"]
    refused = in_copy(project, "targen.run", *local, "arms=[synthetic]", "phases=[evaluate]")
    assert refused.returncode == 2
    assert f"error: {data}:3: words: got 99, expected 4" in refused.stderr


def test_the_calls_of_a_ninth_task_are_planned(project: Path, tmp_path: Path) -> None:
    plan = ["generator=openai", "generator.model=m", "synth.size=4", "plan=true", f"run.dir={tmp_path / 'run'}"]
    done = in_copy(project, "targen.generate", *plan)
    assert done.returncode == 0, done.stderr
    assert "reviews" in done.stdout
