"""Rows held out for evaluation: of other contexts than the training rows, balanced, the same however they were made."""

import json
from collections import Counter
from pathlib import Path

import pytest

from eval.scoring.evaluation_rows import evaluation_rows
from targen.config.settings import Settings
from targen.dataset.publish import files_to_publish
from targen.generate import generate
from targen.merge import merge
from targen.runtime.errors import UserError
from tests.support.commands import files, lines, settings
from tests.support.fake_model import FakeModel, served_by
from tests.support.generation_runs import by_batch
from train.grid.rows import synthetic_rows

WITHOUT_ORIGINAL = ("task=rte", "data.source=none", "synth.contexts=12", "synth.size=60", "train.max_rows=null")


def generate_by_batch(folder: Path, *overrides: str) -> Settings:
    by_batch(folder, FakeModel(error_rate=0.05), *WITHOUT_ORIGINAL, *overrides)
    return settings(f"run.dir={folder}", *WITHOUT_ORIGINAL, *overrides)


def provenance(folder: Path, name: str) -> list[dict[str, object]]:
    return lines(folder / "synthetic" / "rte" / name)


def contexts(folder: Path, name: str) -> set[object]:
    return {record["context"] for record in provenance(folder, name)}


def test_without_original_data_whole_contexts_are_held_out_and_scored(tmp_path: Path) -> None:
    run = generate_by_batch(tmp_path)
    stats = json.loads((tmp_path / "synthetic" / "rte" / "stats.json").read_text())
    held_out, training = evaluation_rows(run, run.tasks["rte"]), synthetic_rows(run, run.tasks["rte"], 0)
    assert run.arms == ["synthetic"]
    assert len(held_out.examples) + len(training.rows) == 60 and abs(len(held_out.examples) - 12) <= 3
    assert stats["held_out"]["rows"] == len(held_out.examples) and stats["rows"] == len(training.rows)
    labels = Counter(row["label"] for row in held_out.split.rows)
    assert max(labels.values()) - min(labels.values()) <= 1 and labels == stats["held_out"]["rows_per_label"]
    assert not contexts(tmp_path, "provenance.jsonl") & contexts(tmp_path, "held_out_provenance.jsonl")
    assert (held_out.split.source, held_out.split.origin) == ("held_out", "held-out synthetic rows")
    texts = {row["premise"] + row["hypothesis"] for row in held_out.split.rows}
    assert not texts & {row["premise"] + row["hypothesis"] for row in training.rows}
    card = (tmp_path / "synthetic" / "README.md").read_text()
    assert "path: rte/held_out.jsonl" in card and "held_out_provenance.jsonl" in card
    assert {"rte/held_out.jsonl", "rte/held_out_provenance.jsonl"} <= set(files_to_publish(run.paths, False))


def test_a_larger_set_holds_out_the_same_contexts_first(tmp_path: Path) -> None:
    generate_by_batch(tmp_path / "small")
    generate_by_batch(tmp_path / "large", "synth.size=120")
    small, large = (contexts(tmp_path / name, "held_out_provenance.jsonl") for name in ("small", "large"))
    assert len(small & large) >= len(small) - 1


def test_shards_and_batch_files_hold_out_the_same_rows(tmp_path: Path, serve) -> None:
    generate_by_batch(tmp_path / "batch", "synth.few_rounds=false")
    server_run = [
        *served_by(serve(FakeModel(error_rate=0.05)).url, tmp_path / "shards"),
        "synth.seeds_per_context=2",
        *WITHOUT_ORIGINAL,
    ]
    for index in range(3):
        generate(settings(*server_run, "shard.count=3", f"shard.index={index}"))
    merge(settings(*server_run, "shard.count=3"))
    batch, shards = (files(tmp_path / name / "synthetic" / "rte") for name in ("batch", "shards"))
    assert all(shards[name] == batch[name] for name in ("train.jsonl", "held_out.jsonl", "held_out_provenance.jsonl"))


@pytest.mark.parametrize(("holdout", "about"), [("30", 30), ("0.5", 30), ("0", 0)])
def test_how_much_is_held_out_is_a_number_or_a_share(tmp_path: Path, holdout: str, about: int) -> None:
    """Also beside original data, on which models are scored then."""
    by_batch(tmp_path, FakeModel(), "task=rte", "synth.contexts=12", "synth.size=60", f"synth.holdout={holdout}")
    path = tmp_path / "synthetic" / "rte" / "held_out.jsonl"
    assert abs((len(lines(path)) if path.is_file() else 0) - about) <= 3
    assert path.is_file() == bool(about)


def test_what_was_held_out_before_is_trained_on_once_nothing_is(tmp_path: Path) -> None:
    generate_by_batch(tmp_path)
    generate_by_batch(tmp_path, "synth.holdout=0", "phases=[generate]")
    assert "synthetic/rte/held_out.jsonl" not in files(tmp_path)
    assert len(provenance(tmp_path, "provenance.jsonl")) == 60


def test_rows_of_one_context_cannot_be_parted(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"synth.holdout: rte has 60 instances of 1 contexts, expected more"):
        generate_by_batch(tmp_path, "method=zero_shot_topic", "synth.contexts=1")
