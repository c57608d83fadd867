"""The report in Weights & Biases, offline: the contents of the folder that `wandb sync` reads."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import wandb
from PIL import Image
from wandb.proto import wandb_internal_pb2

from eval.analysis.figures.figures import NAMES
from eval.reporting.wandb_report import analysis_records, log_report, summary
from eval.tables.formats import Table, Value
from eval.tables.records import record
from targen.config.settings import Settings
from tests.eval.analysis.test_figures import HOSTILE, analysis
from tests.support.commands import files, settings
from train.runtime.wandb_run import WANDB

KEY = "0123456789" * 4
BLOCK = 32 * 1024


def table(records: Sequence[Mapping[str, Value]]) -> Table:
    lines = (("CB", "71.4 ± 2"), (HOSTILE, "--"))
    return Table("main", "Title", (), ("task", "original"), lines, tuple(records))


def score(level: str, value: float, kind: str = "score", **changes: Value) -> dict[str, Value]:
    start = record("main", (("model", "minilm"),), "cb", "accuracy", kind, level)
    return start | {"value": value} | changes


def offline_runs(run: Settings) -> list[Path]:
    """The folders of the runs, completely written: wandb's own process works on for a moment after the end of a run."""
    wandb.teardown()
    return sorted((run.paths.root / "wandb").glob("offline-run-*"))


def records_of(run: Path) -> list[wandb_internal_pb2.Record]:
    """What the sync sends: blocks of 32 KiB with pieces of records, each after seven bytes: sum, length, kind (1, 4: the last)."""
    (path,) = run.glob("*.wandb")
    data, offset, piece, records = path.read_bytes(), 7, b"", []
    while offset + 7 <= len(data):
        if (remaining := BLOCK - offset % BLOCK) < 7:
            offset += remaining
            continue
        length, kind = int.from_bytes(data[offset + 4 : offset + 6], "little"), data[offset + 6]
        piece += data[offset + 7 : offset + 7 + length]
        offset += 7 + length
        if kind in (1, 4):
            records.append(wandb_internal_pb2.Record.FromString(piece))
            piece = b""
    return records


def summary_of(run: Path) -> dict[str, Any]:
    updates = [item for record in records_of(run) for item in record.summary.update]
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in updates}


def tables_of(run: Path) -> dict[str, dict[str, Any]]:
    media = run / "files" / "media" / "table"
    return {path.name.rsplit("_", 2)[0]: json.loads(path.read_text()) for path in media.rglob("*.json")}


def analyses_of() -> list[dict[str, Any]]:
    return [analysis() | {"task": "cb"}, analysis("RTE") | {"task": "rte"}]


def test_a_report_and_a_second_one_in_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    run_settings = settings(f"run.dir={tmp_path / 'run'}", f"report.dir={tmp_path / 'report'}", "wandb.mode=offline")
    run_settings.paths.root.mkdir()
    figures = [tmp_path / f"{name}.png" for name in NAMES]
    for number, path in enumerate(figures):
        Image.new("RGB", (2, 2), (number, 0, 0)).save(path)
    log_report(run_settings, [table([score("original", 71.4)])], figures, analyses_of())
    (run,) = offline_runs(run_settings)
    logged = tables_of(run)
    assert set(logged) == {"main", "analyses"}
    assert logged["main"]["columns"] == ["task", "original"]
    assert logged["main"]["data"] == [["CB", "71.4 ± 2"], [HOSTILE.replace("\n", " "), "--"]]
    assert len(logged["analyses"]["data"]) == 20
    images = {path.name.rsplit("_", 2)[0] for path in (run / "files" / "media" / "images").rglob("*.png")}
    assert images == set(NAMES)
    assert summary_of(run)["main/cb/accuracy/original"] == 71.4
    assert summary_of(run)["analysis/rte/val_runs/b"] == 0.6
    (run_record,) = [record.run for record in records_of(run) if record.HasField("run")]
    assert (run_record.job_type, run_record.display_name) == ("report", "report")
    second = settings(f"run.dir={tmp_path / 'other'}", f"report.dir={tmp_path / 'report'}", "wandb.mode=offline")
    second.paths.root.mkdir()
    log_report(second, [], [], [])
    ids = {path.name.rpartition("-")[2] for path in (run, *offline_runs(second))}
    assert ids == {(tmp_path / "report" / WANDB).read_text().strip()}
    assert not [name for name, data in files(tmp_path).items() if KEY.encode() in data]


def test_nothing_where_it_is_disabled(tmp_path: Path) -> None:
    log_report(settings(f"run.dir={tmp_path / 'run'}"), [table([])], [tmp_path / "none.png"], analyses_of())
    assert not list(tmp_path.iterdir())


def test_analyses_as_one_table() -> None:
    records = {record["measure"]: record for record in analysis_records(analyses_of()) if record["task"] == "rte"}
    assert {tuple(record) for record in records.values()} == {tuple(records["vendi"])}
    vendi = {
        "task": "rte",
        "part": "semantic",
        "unit": "rows",
        "a": 0.4,
        "a_low": 0.3,
        "a_high": 0.5,
        "difference_low": 0.1,
    }
    assert vendi.items() <= records["vendi"].items()
    assert (records["train_runs"]["a"], records["train_runs"]["difference"]) == (None, None)
    assert records["authors_sum"]["authors"] is True
    assert (records["vendi"]["set_b"], records["vendi"]["size_b"]) == ("synthetic", 24)


def test_scores_of_equal_names_are_told_apart_in_the_summary() -> None:
    records = [score("original", 50.0), score("original", 60.0, model="other"), score("synthetic", 55.0)]
    records += [score("", 1.0), score("synthetic - original", 5.0, kind="difference")]
    assert summary([table(records)], []) == {
        "main/cb/accuracy/original/minilm": 50.0,
        "main/cb/accuracy/original/other": 60.0,
        "main/cb/accuracy/synthetic": 55.0,
    }
