"""Weights that are sharded over processes are trained, validated, saved and resumed as those of one process."""

import importlib.util
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from targen.config.settings import Settings
from tests.support.commands import lines, settings
from tests.support.sharded_training import Sharded, train_sharded
from tests.support.small_data import model_of, small_overrides, tiny_overrides
from train.grid.cells import cells
from train.loop.saving import load_shapes
from train.models.transformer_blocks import block_names
from train.run import train

# (model, what else)
MODELS = {
    "T5": ("tiny_seq2seq", ()),
    "BERT": ("tiny_encoder", ()),
    "RoBERTa": ("tiny_encoder", ("model.config.model_type=roberta",)),
    "DeBERTa": ("tiny_encoder", ("model.config.model_type=deberta-v2",)),
    "Llama": ("tiny_decoder", ("model.config.model_type=llama",)),
    "tied Qwen": (
        "tiny_decoder",
        (
            "model.config.model_type=qwen2",
            "+model.config.tie_word_embeddings=true",
            "+model.config.num_key_value_heads=4",
        ),
    ),
    "GPT-2": ("tiny_decoder", ("model.config.model_type=gpt2", "+model.config.resid_pdrop=0.0",
                              "+model.config.embd_pdrop=0.0", "+model.config.attn_pdrop=0.0")),
    "Llama with adapters": ("tiny_decoder", ("model.config.model_type=llama", "train.lora.r=4", "train.lora.dropout=0")),
    "T5 with adapters": ("tiny_seq2seq", ("train.lora.r=4", "train.lora.dropout=0")),
}  # fmt: skip
BLOCKS = (
    "T5Block",
    "BertLayer",
    "RobertaLayer",
    "DebertaV2Layer",
    "LlamaDecoderLayer",
    "Qwen2DecoderLayer",
    "GPT2Block",
)
BEST = (
    "train.epochs=4",
    "train.validate_every=2",
    "train.hold_out=0.3",
    "train.select=best",
    "train.learning_rate=0.02",
)
has_deepspeed = pytest.mark.skipif(importlib.util.find_spec("deepspeed") is None, reason="deepspeed is not installed")


def run_of(folder: Path, which: str, *more: str, dropout: bool = False) -> list[str]:
    model, extra = MODELS[which]
    return tiny_overrides(folder, *extra, *more, model=model, dropout=dropout)


def weights_of(run: Settings) -> dict[str, torch.Tensor]:
    weights = {}
    for path in model_of(run).glob("*.safetensors"):
        weights |= load_file(path)
    return weights


def assert_as_one_process(run: Settings, single: Settings) -> None:
    """Tolerance: gradients are summed in another order."""
    for key, tolerance in (("loss", 1e-4), ("grad_norm", 1e-3), ("eval_accuracy", 0), ("eval_loss", 1e-3)):
        logs = [
            [entry[key] for entry in lines(model_of(trained) / "train_log.jsonl") if key in entry]
            for trained in (run, single)
        ]
        assert logs[0] == pytest.approx(logs[1], rel=tolerance), key
    weights, expected = weights_of(run), weights_of(single)
    assert weights.keys() == expected.keys()
    for name, weight in expected.items():
        assert weights[name].dtype == weight.dtype
        assert torch.allclose(weights[name], weight, atol=2e-4), name


@pytest.mark.parametrize(("which", "block"), [*zip(MODELS, BLOCKS, strict=False), ("T5 with adapters", "T5Block")])
def test_the_units_of_fsdp_are_the_blocks(which: str, block: str, tmp_path: Path) -> None:
    run = settings(*run_of(tmp_path, which))
    assert block_names(load_shapes(run, cells(run)[0]).model) == [block]


@pytest.mark.slow
def test_fsdp_trains_every_kind_of_model_as_one_process_does(tmp_path: Path) -> None:
    trainings = {which: run_of(tmp_path / "two" / which, which) for which in MODELS}
    train_sharded(tmp_path, "fsdp", {which: Sharded(overrides) for which, overrides in trainings.items()})
    for which in MODELS:
        single = settings(*run_of(tmp_path / "one" / which, which))
        train(single)
        assert_as_one_process(settings(*trainings[which]), single)


@pytest.mark.slow
def test_fsdp_divides_the_gradients_of_each_micro_batch(tmp_path: Path) -> None:
    """Whole ones would take as much memory as in a single process. ZeRO does without being told."""
    sharded, single = (run_of(tmp_path / name, "T5", "train.device_batch_size=1") for name in ("two", "one"))
    reports = train_sharded(tmp_path, "fsdp", {"micro-batches": Sharded(sharded)})
    assert reports["micro-batches"]["divided"] == [True] * 2  # the third step has one micro-batch
    train(settings(*single))
    assert_as_one_process(settings(*sharded), settings(*single))


SHARDINGS = [
    "fsdp",
    pytest.param("deepspeed_zero2", marks=has_deepspeed),
    pytest.param("deepspeed_zero3", marks=has_deepspeed),
]


@pytest.mark.slow
@pytest.mark.parametrize("launch", SHARDINGS)
def test_sharded_weights_are_validated_and_the_best_are_kept(launch: str, tmp_path: Path) -> None:
    sharded, single = (run_of(tmp_path / name, "T5", *BEST) for name in ("two", "one"))
    train_sharded(tmp_path, launch, {"best": Sharded(sharded)})
    train(settings(*single))
    log = [entry for entry in lines(model_of(settings(*single)) / "train_log.jsonl") if "eval_loss" in entry]
    best = max(log, key=lambda entry: (entry["eval_accuracy"], -entry["eval_loss"]))
    assert best != log[-1]  # so that weights are loaded at the end
    assert_as_one_process(settings(*sharded), settings(*single))


@pytest.mark.slow
@pytest.mark.parametrize("launch", SHARDINGS)
def test_sharded_training_goes_on_where_it_was_stopped_from_one_copy_of_the_weights(
    launch: str, tmp_path: Path
) -> None:
    interrupted, full = (run_of(tmp_path / name, "T5", "train.epochs=2", dropout=True) for name in ("two", "one"))
    reports = train_sharded(tmp_path, launch, {"stopped": Sharded(interrupted, stop=2), "whole": Sharded(full)})
    saved = [Path(name).name for name in reports["stopped"]["files"] if name.startswith("checkpoint-2/")]
    assert saved and "model.safetensors" not in saved
    if launch == "fsdp":
        assert {"pytorch_model_fsdp.bin", "optimizer.bin"} < {*saved}
    stopped, unstopped = (weights_of(settings(*overrides)) for overrides in (interrupted, full))
    assert all(torch.equal(stopped[name], unstopped[name]) for name in unstopped)


@pytest.mark.slow
@pytest.mark.parametrize("launch", SHARDINGS)
def test_pretrained_weights_are_read_once_and_trained_in_fp32(launch: str, tmp_path: Path) -> None:
    kinds = {"T5": ("flan_t5_base", ())}
    if launch == "fsdp":
        kinds |= {"tied Qwen": ("gpt2_large", ()), "Llama": ("gpt2_large", ("train.lora.r=4", "train.lora.dropout=0"))}
    trainings: dict[str, list[str]] = {}
    for which, (model, more) in kinds.items():
        pretrained = settings(*run_of(tmp_path / which / "pretrained", which))
        train(pretrained)
        shape = (
            f"model={model}",
            f"model.path={model_of(pretrained)}",
            "train.learning_rate=3e-3",
            "train.batch_size=4",
        )
        for name, precision in (("one", "fp32"), ("two", "fp32"), ("bf16", "bf16")):
            usual = ("arms=[synthetic]", f"train.precision={precision}", *more)
            trainings[f"{which} {name}"] = small_overrides(tmp_path / which / name, *shape, *usual, tasks=("rte",))
    sharded = {name: Sharded(overrides) for name, overrides in trainings.items() if not name.endswith("one")}
    reports = train_sharded(tmp_path, launch, sharded)
    for which in kinds:
        single, parallel, bf16 = (settings(*trainings[f"{which} {name}"]) for name in ("one", "two", "bf16"))
        first, second = reports[f"{which} two"]["read"]
        assert (first == second) == (launch != "fsdp")  # the second has memory that was never written
        assert (first == 0) == (launch == "deepspeed_zero3")  # all are divided already
        train(single)
        assert_as_one_process(parallel, single)
        weights = weights_of(bf16)
        assert all(weight.dtype == torch.float32 for weight in weights.values())
        assert any((weight != weight.bfloat16()).any() for weight in weights.values())  # not rounded for the arithmetic
