"""Flan-T5's head is no copy of its embeddings, although transformers' configuration of T5 says so."""

import json
from pathlib import Path

from safetensors.torch import load_file, save_file

from tests.support.commands import settings
from tests.support.small_data import model_of, tiny_overrides
from train.grid.cells import cells
from train.loop.saving import load_initial_model, load_shapes
from train.run import train
from train.runtime.processes import Processes


def test_a_head_of_its_own_is_in_the_shapes_and_is_not_tied_again(tmp_path: Path) -> None:
    made = settings(*tiny_overrides(tmp_path / "made", model="tiny_seq2seq"))
    train(made)
    folder = model_of(made)
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"] = weights["shared.weight"] / 2
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text()) | {"scale_decoder_outputs": False}
    (folder / "config.json").write_text(json.dumps(config))
    run = settings(*tiny_overrides(tmp_path / "run", f"model.path={folder}", model="flan_t5_base", dropout=True))
    for loaded in (load_initial_model(run, cells(run)[0], Processes()), load_shapes(run, cells(run)[0])):
        loaded.model.tie_weights()  # as accelerate does for FSDP
        assert {name for name, _ in loaded.model.named_parameters()} == {*weights}
