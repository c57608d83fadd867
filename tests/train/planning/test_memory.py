"""The memory of training: what is planned against tensors that are counted, for many architectures."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch._subclasses import FakeTensorMode
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
)

from targen.config.groups.training import Train
from targen.config.settings import Settings
from targen.runtime.errors import UserError
from tests.support.commands import settings
from tests.support.small_data import tiny_overrides
from train.grid.cells import cells
from train.loop.saving import load_shapes
from train.models.loading import Loaded
from train.planning.fitting import Device, check_fits, memory_of, with_device_batch
from train.planning.memory import MicroBatchSize, disk_use, peak_memory

GIB = 2**30
FLAN_T5_LARGE = {
    "model_type": "t5", "d_model": 1024, "d_kv": 64, "d_ff": 2816, "num_layers": 24, "num_decoder_layers": 24, "num_heads": 16,
    "feed_forward_proj": "gated-gelu", "vocab_size": 32128, "tie_word_embeddings": False,
}  # fmt: skip
T5 = FLAN_T5_LARGE | {"d_model": 128, "d_kv": 16, "d_ff": 256, "num_layers": 6, "num_decoder_layers": 5, "num_heads": 8}
WIDTHS = {"hidden_size": 128, "num_hidden_layers": 6, "num_attention_heads": 4, "intermediate_size": 256}
SEQ2SEQ, DECODER, ENCODER = AutoModelForSeq2SeqLM, AutoModelForCausalLM, AutoModelForSequenceClassification
ARCHITECTURES: dict[str, tuple[Any, dict[str, Any]]] = {
    "t5, gated": (SEQ2SEQ, T5),
    "t5, tied": (SEQ2SEQ, T5 | {"feed_forward_proj": "relu", "tie_word_embeddings": True}),
    "llama": (DECODER, WIDTHS | {"model_type": "llama", "num_key_value_heads": 2}),
    "qwen2": (DECODER, WIDTHS | {"model_type": "qwen2", "num_key_value_heads": 2, "tie_word_embeddings": True}),
    "mistral": (DECODER, WIDTHS | {"model_type": "mistral", "num_key_value_heads": 4}),
    "gpt2": (DECODER, {"model_type": "gpt2", "n_embd": 128, "n_layer": 6, "n_head": 4}),
    "gpt_neox": (DECODER, WIDTHS | {"model_type": "gpt_neox"}),
    "bert": (ENCODER, WIDTHS | {"model_type": "bert"}),
    "roberta": (ENCODER, WIDTHS | {"model_type": "roberta"}),
    "deberta-v2": (
        ENCODER,
        WIDTHS | {"model_type": "deberta-v2", "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 32},
    ),
}  # fmt: skip
BATCH = MicroBatchSize(3, 40, 6)
# no GPU, but autograd knows no CUDA tensor without, not even a fake one, and a CPU's autocast has other lists of operations
needs_cuda_build = pytest.mark.skipif(not torch.backends.cuda.is_built(), reason="torch is built without CUDA")


def train_of(*overrides: str) -> Train:
    return settings("task=rte", *overrides).train


def inputs(auto: Any, size: MicroBatchSize, device: str) -> dict[str, Any]:
    """With padding, as batches have it."""
    ids = torch.ones(size.sequences, size.tokens, dtype=torch.long, device=device)
    batch: dict[str, Any] = {"input_ids": ids, "attention_mask": ids}
    if auto is SEQ2SEQ:
        batch["decoder_input_ids"] = ids[:, : size.answer_tokens]
    if auto is DECODER:
        batch["logits_to_keep"] = size.answer_tokens
    return batch


def counted(
    auto: Any, sizes: dict[str, Any], size: MicroBatchSize, device: str, autocast: bool, attention: str = "eager"
) -> int:
    """Bytes that autograd keeps of the forward pass and the softmax over the logits, beside weights: of tensors that
    FakeTensorMode makes, all layers of them."""
    storage_sizes: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage_sizes[tensor.untyped_storage()._cdata] = tensor.untyped_storage().nbytes()
        alive.append(tensor)
        return tensor

    alive: list[torch.Tensor] = []
    with FakeTensorMode(allow_non_fake_inputs=True), torch.device(device):
        model = auto.from_config(AutoConfig.for_model(**sizes), attn_implementation=attention).train()
        of_model = {weight.untyped_storage()._cdata for weight in (*model.parameters(), *model.buffers())}
        torch.set_autocast_enabled(device, autocast)
        torch.set_autocast_dtype(device, torch.bfloat16)
        try:
            with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                logits = model(**inputs(auto, size, device)).logits
                loss = logits.float().log_softmax(dim=-1).sum()
        finally:
            torch.clear_autocast_cache()
            torch.set_autocast_enabled(device, False)
        del loss
    return sum(size for key, size in storage_sizes.items() if key not in of_model) + 2 * 4 * logits.numel()


def planned(
    auto: Any, sizes: dict[str, Any], size: MicroBatchSize, on_gpu: bool, *overrides: str, attention: str = "eager"
) -> int:
    with torch.device("meta"):
        model = auto.from_config(AutoConfig.for_model(**sizes), attn_implementation=attention)
    of_size = size if auto is not ENCODER else MicroBatchSize(size.sequences, size.tokens)
    memory = peak_memory(model, of_size, train_of(*overrides), processes=1, sharding="none", on_gpu=on_gpu)
    return memory.activations + memory.weights - 4 * sum(weight.numel() for weight in model.parameters())


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_activations_are_those_that_are_counted(name: str) -> None:
    auto, sizes = ARCHITECTURES[name]
    assert planned(auto, sizes, BATCH, False) == pytest.approx(counted(auto, sizes, BATCH, "cpu", False), rel=0.01)


@needs_cuda_build
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_activations_in_bf16_are_those_that_are_counted(name: str) -> None:
    auto, sizes = ARCHITECTURES[name]
    planned_bytes = planned(auto, sizes, BATCH, True, "train.precision=bf16")
    assert planned_bytes == pytest.approx(counted(auto, sizes, BATCH, "cuda", True), rel=0.01)


def test_flan_t5_large_in_bf16() -> None:
    """17.00 GiB were counted with FakeTensorMode on CUDA (torch 2.11, transformers 5.17), 1.40 of them copies of weights."""
    planned_bytes = planned(SEQ2SEQ, FLAN_T5_LARGE, MicroBatchSize(8, 512, 8), True, "train.precision=bf16")
    assert planned_bytes / GIB == pytest.approx(17.0, rel=0.01)


def shapes_of(folder: Path, *overrides: str, model: str = "tiny_seq2seq") -> tuple[Settings, Loaded]:
    run = settings(*tiny_overrides(folder, *overrides, model=model))
    return run, load_shapes(run, cells(run)[0])


def large(*overrides: str) -> list[str]:
    sizes = [f"+model.config.{key}={value}" for key, value in FLAN_T5_LARGE.items() if key not in ("model_type", *SET)]
    sizes.append("train.device_batch_size=null")
    return [*sizes, *(f"model.config.{key}={FLAN_T5_LARGE[key]}" for key in SET), "train.precision=bf16", *overrides]


SET = ("d_model", "d_kv", "d_ff", "num_layers", "num_heads")  # of tiny_seq2seq's file
EXAMPLE = MicroBatchSize(1, 512, 8)


def test_weights_gradients_and_optimizer_by_hand(tmp_path: Path) -> None:
    run, shapes = shapes_of(tmp_path, model="tiny_encoder")
    count = sum(weight.numel() for weight in shapes.model.parameters())

    def parts(*overrides: str, processes: int = 1, sharding: str = "none") -> tuple[int, ...]:
        run, loaded = shapes_of(tmp_path, *overrides, model="tiny_encoder")
        memory = memory_of(run, loaded, MicroBatchSize(2, 10), Device(True, None, processes, sharding))
        return memory.weights, memory.gradients, memory.optimizer

    assert parts() == (4 * count, 4 * count, 8 * count)
    assert parts(processes=4) == (4 * count, 8 * count, 8 * count)
    assert parts(processes=4, sharding="zero2") == (4 * count, count, 2 * count)
    assert sum(parts(processes=4, sharding="fsdp")) < sum(parts())
    assert parts("train.precision=bf16_weights") == (2 * count, 2 * count, 4 * count)
    weights, *_ = parts("train.precision=bf16")
    assert 4 * count < weights < 6 * count  # tables of embeddings are not copied
    assert disk_use(shapes.model, run.train).most == (4 + 2 * 12) * count
    assert disk_use(shapes.model, run.train).kept == 4 * count


def test_gradient_checkpointing_keeps_less_and_gradients_take_the_place_of_activations(tmp_path: Path) -> None:
    run, shapes = shapes_of(tmp_path, *large("train.batch_size=8"))
    other_run, same = shapes_of(tmp_path, *large("train.gradient_checkpointing=true", "train.batch_size=8"))
    gpu, batch = Device(True, 80e9), MicroBatchSize(8, 512, 8)
    full, checkpointed = memory_of(run, shapes, batch, gpu), memory_of(other_run, same, batch, gpu)
    assert checkpointed.activations < full.activations / 10
    assert full.total == full.weights + full.optimizer + full.activations
    half = memory_of(run, shapes, MicroBatchSize(4, 512, 8), gpu)
    assert half.total == half.weights + half.optimizer + half.activations + half.gradients


def test_the_largest_even_part_of_a_batch_that_fits_is_found(tmp_path: Path) -> None:
    run, shapes = shapes_of(tmp_path, *large("train.batch_size=32"))

    def sequences(memory: float, processes: int = 1) -> int | None:
        return with_device_batch(run, shapes, EXAMPLE, Device(True, memory, processes)).train.device_batch_size

    assert sequences(80e9) == 32
    assert sequences(80e9, processes=8) == 4
    assert sequences(48e9) == 16
    assert sequences(24e9) == 4
    assert sequences(8e9) == 1  # does not fit either


def test_a_batch_that_cannot_fit_is_told(tmp_path: Path) -> None:
    run, shapes = shapes_of(tmp_path, *large("train.batch_size=32", "train.device_batch_size=32"))
    check_fits(run, shapes, EXAMPLE, Device(True, 80e9))
    with pytest.raises(
        UserError, match=r"got 32 with 512 tokens, which take about \d+\.\d GiB, .*Set train\.device_batch_size=4"
    ):
        check_fits(run, shapes, EXAMPLE, Device(True, 24e9))
    with pytest.raises(UserError, match=r"Set train\.launch=deepspeed_zero3 with more GPUs, or train\.lora=default"):
        check_fits(run, shapes, EXAMPLE, Device(True, 8e9))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", ["t5, gated", "llama", "bert", "deberta-v2"])
def test_activations_are_those_that_a_gpu_allocates(name: str) -> None:
    auto, sizes = ARCHITECTURES[name]
    size = MicroBatchSize(16, 256, 8)
    model = auto.from_config(AutoConfig.for_model(**sizes)).cuda().train()
    of_size = size if auto is not ENCODER else MicroBatchSize(size.sequences, size.tokens)
    with torch.device("meta"):
        shapes = auto.from_config(AutoConfig.for_model(**sizes))
    memory = peak_memory(shapes, of_size, train_of("train.precision=bf16"), processes=1, sharding="none", on_gpu=True)
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    with torch.autocast("cuda", torch.bfloat16):
        loss = model(**inputs(auto, size, "cuda")).logits.float().log_softmax(dim=-1).sum()
    allocated = torch.cuda.max_memory_allocated() - before
    del loss
    copies = memory.weights - before
    assert memory.activations + copies == pytest.approx(allocated, rel=0.15)
