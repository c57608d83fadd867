"""The whole run, small: one command, every file, and a second start that does nothing."""

import json
from pathlib import Path

import pytest

from tests.support.commands import ORIGINALS, command, files, lines
from tests.support.small_data import small_overrides

pytestmark = pytest.mark.slow
SMALL = ("task=[copa,cb]", "train.epochs=1", "train.max_length=64")


def test_a_run_without_the_original_data_says_so_and_is_done_once(tmp_path: Path) -> None:
    run = tmp_path / "run"
    first = command("targen.run", *SMALL, f"run.dir={run}")
    assert first.returncode == 0, first.stderr
    ending = first.stderr.splitlines()[-8:]
    assert f"The page: {run / 'report' / 'index.html'}" in ending and ending[-1].startswith("Time of all phases: ")
    table = (run / "report" / "tables" / "scores.md").read_text()
    assert "NOT SuperGLUE" in table.splitlines()[0]
    header = next(line for line in table.splitlines() if line.startswith("|"))
    columns = [cell.strip() for cell in header.strip("|").split("|")]
    assert "synthetic" in columns and "original" not in columns
    names = {f"minilm-single-{task}-synthetic-s0" for task in ("copa", "cb")}
    assert {row["cell"] for row in lines(run / "scores.jsonl")} == names
    for name in names:
        for part in ("model.safetensors", "tokenizer.json", "train_log.jsonl", "done.json"):
            assert (run / "models" / name / part).is_file()
        prediction = lines(run / "predictions" / f"{name}.jsonl")[0]
        assert list(prediction) == ["idx", "gold", "prediction", "scores"]
        assert sum(2.718281828**score for score in prediction["scores"].values()) == pytest.approx(1, abs=1e-3)
    record = json.loads((run / "run.json").read_text())
    assert set(record["seconds"]) == {"generate", "train", "evaluate", "analyze", "report"}
    assert (run / "analysis" / "summary.md").is_file()
    assert "MTLD" not in first.stdout  # what the page shows is not printed
    before = {name: content for name, content in files(run).items() if not name.startswith(("run.json", "report"))}
    mtimes = {name: (run / name).stat().st_mtime_ns for name in before if name.startswith(("models", "predictions"))}
    again = command("targen.run", *SMALL, f"run.dir={run}")
    assert again.returncode == 0
    assert "loss" in first.stderr and "loss" not in again.stderr  # nothing is trained
    after = files(run)
    assert {name: after[name] for name in before} == before
    assert {name: (run / name).stat().st_mtime_ns for name in mtimes} == mtimes  # nor predicted
    assert len(json.loads((run / "run.json").read_text())["earlier_starts"]) == 1
    changed = command("targen.run", *SMALL, f"run.dir={run}", "train.epochs=2")
    assert changed.returncode == 2
    assert "train.epochs was 1.0 and is 2.0" in changed.stderr
    assert files(run) == after


def table_of_a_run(run: Path, data: Path) -> str:
    """The table of scores of a run on a folder of official layout."""
    done = command(
        "targen.run", *SMALL, "model=tiny_encoder", "data.source=local", f"data.dir={data}", f"run.dir={run}"
    )
    assert done.returncode == 0, done.stderr
    table = (run / "report" / "tables" / "scores.md").read_text()
    assert "| task | metric | majority | original | synthetic |" in table
    assert "NOT SuperGLUE" not in table
    return table


def test_a_run_on_local_data_has_both_arms_and_the_same_bytes_twice(tmp_path: Path) -> None:
    small_overrides(tmp_path / "rows", tasks=("copa", "cb"))
    for name in ("one", "two"):
        table = table_of_a_run(tmp_path / name, tmp_path / "rows" / "data")
        assert table.count("/val.jsonl, 10 rows") >= 2 and "SuperGLUE" not in table
    first, second = files(tmp_path / "one"), files(tmp_path / "two")
    kinds = ("calls", "synthetic", "predictions", "scores.jsonl", "models", "report/tables")
    compared = [
        name for name in first if name.startswith(kinds) and not name.endswith(("train_log.jsonl", "training_args.bin"))
    ]
    assert len(compared) > 30
    assert [name for name in compared if first[name] != second[name]] == []


@pytest.mark.skipif(not ORIGINALS.is_dir(), reason="the original SuperGLUE files are not beside the project")
def test_a_run_on_the_original_data_has_both_arms(tmp_path: Path) -> None:
    table = table_of_a_run(tmp_path, ORIGINALS)
    assert "SuperGLUE val, 56 rows" in table
    assert "SuperGLUE val, 64 of 100 rows" in table


def test_batch_awaiting_answers_ends_a_run_before_training(tmp_path: Path) -> None:
    done = command("targen.run", "task=rte", "generator=batch", "generator.model=m", f"run.dir={tmp_path}")
    assert done.returncode == 75
    assert "2 requests wait for answers" in done.stderr
    assert "train: starts" not in done.stderr
