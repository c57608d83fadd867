"""How fast training goes and what it takes: tokens a second, memory, the share of a GPU's arithmetic that is used."""

import resource
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

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
    """The bf16 peak of a GPU by the name it gives itself; None where it is not known here."""
    words = device_name.replace("-", " ").split()
    return next((peak for name, peak in PEAK_FLOPS.items() if all(word in words for word in name.split())), None)


def matmul_parameters(model: Any) -> tuple[int, int]:
    """(parameters that every input token meets in matrix products, those that every decoder token meets).

    A table of embeddings is looked up, not multiplied, unless it is also the head. For models without an encoder of
    their own the second number is 0.
    """
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    head: Any = model.get_output_embeddings()
    looked_up = tables - {id(head.weight)} if head is not None else tables

    def count(part: nn.Module) -> int:
        return sum(weight.numel() for weight in part.parameters() if id(weight) not in looked_up)

    if not getattr(model.config, "is_encoder_decoder", False):
        return count(model), 0
    encoder: Any = model.get_encoder()
    of_encoder = sum(weight.numel() for weight in encoder.parameters() if id(weight) not in tables)
    return of_encoder, count(model) - of_encoder


def peak_rss() -> float:
    """MiB of main memory that this process had at its peak.

    Linux has it in VmHWM; getrusage gives the peak of the process that started this one where that was larger.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024
    except (OSError, IndexError, ValueError):
        unit = MIB if sys.platform == "darwin" else 1024  # bytes on a Mac, kilobytes elsewhere
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


class Throughput:
    """Counts between two lines of the log. Operations are 6 a parameter and token, forward and backward.

    Source: Kaplan et al. 2020 (arXiv 2001.08361), section 2.1; attention's own products are left out. Frozen
    parameters (LoRA) are counted as if they were trained.
    """

    def __init__(self, model: Any, processes: Processes, bf16: bool) -> None:
        self._parameters, self._processes = matmul_parameters(model), processes
        on_gpu = torch.cuda.is_available()
        self._peak = peak_flops(torch.cuda.get_device_name()) if on_gpu and bf16 else None
        self.start()

    def start(self) -> None:
        """Counts from now on."""
        self._since, self._tokens, self._padded, self._flops = time.monotonic(), 0, 0, 0

    def add(self, batch: dict[str, Tensor]) -> None:
        """Counts a part of a batch, before it is moved to the device."""
        real = int(batch["attention_mask"].sum())
        decoder = batch.get("decoder_input_ids")
        # the labels' places are the decoder's tokens, padding is -100
        answers, padded = (int((batch["labels"] != -100).sum()), decoder.numel()) if decoder is not None else (0, 0)
        self._tokens += real + answers
        self._padded += batch["attention_mask"].numel() + padded
        self._flops += 6 * (self._parameters[0] * real + self._parameters[1] * answers)

    def take(self) -> dict[str, float | None]:
        """The figures since the last call, of all processes together; memory is the largest of any."""
        seconds = max(time.monotonic() - self._since, 1e-9)
        cuda = torch.cuda.max_memory_allocated() / MIB if torch.cuda.is_available() else 0.0
        rss = peak_rss()
        every = self._processes.gathered([(self._tokens, self._padded, self._flops, rss, cuda)])
        tokens, padded, flops = (sum(one[place] for one in every) for place in range(3))
        self.start()
        return {
            "tokens_per_second": round(tokens / seconds, 1),
            "padded_tokens_per_second": round(padded / seconds, 1),
            "peak_rss_mib": round(max(one[3] for one in every), 1),
            "peak_cuda_mib": round(max(one[4] for one in every), 1) if cuda else None,
            "mfu": round(flops / seconds / self._peak / self._processes.count, 4) if self._peak else None,
        }
