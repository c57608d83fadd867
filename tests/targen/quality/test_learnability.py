"""What small students learn: worked by hand, and on sets whose labels can or cannot be learnt."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest

from targen.config.group_files import model_from_file
from targen.config.groups.training import Model
from targen.quality import encoder
from targen.quality.encoder import EmbeddingCache, NoEncoder, embed_in_subprocess
from targen.quality.learnability import RowWithProvenance, learnability
from targen.quality.students import BagOfWords, LinearOnEncoder
from tests.support.small_data import SPECS

CB = SPECS["cb"]
NOUNS = ("tram", "kettle", "harbour", "violin", "orchard", "ledger", "sparrow", "quarry", "lantern", "meadow")
SAYING = {"entailment": "I know", "contradiction": "I doubt", "neutral": "I ask"}


def cb_set(count: int, says: bool) -> list[RowWithProvenance]:
    """CB rows, `count` per label, whose verb goes with the label, or not. Contexts have rows of all labels."""
    draws, rows = Random(1), []
    for number in range(count):
        for label in SAYING:
            verb = SAYING[label if says else draws.choice(list(SAYING))]
            clause = f"number {number} of the {draws.choice(NOUNS)} and {draws.choice(NOUNS)} fell"
            row = {"premise": f"{verb} {clause}.", "hypothesis": clause, "label": label, "idx": len(rows)}
            rows.append(RowWithProvenance(row, f"context {number % 10}", len(rows) % 3))
    return rows


def measured(rows: Sequence[RowWithProvenance]) -> dict:
    return learnability(CB, rows, [BagOfWords()], seed=0)


def test_a_set_whose_words_carry_the_label_is_learnt_and_one_without_is_not() -> None:
    learnt, not_learnt = measured(cb_set(20, True)), measured(cb_set(20, False))
    score = learnt["students"]["bag_of_words"]
    assert score["f1_macro"]["value"] == 1.0 and learnt["above_chance"] is True
    assert not_learnt["students"]["bag_of_words"]["f1_macro"]["value"] < 0.5 and not_learnt["above_chance"] is False
    assert learnt["questions"] == 60 and learnt["groups"] == 10
    assert learnt["chance"] == {"accuracy": 0.333, "f1_macro": 0.333}
    assert learnt["majority"] == {"accuracy": 0.333, "f1_macro": 0.167}
    assert measured(cb_set(20, True)) == learnt


def test_a_mislabelled_row_is_the_hardest_of_its_label() -> None:
    rows = cb_set(20, True)
    mislabelled = rows[0].row | {"premise": rows[0].row["premise"].replace("know", "doubt")}
    rows[0] = RowWithProvenance(mislabelled, rows[0].context)
    assert measured(rows)["students"]["bag_of_words"]["hardest"]["entailment"][0] == 0


def test_a_context_or_a_place_that_goes_with_the_label_is_a_leak() -> None:
    rows = cb_set(20, True)
    leak = measured(rows)["context_leak"]
    assert leak["seed_position"]["by_label"] == {"entailment": 1.0, "contradiction": 1.0, "neutral": 1.0}
    assert leak["context"]["accuracy"]["value"] < 0.45
    leaking = [
        RowWithProvenance(item.row, f"a place of {item.row['label']} {number % 7}") for number, item in enumerate(rows)
    ]
    leak = measured(leaking)["context_leak"]
    assert leak["context"]["accuracy"]["value"] == 1.0 and leak["seed_position"] is None


def test_too_few_rows_give_a_reason_in_place_of_a_number() -> None:
    assert measured(cb_set(9, True)) == {"questions": 27, "not_measured": "27 questions, expected at least 40"}
    rows = [item for item in cb_set(20, True) if item.row["label"] != "neutral" or item.row["idx"] < 20]
    assert measured(rows)["not_measured"] == "6 of neutral, expected at least 10 rows per label"


def test_embeddings_are_computed_once_and_kept(tmp_path: Path) -> None:
    computed: list[str] = []

    def compute(texts: Sequence[str]) -> np.ndarray:
        computed.extend(texts)
        return np.array([[len(text), 1.0] for text in texts])

    model = model_from_file("minilm")
    first = EmbeddingCache(tmp_path, model, compute).embed(["a", "bb", "a"])
    assert first.tolist() == [[1, 1], [2, 1], [1, 1]]
    assert EmbeddingCache(tmp_path, model, compute).embed(["bb", "ccc"]).tolist() == [[2, 1], [3, 1]]
    assert computed == ["a", "bb", "ccc"]
    student = LinearOnEncoder(EmbeddingCache(tmp_path, model, compute).embed)
    train, _ = student.features([("a", "bb"), ("bb", "a")], [("a", "a")])
    assert train.shape == (2, 8)


def test_a_killed_embedding_keeps_what_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder, "KEPT_AT_ONCE", 2)
    computed: list[str] = []

    def compute(texts: Sequence[str]) -> np.ndarray:
        if "killed" in texts:
            raise KeyboardInterrupt
        computed.extend(texts)
        return np.array([[len(text)] for text in texts])

    model = model_from_file("minilm")
    with pytest.raises(KeyboardInterrupt):
        EmbeddingCache(tmp_path, model, compute).embed(["a", "bb", "ccc", "killed"])
    assert EmbeddingCache(tmp_path, model, compute).embed(["a", "bb", "ccc"]).tolist() == [[1], [2], [3]]
    assert computed == ["a", "bb", "ccc"]


def test_other_weights_or_sizes_are_another_encoder(tmp_path: Path) -> None:
    def path_of(model: Model) -> Path:
        return EmbeddingCache(tmp_path, model, lambda texts: np.zeros((len(texts), 1))).path

    tiny, folder = model_from_file("tiny_encoder"), tmp_path / "encoder"
    assert path_of(tiny) != path_of(replace(tiny, config={**(tiny.config or {}), "hidden_size": 64}))
    folder.mkdir()
    local = replace(model_from_file("minilm"), path=str(folder), sha256=None)
    paths = {path_of(local)}
    for weights in (b"first", b"second"):
        (folder / "model.safetensors").write_bytes(weights)
        paths.add(path_of(local))
    assert len(paths) == 3


def test_an_encoder_that_cannot_be_loaded_is_said(tmp_path: Path) -> None:
    with pytest.raises(NoEncoder, match="nowhere"):
        embed_in_subprocess(replace(model_from_file("minilm"), path="package:nowhere/model"), ["a"])
