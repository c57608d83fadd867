"""Additions stay cheap: the examples of CONTRIBUTING.md, pasted into a copy of the project, work, and nothing else is edited."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from targen.text.normalise import words
from tests.support.commands import LONGEST, PROJECT, lines

# `path`: (a whole file), `path`, above `MARKER`: or `path`, in `TABLE`:, each followed by a block of code
EXAMPLE = re.compile(r"^`([\w/.]+)`(?:, (above|in) `([^`]+)`)?[^\n]*:\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMPOSED = """
from targen.config.loading import settings_from
from targen.runtime.cli import compose

print(settings_from(compose(["model=bert_base"])).model.path)
print(settings_from(compose(["model=minilm_probe"])).model.has_head)
print(settings_from(compose(["method=two_shot"])).method.demonstrations.count)
print(",".join(settings_from(compose(["+experiment=cb_deberta"])).arms))
"""


def paste(path: Path, where: str | None, marker: str, code: str) -> None:
    """Writes a new file, or inserts the code above the line of the marker, or as last entry of the table that it names."""
    if where is None:
        path.parent.mkdir(parents=True, exist_ok=True)
        assert not path.exists(), f"{path} is not new"
        path.write_text(code)
        return
    source = path.read_text().splitlines(keepends=True)
    (number,) = (number for number, line in enumerate(source) if line.strip().startswith(marker))
    if where == "in":
        indents = [len(line) - len(line.lstrip()) for line in source]
        indent = len(code) - len(code.lstrip())
        number = next(entry for entry in range(number, len(source)) if indents[entry] == indent)
        number = next(end for end in range(number, len(source)) if indents[end] < indent)
    source.insert(number, code if where == "in" or code.startswith(" ") else f"{code}\n\n")
    path.write_text("".join(source))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with every addition of CONTRIBUTING.md."""
    folder = tmp_path_factory.mktemp("additions")
    for name in ("targen", "train", "eval", "conf"):
        shutil.copytree(PROJECT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "results").mkdir()
    shutil.copy(PROJECT / "results" / "paper.yaml", folder / "results")
    examples = EXAMPLE.findall((PROJECT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    assert len([path for path, where, _, _ in examples if not where]) == 10
    assert [(path, marker) for path, where, marker, _ in examples if where] == [
        ("eval/scoring/metrics.py", "METRICS: dict"),
        ("eval/scoring/metrics.py", "METRICS: dict"),
        ("targen/config/losses.py", "LOSSES: dict"),
        ("targen/config/losses.py", "LOSSES: dict"),
        ("targen/config/arms.py", "ARMS ="),
        ("train/grid/arms.py", "if not ARMS[arm].uses_original"),
        ("targen/config/groups/training.py", "HEAD_FAMILIES ="),
    ]
    for path, where, marker, code in examples:
        paste(folder / path, where or None, marker, code)
    fixture = folder / "eval" / "fixture" / "Reviews" / "val.jsonl"
    write_rows(fixture, [row | {"words": len(words(row["review"]))} for row in lines(fixture)])
    return folder


@pytest.fixture
def data(project: Path, tmp_path: Path) -> Path:
    """Original data of the added task."""
    folder = tmp_path / "data"
    rows = lines(project / "eval" / "fixture" / "Reviews" / "val.jsonl")
    for split in ("train", "val"):
        write_rows(folder / "Reviews" / f"{split}.jsonl", rows)
    return folder


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """Writes JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def in_copy(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python with these arguments in the copy of the project."""
    variables = os.environ | {"PYTHONPATH": str(project), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, env=variables, timeout=LONGEST)


def test_the_added_configurations_compose(project: Path) -> None:
    done = in_copy(project, "-c", COMPOSED)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["google-bert/bert-base-uncased", "True", "2", "original,synthetic,mixed"]


@pytest.mark.slow
def test_the_calls_of_an_added_task_and_backend_are_planned(project: Path, tmp_path: Path) -> None:
    plan = ["generator=babble", "synth.size=4", "plan=true", f"run.dir={tmp_path / 'run'}"]
    done = in_copy(project, "-m", "targen.generate", "task=reviews", *plan)
    assert done.returncode == 0, done.stderr
    assert "reviews" in done.stdout


@pytest.mark.slow
def test_a_row_that_breaks_the_format_of_an_added_task_is_named(project: Path, data: Path, tmp_path: Path) -> None:
    path = data / "Reviews" / "val.jsonl"
    rows = lines(path)
    write_rows(path, [*rows[:2], rows[2] | {"words": 99}])
    local = ["data.source=local", f"data.dir={data}", f"run.dir={tmp_path / 'run'}"]
    refused = in_copy(project, "-m", "targen.run", "task=reviews", *local, "arms=[synthetic]", "phases=[evaluate]")
    assert refused.returncode == 2
    assert f"error: {path}:3: words: got 99, expected 15" in refused.stderr


@pytest.mark.slow
def test_a_run_uses_an_added_task_backend_family_loss_metric_and_arm(project: Path, data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    generation = ["task=reviews", "generator=babble", "synth.size=8", "synth.self_correct=off"]
    training = ["model=tiny_encoder", "model.family=probe", "train.loss=tempered_imp", "train.epochs=1"]
    grid = ["arms=[synthetic,synthetic_half]", "seeds=[0]", "tasks.reviews.metrics=[accuracy,balanced_accuracy]"]
    rest = ["phases=[generate,train,evaluate,report]", "data.source=local", f"data.dir={data}", f"run.dir={run}"]
    done = in_copy(project, "-m", "targen.run", *generation, *training, *grid, *rest)
    assert done.returncode == 0, done.stderr
    rows = lines(run / "synthetic" / "reviews" / "train.jsonl")
    assert [row["words"] for row in rows] == [12] * 8  # of the format; the texts are those of the backend
    scores = {(row["cell"], row["metric"]): row["n"] for row in lines(run / "scores.jsonl")}
    cells = [f"tiny_encoder-single-tempered_imp-reviews-{arm}-s0" for arm in ("synthetic", "synthetic_half")]
    assert scores == {(cell, metric): 8 for cell in cells for metric in ("accuracy", "balanced_accuracy")}
    trained = [json.loads((run / "models" / cell / "done.json").read_text()) for cell in cells]
    assert [marker["fingerprint"]["model"]["family"] for marker in trained] == ["probe", "probe"]
    assert [len(marker["fingerprint"]["checkers"]) for marker in trained] == [2, 2]
    assert frozen_weights(run / "models" / cells[0]) == frozen_weights(run / "models" / cells[1])
    table = (run / "report" / "tables" / "scores.md").read_text()
    assert "| task | metric | majority | synthetic | synthetic_half |" in table
    assert "| Reviews | accuracy |" in table and "| Reviews | balanced accuracy |" in table


def frozen_weights(folder: Path) -> dict[str, bytes]:
    """The weights beneath the head of a trained cell, by name."""
    from safetensors.numpy import load_file

    weights = load_file(folder / "model.safetensors")
    frozen = {name: values.tobytes() for name, values in weights.items() if name.startswith("bert.")}
    assert len(frozen) > 30
    return frozen
