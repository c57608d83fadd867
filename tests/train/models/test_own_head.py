"""A head that is no copy of the embeddings, although transformers' configuration says so, as those of Flan-T5 and mT5."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from targen.config.settings import Settings
from tests.support.commands import settings
from tests.support.sharded_training import Sharded, train_sharded
from tests.support.small_data import SPECS, model_of, tiny_overrides
from train.families.registry import family_of
from train.grid.cells import cells
from train.loop.saving import load_initial_model, load_shapes
from train.models.loading import Loaded
from train.models.own_head import keep_own_head, shape_own_head
from train.run import train
from train.runtime.processes import Processes


def saved(folder: Path, model_type: str, head: float | None, **config: object) -> dict[str, torch.Tensor]:
    """The weights of a tiny model that was saved with `head` times its embeddings as its head."""
    run = settings(*tiny_overrides(folder, f"model.config.model_type={model_type}", model="tiny_seq2seq"))
    loaded = load_initial_model(run, cells(run)[0], Processes())
    loaded.model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    if head is not None:
        weights["lm_head.weight"] = weights["shared.weight"] * head
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    return weights


def using(folder: Path, *overrides: str) -> Settings:
    rest = ("model.path=" + str(folder), *overrides)
    return settings(*tiny_overrides(folder / "run", *rest, model="flan_t5_base", dropout=True))


def names(loaded: Loaded) -> list[str]:
    loaded.model.tie_weights()  # as accelerate does for FSDP
    return [name for name, _ in loaded.model.named_parameters()]


FLAN = {"scale_decoder_outputs": False}


@pytest.mark.parametrize("form", ["one file", "parts", "pickled"])
@pytest.mark.parametrize(
    ("model_type", "config", "head", "has_own"),
    [
        ("t5", FLAN, 0.5, True),
        ("t5", FLAN, None, False),  # a cell that was saved with its head tied
        ("t5", FLAN, 1.0, False),  # from_pretrained ties equal weights
        ("mt5", {}, 0.5, True),
        ("mt5", {}, None, False),
        ("umt5", {}, 0.5, True),
    ],
)
def test_shapes_have_the_head_of_the_loaded_model(
    tmp_path: Path, model_type: str, config: dict[str, object], head: float | None, has_own: bool, form: str
) -> None:
    weights = saved(tmp_path, model_type, head, **config)
    if form == "parts":
        parts = {name: f"model-0000{1 + ('lm_head' in name)}-of-00002.safetensors" for name in weights}
        for part in {*parts.values()}:
            save_file({name: weights[name] for name in parts if parts[name] == part}, tmp_path / part, {"format": "pt"})
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": parts}))
        (tmp_path / "model.safetensors").unlink()
    elif form == "pickled":
        torch.save(weights, tmp_path / "pytorch_model.bin")
        (tmp_path / "model.safetensors").unlink()
    run = using(tmp_path, *(["+model.pickle=true"] if form == "pickled" else []))
    (cell,) = cells(run)
    loaded = names(load_initial_model(run, cell, Processes()))
    assert loaded == names(load_shapes(run, cell))
    assert ("lm_head.weight" in loaded) is has_own
    # as another process found it
    assert ("lm_head.weight" in names(load_shapes(run, cell, own_head=not has_own))) is not has_own


@pytest.mark.parametrize(
    ("model_type", "config", "has_own"), [("t5", FLAN, True), ("t5", {}, False), ("mt5", {}, False)]
)
def test_without_weights_the_configuration_says_it(
    tmp_path: Path, model_type: str, config: dict[str, object], has_own: bool
) -> None:
    saved(tmp_path, model_type, 0.5, **config)
    (tmp_path / "model.safetensors").unlink()
    run = using(tmp_path)
    assert ("lm_head.weight" in names(load_shapes(run, cells(run)[0]))) is has_own


def test_a_model_without_such_a_head_or_list_of_ties_stays_as_it_is(tmp_path: Path) -> None:
    saved(tmp_path, "t5", 0.5, **FLAN)
    run = using(tmp_path)
    encoder = settings(
        *tiny_overrides(tmp_path / "run", f"model.path={tmp_path}", model="deberta_v3_large", dropout=True)
    )
    shapes = load_shapes(encoder, cells(encoder)[0]).model
    assert hasattr(shapes, "classification_head") and not hasattr(shapes, "lm_head")
    for ties in (["lm_head.weight"], None):
        model = family_of(run).load_pretrained(run.model, SPECS["rte"]).model
        model._tied_weights_keys = ties
        del model.all_tied_weights_keys
        keep_own_head(model)
        shape_own_head(model, str(tmp_path), pickle=False)
        assert model._tied_weights_keys == ties


@pytest.mark.slow
def test_fsdp_trains_own_and_tied_heads_as_one_process_does(tmp_path: Path) -> None:
    kinds: dict[str, tuple[str, float | None, dict[str, object]]] = {
        "mT5": ("mt5", 0.5, {}),
        "Flan-T5": ("t5", 0.5, FLAN),
        "tied Flan-T5": ("t5", None, FLAN),
    }
    arguments: dict[tuple[str, str], list[str]] = {}
    for kind, (model_type, head, config) in kinds.items():
        pretrained = tmp_path / kind
        saved(pretrained, model_type, head, dropout_rate=0.0, **config)
        for name in ("one", "two"):
            usual = (f"model.path={pretrained}", "train.learning_rate=3e-3", "train.precision=fp32")
            arguments[kind, name] = tiny_overrides(tmp_path / kind / name, *usual, model="flan_t5_base", dropout=True)
    train_sharded(tmp_path, "fsdp", {kind: Sharded(arguments[kind, "two"]) for kind in kinds})
    for kind, (_, head, _) in kinds.items():
        single, sharded = (settings(*arguments[kind, name]) for name in ("one", "two"))
        train(single)
        expected, weights = (load_file(model_of(run) / "model.safetensors") for run in (single, sharded))
        assert ("lm_head.weight" in expected) is (head is not None)
        assert weights.keys() == expected.keys()
        assert all(torch.allclose(weights[name], weight, atol=2e-4) for name, weight in expected.items())
