"""Operations of a model, and the GPU-hours that they take."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import nn

from targen.config.groups.gpus import Gpu
from targen.config.settings import Settings
from targen.cost.gpu_hours import hours_line, unknown_line
from targen.runtime.jsonl import Json
from train.planning.fitting import planned_gpu

ASSUMED = 0.35  # share of the bf16 peak that training and scoring reach, until a run has measured its own
PER_PARAMETER = 6
AGAIN = 0.75  # of this share with gradient checkpointing: 6 of 8 operations count
TF32 = 0.5  # of the bf16 peak. Source: NVIDIA's data sheets of A100, H100 and H200


def matmul_parameters(model: Any) -> tuple[int, int]:
    """(parameters that take part in matrix products for every input token, those for every decoder token).

    A table of embeddings is looked up, not multiplied, unless it is also the head. The second number is 0 for models that
    are not encoder-decoders.
    """
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    head: Any = model.get_output_embeddings()
    looked_up = tables - {id(head.weight)} if head is not None else tables

    def count(part: nn.Module) -> int:
        return sum(_numel(weight) for weight in part.parameters() if id(weight) not in looked_up)

    if not getattr(model.config, "is_encoder_decoder", False):
        return count(model), 0
    encoder: Any = model.get_encoder()
    of_encoder = sum(_numel(weight) for weight in encoder.parameters() if id(weight) not in tables)
    return of_encoder, count(model) - of_encoder


def _numel(weight: Any) -> int:
    """The number of values, also of a weight that ZeRO-3 has divided."""
    return int(getattr(weight, "ds_numel", weight.numel()))


def operations(model: Any) -> tuple[float, float]:
    """Operations of a training step for each input token and for each decoder token, as `mfu` in train_log.jsonl counts them: 6
    a parameter, also of frozen ones, and none for what gradient checkpointing computes again.

    Source: Kaplan et al. 2020 (arXiv 2001.08361), section 2.1; the products of attention itself are left out.
    """
    of_input, of_answer = matmul_parameters(model)
    return PER_PARAMETER * of_input, PER_PARAMETER * of_answer


def gpu_hours(
    settings: Settings, phase: str, flops: float | None, what: str, *, at_most: bool = False, at_least: bool = False
) -> list[str]:
    """The line of a phase, with what it rests on; none unless price.gpu names a GPU. No operations: nothing is known."""
    gpu = planned_gpu(settings) if settings.price.gpu is not None else None
    if gpu is None:
        return []
    if flops is None:
        return [unknown_line(phase, what)]
    share, source = _share(settings, gpu)
    basis = f"{what}; {share:.0%} of {gpu.flops / 1e12:.0f} TFLOP/s, {source}"
    return [hours_line(phase, flops / (share * gpu.flops) / 3600, basis, at_most=at_most, at_least=at_least)]


def _share(settings: Settings, gpu: Gpu) -> tuple[float, str]:
    """(the share of the bf16 peak, where it comes from): of this run's finished steps on GPUs, else assumed."""
    measured = [
        entry["mfu"]
        for path in settings.paths.model("x").parent.glob("*/train_log.jsonl")
        for entry in _log_entries(path)
        if entry.get("mfu")
    ]
    if measured:
        return sum(measured) / len(measured), "as this run's train_log.jsonl has measured"
    share = ASSUMED * (AGAIN if settings.train.gradient_checkpointing else 1.0)
    if settings.train.precision == "fp32":
        return share * TF32, f"assumed, not measured, for TF32 on an {gpu.title}"
    return share, "assumed, not measured"


def _log_entries(path: Path) -> Iterator[Json]:
    """The entries of a log, whose last line a killed run may have left half written."""
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            return
