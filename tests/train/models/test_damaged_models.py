"""Models that are not whole, and lengths without room: one line before anything is trained, nothing drawn at random unseen."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForMaskedLM, GPTNeoXConfig, GPTNeoXForCausalLM

from targen.config.groups.training import Model
from targen.runtime.errors import UserError
from targen.tasks.encoder_texts import encoder_texts
from targen.tasks.task import Example
from tests.support.commands import command, files, settings
from tests.support.small_data import SPECS, examples_of, small_overrides, small_run
from train.data.rendering import prompt
from train.families.decoder import DecoderFamily
from train.families.encoder import EncoderFamily
from train.models.byte_tokenizer import byte_tokenizer
from train.run import train

decoder = DecoderFamily()
encoder = EncoderFamily()

SIZES = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64}


def write_decoder(folder: Path, vocabulary: int = 258) -> None:
    torch.manual_seed(0)
    config = GPTNeoXConfig(**SIZES, vocab_size=vocabulary, max_position_embeddings=2048)
    GPTNeoXForCausalLM(config).save_pretrained(folder)
    byte_tokenizer(ends=False).save_pretrained(folder)


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def cut_the_file(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def widen_the_config(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"hidden_size": 64}))


def remove_the_tokenizer(folder: Path) -> None:
    for path in folder.glob("*token*"):
        path.unlink()


BIAS = "gpt_neox.layers.0.mlp.dense_4h_to_h.bias"
DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut": (cut_the_file, "model.safetensors is damaged ("),
    "lacking": (
        lambda folder: change_weights(folder, lambda weights: weights.pop(BIAS)),
        f"the weights {BIAS} are missing from its files). Check the path, or fetch the model first.",
    ),
    "resized": (widen_the_config, " more differ in shape from its config.json"),
    "with adapters": (
        lambda folder: (folder / "adapter_config.json").write_text("{}"),
        "has adapters (adapter_config.json), expected whole weights alone. Merge the adapters",
    ),
    "without a tokenizer": (remove_the_tokenizer, "has no tokenizer, expected a tokenizer.json or a vocabulary."),
    "few embeddings": (
        lambda folder: write_decoder(folder, 100),
        "model.tokenizer: has 258 tokens, expected at most 100",
    ),
}


def local(folder: Path) -> list[str]:
    return ["model=tiny_decoder", f"model.path={folder}", "model.config=null", "model.tokenizer=null"]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_model_is_one_line_before_anything_is_trained(tmp_path: Path, damage: str) -> None:
    write_decoder(tmp_path / "model")
    change, words = DAMAGES[damage]
    change(tmp_path / "model")
    run = small_run(tmp_path, *local(tmp_path / "model"), "arms=[synthetic]")
    with pytest.raises(UserError) as error:
        train(run)
    assert words in str(error.value) and "\n" not in str(error.value)
    assert not (run.paths.root / "models").exists()


def test_from_the_command_line(tmp_path: Path) -> None:
    write_decoder(tmp_path / "model")
    cut_the_file(tmp_path / "model")
    arguments = small_overrides(tmp_path, *local(tmp_path / "model"), "arms=[synthetic]")
    done = command("train.run", *arguments)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert done.stderr.startswith(f"error: model.path: {tmp_path / 'model' / 'model.safetensors'} is damaged")


def test_a_trained_cell_that_lost_weights_is_not_scored(tmp_path: Path) -> None:
    write_decoder(tmp_path)
    change_weights(tmp_path, lambda weights: weights.pop(BIAS))
    with pytest.raises(
        UserError, match=r"cannot be loaded \(the weights .* are missing from its files\). Remove it to train again"
    ):
        decoder.load_trained(tmp_path)


def test_an_encoder_may_lack_its_head_and_nothing_else(tmp_path: Path) -> None:
    torch.manual_seed(0)
    BertForMaskedLM(BertConfig(**SIZES, vocab_size=30522)).save_pretrained(tmp_path)
    encoder.load_tokenizer(settings().model).save_pretrained(tmp_path)
    model = Model("m", "encoder", str(tmp_path), None, 1e-3, "fp32")
    saved = load_file(tmp_path / "model.safetensors")
    loaded = encoder.load_pretrained(model, SPECS["cb"]).model.state_dict()
    assert {name for name in loaded if name not in saved} == {
        "bert.pooler.dense.weight", "bert.pooler.dense.bias", "classifier.weight", "classifier.bias"
    }  # fmt: skip
    change_weights(tmp_path, lambda weights: weights.pop("bert.encoder.layer.0.output.dense.weight"))
    with pytest.raises(UserError, match=r"bert\.encoder\.layer\.0\.output\.dense\.weight are missing from its files"):
        encoder.load_pretrained(model, SPECS["cb"])


def test_weights_that_are_no_numbers_are_told_at_the_first_step(tmp_path: Path) -> None:
    write_decoder(tmp_path / "model")
    change_weights(tmp_path / "model", lambda weights: weights[BIAS].fill_(float("nan")))
    with pytest.raises(
        UserError,
        match=r"nan at step 1, on the rows with idx \d.* \(train.precision=fp32\). Check the weights of the model\.$",
    ):
        train(small_run(tmp_path, *local(tmp_path / "model"), "arms=[synthetic]"))


# --- lengths ---


def test_a_task_whose_answers_do_not_fit_is_told_before_another_is_trained(tmp_path: Path) -> None:
    run = small_run(tmp_path, "model=tiny_decoder", "arms=[synthetic]", "train.max_length=22", tasks=("cb", "record"))
    before = files(tmp_path)
    with pytest.raises(
        UserError, match=r"leaves 14 tokens for an answer, but '.*' of record has \d+, and answers are never truncated"
    ):
        train(run)
    assert files(tmp_path) == before


def length(model: str, name: str, example: Example) -> int:
    """Tokens of an uncut example: of the pair, or bytes of the prompt with what stands behind it."""
    if model == "tiny_encoder":
        ((first, second),) = encoder_texts(SPECS[name], example)
        return len(encoder.load_tokenizer(settings().model)(first, second)["input_ids"])
    longest = {"cb": "neither", "rte": "yes"}[name]
    behind = f"\nAnswer: {longest}" if model == "tiny_decoder" else ""
    return len((prompt(SPECS[name], example) + behind).encode()) + 1  # the end


@pytest.mark.parametrize(("model", "limit"), [("tiny_encoder", 50), ("tiny_seq2seq", 330), ("tiny_decoder", 340)])
def test_every_family_says_once_a_cell_how_many_examples_are_cut(
    tmp_path: Path, caplog, model: str, limit: int
) -> None:
    caplog.set_level(logging.INFO)
    small = [f"model={model}", "arms=[synthetic]", "train.setting=multi"]
    train(small_run(tmp_path / "cut", *small, f"train.max_length={limit}", tasks=("cb", "rte")))
    (line,) = [record.getMessage() for record in caplog.records if " are truncated " in record.getMessage()]
    cb, rte = (sum(length(model, name, example) > limit for example in examples_of(name)) for name in ("cb", "rte"))
    assert 0 < cb + rte < 20
    assert line == (
        f"train: {model}-multi-cb_rte-synthetic-s0: {cb + rte} of 20 examples are truncated to train.max_length={limit} "
        f"(cb {cb}, rte {rte})"
    )
    caplog.clear()
    train(small_run(tmp_path / "whole", *small, "train.max_length=512", tasks=("cb", "rte")))
    assert " are truncated " not in caplog.text
