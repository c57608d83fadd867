"""An estimate of the peak memory of training on one device."""

from dataclasses import dataclass
from typing import Any

from torch import nn

from targen.config.groups.training import Train

MIB = 2**20
FP32, BF16 = 4, 2  # bytes of a value
FOUR_BITS = 0.516  # of a weight with its share of the doubly quantised constants. Source: arXiv 2305.14314, section 3


@dataclass(frozen=True)
class MicroBatchSize:
    """What goes through the model at once: sequences, tokens of each, and tokens of each answer."""

    sequences: int
    tokens: int
    answer_tokens: int = 0


@dataclass(frozen=True)
class Memory:
    """Bytes on one device."""

    weights: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        """Bytes of all parts together."""
        return self.weights + self.gradients + self.optimizer + self.activations


def peak(
    model: Any, micro_batch: MicroBatchSize, train: Train, *, processes: int, sharding: str, keeps_attention: bool
) -> Memory:
    """The peak memory of training with AdamW, without the libraries' own (a CUDA context: some hundred MiB).

    With P parameters of which T are trained, on N processes, in fp32:
    weights 4P, and 2P more for bf16's copies; gradients 4T, and 4T more for the buckets of several processes; AdamW's two
    moments 8T. Half of each if the weights themselves are bf16; frozen linear layers of QLoRA take about half a byte a
    weight. ZeRO-2 divides gradients and moments by N; ZeRO-3 and FSDP divide all three, and gather one block at a time.
    Source: Rajbhandari et al. 2020 (ZeRO, arXiv 1910.02054), section 3.

    Activations of a layer with hidden size h, inner size f, a heads, for b sequences of s tokens, in values that are
    kept for the backward pass: s b (8 h + 2 f) and, if the attention matrix is kept, 2 a b s^2; dropout masks take one
    byte for each of s b 2 h and a b s^2. A decoder layer also keeps keys and values of the encoder's tokens, 2 h a token.
    With gradient checkpointing each layer keeps its input, s b h, and one layer at a time all of the above.
    The logits are kept three times in fp32. Source: Korthikanti et al. 2022 (arXiv 2205.05198), section 4.1 (34 s b h
    + 5 a b s^2 bytes at 16 bits with f = 4 h), with f named.
    """
    weights = _weights(model, train)
    gradients = sum(weight.numel() * weight.element_size() for weight in model.parameters() if weight.requires_grad)
    optimizer = 2 * gradients
    if processes > 1 and sharding == "none":
        gradients *= 2
    if processes > 1 and sharding != "none":
        gradients, optimizer = gradients // processes, optimizer // processes
    if processes > 1 and sharding in ("fsdp", "zero3"):
        weights = weights // processes + 2 * weights // max(1, model.config.num_hidden_layers)
    value = FP32 if train.precision == "fp32" else BF16
    activations = _activations(model.config, micro_batch, value, keeps_attention, train.gradient_checkpointing)
    return Memory(weights, gradients, optimizer, activations)


def _weights(model: Any, train: Train) -> int:
    """Bytes of all weights, and of the copies that bf16 arithmetic makes of fp32 weights."""
    heads = {id(head.weight) for head in [model.get_output_embeddings()] if head is not None}
    quantised = {
        id(layer.weight)
        for layer in model.modules()
        if train.quantize and isinstance(layer, nn.Linear) and not layer.weight.requires_grad
    } - heads
    size = 0.0
    for weight in model.parameters():
        copy = BF16 if train.precision == "bf16" and weight.element_size() == FP32 else 0
        size += weight.numel() * (FOUR_BITS if id(weight) in quantised else weight.element_size() + copy)
    return int(size)


def _activations(
    config: Any, micro_batch: MicroBatchSize, value: int, keeps_attention: bool, checkpointing: bool
) -> int:
    def layers(count: int, tokens: int) -> int:
        layer = _layer(config, micro_batch.sequences, tokens, value, keeps_attention)
        return (
            count * config.hidden_size * micro_batch.sequences * tokens * value + layer
            if checkpointing
            else count * layer
        )

    kept = layers(config.num_hidden_layers, micro_batch.tokens)
    if getattr(config, "is_encoder_decoder", False):
        count = getattr(config, "num_decoder_layers", None) or config.num_hidden_layers
        kept += layers(count, micro_batch.answer_tokens)
        kept += count * 2 * config.hidden_size * micro_batch.sequences * micro_batch.tokens * value
    logits: int = 3 * FP32 * micro_batch.sequences * micro_batch.answer_tokens * config.vocab_size
    return kept + logits


def _layer(config: Any, sequences: int, tokens: int, value: int, keeps_attention: bool) -> int:
    hidden, heads = config.hidden_size, config.num_attention_heads
    inner = getattr(config, "intermediate_size", None) or getattr(config, "d_ff", None) or 4 * hidden
    size = sequences * tokens * (value * (8 * hidden + 2 * inner) + 2 * hidden)
    return int(size + keeps_attention * (2 * value + 1) * heads * sequences * tokens**2)
