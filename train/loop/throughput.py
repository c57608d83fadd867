"""Throughput and memory of training: tokens a second, peak memory, model FLOPs utilisation."""

import resource
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from train.families.base import IGNORED
from train.runtime.processes import Processes

MIB = 2**20
# Dense bf16 operations a second, without sparsity. Source: the makers' data sheets.
PEAK_FLOPS = {
    "A100": 312e12,
    "H100": 989e12,
    "H200": 989e12,
    "B200": 2250e12,
    "L4": 121e12,
    "L40S": 362e12,
    "A10G": 70e12,
    "RTX 4090": 165e12,
}


def peak_flops(device_name: str) -> float | None:
    """The bf16 peak (operations a second) of a GPU by the name it reports; None if it is not known here."""
    words = device_name.replace("-", " ").split()
    return next((peak for name, peak in PEAK_FLOPS.items() if all(word in words for word in name.split())), None)


def matmul_parameters(model: Any) -> tuple[int, int]:
    """(parameters that take part in matrix products for every input token, those for every decoder token).

    A table of embeddings is looked up, not multiplied, unless it is also the head. The second number is 0 for models that
    are not encoder-decoders.
    """
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    head: Any = model.get_output_embeddings()
    looked_up = tables - {id(head.weight)} if head is not None else tables

    def count(part: nn.Module) -> int:
        return sum(_count(weight) for weight in part.parameters() if id(weight) not in looked_up)

    if not getattr(model.config, "is_encoder_decoder", False):
        return count(model), 0
    encoder: Any = model.get_encoder()
    of_encoder = sum(_count(weight) for weight in encoder.parameters() if id(weight) not in tables)
    return of_encoder, count(model) - of_encoder


def _count(weight: Tensor) -> int:
    """Its values, also of a weight that ZeRO-3 has divided."""
    return int(getattr(weight, "ds_numel", weight.numel()))


def peak_rss() -> float:
    """Peak main memory of this process in MiB.

    Linux reports it as VmHWM; getrusage would report the peak of the parent process if that was larger.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024
    except (OSError, IndexError, ValueError):
        unit = MIB if sys.platform == "darwin" else 1024  # bytes on a Mac, kilobytes elsewhere
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


class Throughput:
    """Counters between two lines of the log. Operations are 6 for each parameter and token, forward and backward together.

    Source: Kaplan et al. 2020 (arXiv 2001.08361), section 2.1; the products of attention itself are left out.
    Frozen parameters (LoRA) are counted as if they were trained.
    """

    def __init__(self, model: Any, processes: Processes, bf16: bool) -> None:
        self._parameters, self._processes = matmul_parameters(model), processes
        on_gpu = torch.cuda.is_available()
        self._peak = peak_flops(torch.cuda.get_device_name()) if on_gpu and bf16 else None
        self.start()

    def start(self) -> None:
        """Resets the counters."""
        self._since, self._tokens, self._padded, self._flops = time.monotonic(), 0, 0, 0

    def add(self, batch: dict[str, Tensor]) -> None:
        """Counts a micro-batch, before it is moved to the device."""
        real = int(batch["attention_mask"].sum())
        decoder = batch.get("decoder_input_ids")
        # labels and decoder tokens have the same shape; padded labels are IGNORED
        answers, padded = (int((batch["labels"] != IGNORED).sum()), decoder.numel()) if decoder is not None else (0, 0)
        self._tokens += real + answers
        self._padded += batch["attention_mask"].numel() + padded
        self._flops += 6 * (self._parameters[0] * real + self._parameters[1] * answers)

    def take(self) -> dict[str, float | None]:
        """The figures since the last call, over all processes; memory is that of the process with most."""
        seconds = max(time.monotonic() - self._since, 1e-9)
        cuda = torch.cuda.max_memory_allocated() / MIB if torch.cuda.is_available() else 0.0
        rss = peak_rss()
        counters = self._processes.gather([(self._tokens, self._padded, self._flops, rss, cuda)])
        tokens, padded, flops = (sum(process[column] for process in counters) for column in range(3))
        self.start()
        return {
            "tokens_per_second": round(tokens / seconds, 1),
            "padded_tokens_per_second": round(padded / seconds, 1),
            "peak_rss_mib": round(max(process[3] for process in counters), 1),
            "peak_cuda_mib": round(max(process[4] for process in counters), 1) if cuda else None,
            "mfu": round(flops / seconds / self._peak / self._processes.count, 4) if self._peak else None,
        }
