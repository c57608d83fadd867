"""train.select_rows: which synthetic rows are kept, that they are chosen once and listed, and what cannot be selected."""

import json
import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from eval.reporting.report import report
from eval.run import evaluate
from eval.scoring.scores import read_scores
from targen.config.group_files import task_from_file
from targen.config.settings import Settings
from targen.runtime.errors import UserError
from targen.runtime.signals import Stopped
from targen.tasks.task import Row
from tests.support.commands import command, lines, settings
from tests.support.stopping import StopAfter
from train.grid.arms import training_rows
from train.grid.cells import Cell, cells
from train.grid.checkers import training_job
from train.grid.pending_jobs import pending_jobs
from train.models.checkpoints import complete_checkpoints
from train.plan import plan
from train.run import train
from train.runtime.processes import Processes

SST2 = task_from_file("sst2")
VALUES = {label.name: label.value for label in SST2.labels}
WORDS = {"positive": "wonderful", "negative": "dreadful"}
BROKEN = (2, 5, 8, 13, 17)  # rows whose label is wrong


def rows_of(count: int, start: int) -> list[Row]:
    """Rows whose texts say in one word what their labels do."""
    rows = []
    for index in range(count):
        label = ("positive", "negative")[index % 2]
        text = f"{WORDS[label]} film {start + index}"
        rows.append({"text": text, "label": VALUES[label], "idx": index})
    return rows


def with_wrong_label(row: Row) -> Row:
    return {**row, "label": next(value for value in VALUES.values() if value != row["label"])}


def write(path: Path, rows: list[Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def overrides_of(folder: Path, *overrides: str) -> list[str]:
    """SST-2 with 24 original rows and 20 synthetic ones, of which five have the wrong label."""
    write(folder / "data" / "SST-2" / "val.jsonl", rows_of(10, 300))
    write(folder / "data" / "SST-2" / "train.jsonl", rows_of(24, 100))
    synthetic = [with_wrong_label(row) if row["idx"] in BROKEN else row for row in rows_of(20, 500)]
    write(folder / "run" / "synthetic" / "sst2" / "train.jsonl", synthetic)
    return [
        "task=[sst2]", "model=tiny_encoder", "arms=[synthetic]", "train.epochs=1", "train.max_length=64", "data.source=local",
        f"data.dir={folder / 'data'}", f"run.dir={folder / 'run'}", "train.select_student=bag_of_words",
        "train.checker_rows=16", *overrides,
    ]  # fmt: skip


def run_of(folder: Path, *overrides: str) -> Settings:
    return settings(*overrides_of(folder, *overrides))


def kept_idx(run: Settings, cell: Cell) -> list[int]:
    """The idx of the synthetic rows of a cell."""
    rows = training_rows(run, cell)
    assert rows is not None
    return [row["idx"] for row in rows[-1].rows]


@pytest.mark.parametrize("by", ["checker", "pvi"])
def test_rows_with_a_wrong_label_are_left_out(tmp_path: Path, by: str) -> None:
    run = run_of(tmp_path, f"train.select_rows={by}", "train.select_share=0.75")
    (cell,) = cells(run)
    assert cell.name == f"tiny_encoder-single-sst2-synthetic-{by}75-s0"
    assert kept_idx(run, cell) == [idx for idx in range(20) if idx not in BROKEN]
    assert training_job(run, cell).real_row_count == (16 if by == "checker" else 0)


def test_the_packaged_encoder_selects_them_too(tmp_path: Path) -> None:
    run = run_of(tmp_path, "train.select_rows=checker", "train.select_student=encoder")
    assert kept_idx(run, cells(run)[0]) == [idx for idx in range(20) if idx not in BROKEN]
    assert (run.paths.embeddings).is_dir()


def test_a_share_of_all_rows_keeps_all_and_original_rows_stay(tmp_path: Path) -> None:
    run = run_of(tmp_path, "train.select_rows=checker", "train.select_share=1", "arms=[original,synthetic,mixed]")
    assert [len(training_rows(run, cell)[-1].rows) for cell in cells(run)] == [24, 20, 20]
    half = run_of(tmp_path, "train.select_rows=checker", "train.select_share=0.5", "arms=[original,synthetic,mixed]")
    original, synthetic, mixed = cells(half)
    assert [part.count for part in training_rows(half, original)] == [24]
    assert "checker" not in original.name
    assert [part.count for part in training_rows(half, mixed)] == [10, 10]  # train.mixed_original=100%
    assert kept_idx(half, synthetic) == kept_idx(half, mixed)


def test_arms_of_equal_size_count_the_rows_that_are_kept(tmp_path: Path) -> None:
    run = run_of(tmp_path, "train.select_rows=checker", "arms=[original,synthetic,mixed]", "train.equal_size=true")
    assert [sum(part.count for part in training_rows(run, cell)) for cell in cells(run)] == [15, 15, 15]


def test_a_seed_draws_rows_before_the_best_are_kept(tmp_path: Path) -> None:
    run = run_of(tmp_path, "train.select_rows=checker", "train.max_rows=12", "seeds=[0,1]")
    first, second = (training_rows(run, cell)[0] for cell in cells(run))
    assert first.count == second.count == 9
    drawn_idx = [{line["idx"] for line in part.selection.lines} for part in (first, second)]
    assert [len(idx) for idx in drawn_idx] == [12, 12] and drawn_idx[0] != drawn_idx[1]


def test_a_cell_lists_its_rows_and_keeps_them(tmp_path: Path) -> None:
    run = run_of(tmp_path, "train.select_rows=checker")
    train(run)
    (cell,) = cells(run)
    listed = lines(run.paths.model(cell.name) / "selected_rows.jsonl")
    assert [line["idx"] for line in listed] == list(range(20))
    assert Counter(line["kept"] for line in listed) == {True: 15, False: 5}
    assert min(line["score"] for line in listed if line["kept"]) >= max(
        line["score"] for line in listed if not line["kept"]
    )
    assert listed[0].keys() == {"task", "idx", "label", "score", "kept", "taught"}
    marker = json.loads((run.paths.model(cell.name) / "done.json").read_text())
    assert (marker["rows"], marker["real_rows"]) == (15, 16)
    evaluate(run)
    score = read_scores(run.paths.scores)[0]
    assert (score.selection, score.setting, score.train_rows) == ("checker75", "single", 15)
    report(run)
    table = (run.paths.report / "tables" / "original_vs_synthetic.md").read_text()
    assert "self-correction paper, by large-language-model, 75% by checker" in table
    assert pending_jobs(run, Processes()) == []  # nothing is left to do, and nothing is scored again
    changed = run_of(tmp_path, "train.select_rows=checker", "train.checker_rows=12")
    with pytest.raises(UserError, match=r"different settings or rows: train.checker_rows"):
        pending_jobs(changed, Processes())


def test_a_list_is_made_anew_until_training_has_begun(tmp_path: Path) -> None:
    run = run_of(tmp_path, "train.select_rows=checker")
    (job,) = pending_jobs(run, Processes())
    path = run.paths.model(job.cell.name) / "selected_rows.jsonl"
    before = path.read_bytes()
    half = run_of(tmp_path, "train.select_rows=checker", "train.checker_rows=10")
    (other,) = pending_jobs(half, Processes())
    assert other.cell.name == job.cell.name and path.read_bytes() != before
    (again,) = pending_jobs(run, Processes())
    assert path.read_bytes() == before
    assert again.fingerprint == job.fingerprint
    assert kept_idx(run, job.cell) == [row["idx"] for row in job.rows[0].rows]


def without(key: str) -> Callable[[list[str]], list[str]]:
    """Takes a key from the last line."""
    return lambda listed: [
        *listed[:-1],
        json.dumps({name: value for name, value in json.loads(listed[-1]).items() if name != key}),
    ]


@pytest.mark.parametrize(
    "damage", [lambda listed: listed[:7], without("task"), without("idx"), without("kept"), lambda listed: listed[::-1]]
)
def test_a_damaged_list_is_mended(tmp_path: Path, damage: Callable[[list[str]], list[str]]) -> None:
    run = run_of(tmp_path, "train.select_rows=checker", "train.freeze=true")
    train(run)
    (cell,) = cells(run)
    path = run.paths.model(cell.name) / "selected_rows.jsonl"
    before = path.read_bytes()
    path.write_text("\n".join(damage(path.read_text().splitlines())) + "\n")
    assert path.read_bytes() != before
    assert pending_jobs(run, Processes()) == [] and path.read_bytes() == before
    path.write_text(before.decode() + "{")
    with pytest.raises(UserError, match=r"selected_rows.jsonl:21: not a JSON object"):
        pending_jobs(run, Processes())


def test_training_goes_on_with_the_rows_that_were_chosen(tmp_path: Path) -> None:
    run = run_of(tmp_path, "train.select_rows=checker", "train.batch_size=4")
    with pytest.raises(Stopped):
        train(run, stop=StopAfter(1))
    (cell,) = cells(run)
    path = run.paths.model(cell.name) / "selected_rows.jsonl"
    before, chosen = path.read_bytes(), kept_idx(run, cell)
    (tmp_path / "data" / "SST-2" / "train.jsonl").unlink()  # without which no row can be scored
    (job,) = pending_jobs(run, Processes())
    assert [row["idx"] for row in job.rows[0].rows] == chosen
    assert [checkpoint.step for checkpoint in complete_checkpoints(run.paths.model(cell.name))] == [1]
    train(run)
    marker = json.loads((run.paths.model(cell.name) / "done.json").read_text())
    assert (marker["rows"], marker["real_rows"], marker["steps"]) == (15, 16, 4)
    assert path.read_bytes() == before


def test_a_trained_cell_is_scored_without_original_rows(tmp_path: Path) -> None:
    """Also where its training rows are shown: they are those on record."""
    run = run_of(
        tmp_path, "train.select_rows=checker", "model=tiny_decoder", "train.instruct=true", "train.max_length=2000"
    )
    train(run)
    evaluate(run)
    (cell,) = cells(run)
    path = run.paths.predictions(cell.predictions_name("sst2"))
    before = path.read_bytes()
    path.unlink()
    (tmp_path / "data" / "SST-2" / "train.jsonl").unlink()
    evaluate(run)
    assert path.read_bytes() == before
    path.unlink()
    (run.paths.model(cell.name) / "selected_rows.jsonl").unlink()
    with pytest.raises(UserError, match="train"):
        evaluate(run)


def test_the_log_counts_the_labels_and_warns_of_one_that_is_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = run_of(tmp_path, "train.select_rows=checker", "train.select_share=0.05")
    with caplog.at_level(logging.INFO):
        (job,) = pending_jobs(run, Processes())
    (label,) = (line["label"] for line in job.rows[0].selection.lines if line["kept"])
    (lost,) = {"positive", "negative"} - {label}
    assert "1 of 20 synthetic rows of sst2 are kept by checker (" in caplog.text
    assert f"no row of {lost} is kept" in caplog.text


def test_a_plan_counts_the_rows_and_scores_none(tmp_path: Path) -> None:
    run = run_of(tmp_path, "train.select_rows=checker", "plan=true", "arms=[synthetic,mixed]")
    assert [cell_plan.rows for cell_plan in plan(run)] == [15, 30]
    assert not (tmp_path / "run" / "models").exists() and not (tmp_path / "run" / "embeddings").exists()
    awaited = run_of(tmp_path, "train.select_rows=checker", "plan=true", "arms=[synthetic,mixed]", "synth.size=20")
    (tmp_path / "run" / "synthetic" / "sst2" / "train.jsonl").unlink()
    assert [cell_plan.rows for cell_plan in plan(awaited)] == [15, 30]


NONE_KEPT = "train.select_share: got 0.02, which keeps none of the 20 rows of sst2. Set a larger"
MISTAKES = [
    (
        ["arms=[original]"],
        "train.select_rows: got checker with the arms ['original'], expected one with synthetic rows.",
    ),
    (["data.source=fixture", "data.dir=null"], "train.select_rows: got checker with data.source=fixture"),
    (["train.select_share=0"], "train.select_share: got 0"),
    (["train.select_share=1.5"], "train.select_share: got 1.5"),
    (["train.select_rows=chekcer"], "train.select_rows: got 'chekcer'"),
    (["train.loss=dimp"], "train.select_rows: got checker with train.loss=dimp, which weights all rows"),
    (["train.checker_rows=1"], "train.checker_rows: got 1, of which 1 rows of sst2 were drawn and none of "),
    (["train.select_share=0.02"], NONE_KEPT),
    (["train.select_share=0.02", "plan=true"], NONE_KEPT),
    (["train.select_share=0.02", "plan=true", "arms=[original,synthetic]", "train.equal_size=true"], NONE_KEPT),
    (
        [
            "train.select_share=0.02",
            "arms=[original,synthetic]",
            "train.equal_size=true",
            "cell=tiny_encoder-single-sst2-original-s0",
        ],
        NONE_KEPT,
    ),
]


@pytest.mark.parametrize(("overrides", "words"), MISTAKES)
def test_what_cannot_be_selected_is_refused_before_anything_is_trained(
    tmp_path: Path, overrides: list[str], words: str
) -> None:
    done = command("train.run", *overrides_of(tmp_path, "train.select_rows=checker", *overrides))
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"error: {words}"), done.stderr
    assert done.stderr.count("\n") == 1
    assert not list((tmp_path / "run").glob("models/*/done.json"))
