"""The peak memory of training on one device, and the disk that it takes: counted, not estimated by a formula."""

from dataclasses import dataclass
from typing import Any

from torch import nn

from targen.config.groups.training import Train
from train.models.transformer_blocks import blocks
from train.planning.kept_tensors import KeptBytes, kept_tensors

MIB = 2**20
FP32, BF16 = 4, 2  # bytes of a value
FOUR_BITS = 0.516  # of a weight with its share of the doubly quantised constants. Source: arXiv 2305.14314, section 3


@dataclass(frozen=True)
class MicroBatchSize:
    """What goes through the model at once: sequences, tokens of each, tokens of each answer, and sequences of an example."""

    sequences: int
    tokens: int
    answer_tokens: int = 0
    per_example: int = 1


@dataclass(frozen=True)
class Memory:
    """Bytes on one device. `accumulates`: a batch has several micro-batches, so that gradients lie beside all activations.
    `of_block` and `of_root`: gradients of FSDP's units, which are whole until they are divided, those of blocks beside
    activations, those of all the rest at the end."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    accumulates: bool = False
    of_block: int = 0
    of_root: int = 0

    @property
    def whole_gradients(self) -> int:
        """Bytes of gradients that are not divided yet, at most."""
        return max(self.of_block, self.of_root)

    @property
    def total(self) -> int:
        """Bytes at the peak: without accumulation, activations are freed as gradients are made."""
        at_first = self.activations + self.of_block
        if self.accumulates:
            moving = self.gradients + max(at_first, self.of_root)
        else:
            moving = max(at_first, self.gradients + self.whole_gradients)
        return self.weights + self.optimizer + moving


@dataclass(frozen=True)
class Disk:
    """Bytes of one cell: what stays, and the most while it is trained."""

    kept: int
    most: int


def peak_memory(
    model: Any, micro_batch: MicroBatchSize, train: Train, *, processes: int, sharding: str, on_gpu: bool
) -> Memory:
    """The peak memory of training with AdamW, without the libraries' own (a CUDA context: some hundred MiB).

    With P parameters of which T are trained, on N processes, in fp32: weights 4P, gradients 4T, and 4T more for the buckets of
    several processes; AdamW's two moments 8T. Half of each if the weights themselves are bf16; frozen linear layers of QLoRA
    take about half a byte a weight. ZeRO-2 divides gradients and moments by N; ZeRO-3 and FSDP divide all three. ZeRO-3
    gathers one block at a time; for FSDP see _gathered. Source: Rajbhandari et al. 2020 (ZeRO, arXiv 1910.02054), section 3.

    Weights also have the copies that bf16 arithmetic makes of fp32 weights. Activations are the tensors that autograd keeps
    (train/planning/kept_tensors.py), and the logits with their gradient; with gradient checkpointing those between the blocks, and
    all of one block. `model` is on the meta device.

    Raises: RuntimeError and others if the model's code cannot run on shapes alone.
    """
    divided = processes > 1 and sharding != "none"
    by_fsdp = divided and sharding == "fsdp"
    gradients = sum(_size(weight, by_fsdp) for weight in model.parameters() if weight.requires_grad)
    optimizer = 2 * gradients
    kept, whole_block = _count_kept(model, micro_batch, train, on_gpu)
    copies = 0 if train.quantize else kept.weight_copies
    weights, activations = _weights(model, train, by_fsdp), kept.activations + whole_block + 2 * kept.logits
    if processes > 1 and sharding == "none":
        gradients *= 2
    if divided:
        gradients, optimizer = gradients // processes, optimizer // processes
    if divided and sharding == "zero3":
        blocks = max(1, model.config.num_hidden_layers)
        weights, copies = weights // processes + 2 * weights // blocks, 2 * copies // blocks
    accumulates = micro_batch.sequences // micro_batch.per_example * processes < train.batch_size
    if not by_fsdp:
        return Memory(weights + copies, gradients, optimizer, activations, accumulates)
    gathered, of_block, of_root = _gathered(model, train)
    return Memory(weights // processes + gathered, gradients, optimizer, activations, accumulates, of_block, of_root)


def _gathered(model: Any, train: Train) -> tuple[int, int, int]:
    """(weights, gradients of a block, gradients of the root) that FSDP holds whole on each device.

    Its units are the blocks, and the root: embeddings, head and all else, which stays gathered from the start of a forward pass to
    the end of the backward pass. Beside it lie a block and the one that is gathered next. Gradients are made in the type of the
    arithmetic, and copied in fp32 into the buffer of the sum over the processes. The root's are summed last, but the head's are
    made first. A table that is used twice, as the head or by encoder and decoder, gets a gradient that is added to its first.
    """
    value = FP32 if train.precision == "fp32" else BF16
    units = [set(block.parameters()) for block in blocks(model)]
    root = set(model.parameters()).difference(*units)
    head = model.get_output_embeddings()
    table = model.get_input_embeddings().weight
    heads = set() if head is None else {head.weight} & root
    used_twice = {table} & root if model.config.is_encoder_decoder else {table} & heads

    def values(weights: set[nn.Parameter], trained: bool = False) -> int:
        return sum(weight.numel() for weight in weights if weight.requires_grad or not trained)

    largest = max(map(values, units), default=0)
    trained = max((values(unit, True) for unit in units), default=0)
    weights = value * (values(root) + 2 * largest)
    of_block = value * values(heads, True) + (value + FP32) * trained
    of_root = max(FP32 * values(root, True), value * (values(root, True) + values(used_twice, True)))
    return weights, of_block, of_root


def disk_use(model: Any, train: Train) -> Disk:
    """What a cell writes: its weights, of adapters those alone, and two checkpoints with the optimizer's moments while the
    newer one is written; with train.select=best the best one as well."""
    trained = sum(weight.numel() * weight.element_size() for weight in model.parameters() if weight.requires_grad)
    saved = _weights(model, train) if train.lora is None else trained
    merged = _weights(model, train) if train.lora is not None and train.merge_export else 0
    checkpoints = (3 if train.select == "best" else 2) * (saved + 2 * trained)
    return Disk(saved + merged, saved + max(merged, checkpoints))


def _size(weight: Any, by_fsdp: bool) -> int:
    """Bytes of a weight that is not quantised; accelerate gives FSDP those that are trained in fp32."""
    return int(weight.numel() * (FP32 if by_fsdp and weight.requires_grad else weight.element_size()))


def _weights(model: Any, train: Train, by_fsdp: bool = False) -> int:
    """Bytes of all weights."""
    heads = {id(head.weight) for head in [model.get_output_embeddings()] if head is not None}
    quantised = {
        id(layer.weight)
        for layer in model.modules()
        if train.quantize and isinstance(layer, nn.Linear) and not layer.weight.requires_grad
    } - heads
    return int(
        sum(
            weight.numel() * FOUR_BITS if id(weight) in quantised else _size(weight, by_fsdp)
            for weight in model.parameters()
        )
    )


def _count_kept(model: Any, micro_batch: MicroBatchSize, train: Train, on_gpu: bool) -> tuple[KeptBytes, int]:
    """(what is kept of a micro-batch, what recomputing one block adds)."""
    import torch
    from transformers.modeling_layers import GradientCheckpointingLayer

    with torch.device("meta"):
        inputs: dict[str, Any] = {
            name: torch.ones(micro_batch.sequences, micro_batch.tokens, dtype=torch.long)
            for name in ("input_ids", "attention_mask")
        }
        if getattr(model.config, "is_encoder_decoder", False):
            answers = torch.ones(micro_batch.sequences, max(1, micro_batch.answer_tokens), dtype=torch.long)
            inputs["decoder_input_ids"] = answers
        elif micro_batch.answer_tokens:
            inputs["logits_to_keep"] = micro_batch.answer_tokens
    autocast = train.precision != "fp32"
    full = kept_tensors(model, inputs, autocast=autocast, on_gpu=on_gpu)
    blocks = sum(isinstance(module, GradientCheckpointingLayer) for module in model.modules())
    if not train.gradient_checkpointing or not blocks:
        return full, 0
    model.gradient_checkpointing_enable({"use_reentrant": False, "preserve_rng_state": False})
    try:
        checkpointed = kept_tensors(model, inputs, autocast=autocast, on_gpu=on_gpu)
    finally:
        model.gradient_checkpointing_disable()
    return KeptBytes(checkpointed.activations, full.weight_copies, full.logits), full.activations // blocks
