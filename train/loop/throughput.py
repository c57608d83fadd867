"""Throughput and memory of training: tokens a second, peak memory, model FLOPs utilisation."""

import resource
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from targen.config.groups.gpus import gpu_reported_as
from train.families.base import IGNORED
from train.planning.gpu_hours import PER_PARAMETER, matmul_parameters
from train.runtime.processes import Processes

MIB = 2**20


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
        gpu = gpu_reported_as(torch.cuda.get_device_name()) if on_gpu and bf16 else None
        self._peak = gpu.flops if gpu else None
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
        self._flops += PER_PARAMETER * (self._parameters[0] * real + self._parameters[1] * answers)

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
