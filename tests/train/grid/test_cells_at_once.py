"""Cells of one run that are trained and scored each by a process of its own, at once."""

import json
from pathlib import Path

import pytest

from eval.run import evaluate
from eval.scoring.metrics import Prediction
from eval.scoring.scores import join_scores
from targen.runtime.errors import UserError
from targen.runtime.lock.run_lock import hold_lock
from tests.support.commands import LONGEST, command, lines, settings
from tests.support.scored_runs import FakeCell, write_cell
from tests.support.small_data import start, tiny_overrides
from tests.train.loop.test_survival import SHORT, overrides, stopped
from train.grid.cells import cells
from train.run import train


def test_cells_trained_and_scored_one_by_one_give_what_one_process_gives(tmp_path: Path) -> None:
    together, apart = (tiny_overrides(tmp_path / name, "seeds=[0,1]") for name in ("one", "apart"))
    data_dir = next(override for override in together if override.startswith("data.dir="))
    apart = [*apart, data_dir]  # scores name the file
    run = settings(*together)
    train(run)
    evaluate(run)
    for cell in reversed(cells(run)):
        single = settings(*apart, f"cell={cell.name}")
        train(single)
        evaluate(single)
    joined = settings(*apart)
    assert not joined.paths.scores.exists()
    assert join_scores(joined.paths) == 2
    assert joined.paths.scores.read_text() == run.paths.scores.read_text()
    assert join_scores(run.paths) == 2
    for cell in cells(run):
        weights = (settings(*arguments).paths.model(cell.name) / "model.safetensors" for arguments in (together, apart))
        assert next(weights).read_bytes() == next(weights).read_bytes()
        assert [row["cell"] for row in lines(joined.paths.cell_scores(cell.name))] == [cell.name]


def test_scores_of_a_cell_that_is_scored_anew_take_the_place_of_the_old(tmp_path: Path) -> None:
    run = settings(*tiny_overrides(tmp_path, "seeds=[0,1]"))
    (score,) = write_cell(tmp_path, FakeCell("rte", "original", 0.5), [Prediction(0, ("entailment",), None, {})])
    rows = [{**score, "cell": name, "value": 0.5} for name in ("a", "b")]
    old = {**rows[0], "value": 0.1}
    run.paths.cell_scores("a").parent.mkdir(parents=True)
    run.paths.scores.write_text("".join(json.dumps(row) + "\n" for row in (old, rows[1])))
    run.paths.cell_scores("a").write_text(json.dumps(rows[0]) + "\n")
    assert join_scores(run.paths) == 2
    assert lines(run.paths.scores) == rows


def test_a_cell_that_is_none_and_one_that_is_at_work_are_one_line(tmp_path: Path) -> None:
    arguments = tiny_overrides(tmp_path, "seeds=[0,1]")
    wrong = command("train.run", *arguments, "cell=tiny_encoder-single-rte-synthetic-s2")
    assert wrong.returncode == 2
    assert (
        "error: cell: got 'tiny_encoder-single-rte-synthetic-s2', expected one of the 2 cells of the grid. Did"
        in wrong.stderr
    )
    first, second = (cell.name for cell in cells(settings(*arguments)))
    with hold_lock(tmp_path / "run", f"cell-{first}"):
        in_use = command("train.run", *arguments, f"cell={first}")
        assert in_use.returncode == 2 and "is in use by process" in in_use.stderr
        whole_run = command("train.run", *arguments)
        assert whole_run.returncode == 2 and f"(cell-{first}.lock)" in whole_run.stderr
        assert command("train.run", *arguments, f"cell={second}", "train.epochs=1").returncode == 0
    with (
        hold_lock(tmp_path / "run"),
        pytest.raises(UserError, match=r"\(run\.lock\)"),
        hold_lock(tmp_path / "run", "cell-x"),
    ):
        pass


@pytest.mark.slow
def test_cells_that_share_a_checker_train_it_once(tmp_path: Path) -> None:
    """Both processes begin at once; the second waits until the checkers of the task and seed are there."""
    arguments = tiny_overrides(tmp_path, "arms=[synthetic,mixed]", "train.loss=imp", "train.checker_rows=8")
    names = [cell.name for cell in cells(settings(*arguments))]
    running = [start("train.run", *arguments, f"cell={name}") for name in names]
    errors = [process.communicate(timeout=LONGEST)[1] for process in running]
    assert [process.returncode for process in running] == [0, 0], errors
    done = {path.parent.name for path in (tmp_path / "run" / "models").glob("*/done.json")}
    assert set(names) < done
    checkers = done - {*names}
    markers = [json.loads((tmp_path / "run" / "models" / name / "done.json").read_text()) for name in names]
    assert checkers == {checker for marker in markers for checker in marker["checkers"]}
    for checker in checkers:
        assert sum(f"train: {checker}: " in text for text in errors) == 1
    config = (tmp_path / "run" / "config.yaml").read_text()
    assert "cell:" not in config and "cluster:" not in config
    assert not list((tmp_path / "run").glob("*.lock"))


@pytest.mark.slow
def test_a_training_that_goes_on_keeps_its_weights_and_biases_run(tmp_path: Path) -> None:
    run = settings(*overrides(tmp_path, *SHORT, "wandb.mode=offline"))
    assert stopped(run, 4) == [4]
    train(run)
    folders = sorted((tmp_path / "run" / "wandb").glob("offline-run-*"))
    ids = {path.name.rpartition("-")[2] for path in folders}
    assert len(folders) == 2 and len(ids) == 1
