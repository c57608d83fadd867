"""The machine of the checks: which GPU, which versions, how fast a matrix product and a copy are."""

import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from gpu import versions

Json = dict[str, Any]
ROUNDS = 10


def machine(cpu: bool, scratch: Path) -> Iterator[Json]:
    """The ceilings that the other checks are read against."""
    result: Json = {"host": platform.machine(), "system": platform.release(), "versions": versions()}
    if cpu:
        result |= {"device": "CPU", "torch_cuda": torch.version.cuda}
    else:
        properties: Any = torch.cuda.get_device_properties(0)
        result |= {"device": properties.name, "gib": round(properties.total_memory / 2**30, 1)}
        result |= {"torch_cuda": torch.version.cuda, "capability": list(torch.cuda.get_device_capability())}
    yield result
    side, device = (256, "cpu") if cpu else (8192, "cuda")
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    result["bf16_tflops"] = round(2 * side**3 / _seconds(lambda: a @ b, cpu) / 1e12, 3)
    wide = torch.empty((1 if cpu else 4096) * 2**20, dtype=torch.uint8, device=device)
    copy = torch.empty_like(wide)
    result["copy_gb_per_s"] = round(2 * wide.numel() / _seconds(lambda: copy.copy_(wide), cpu) / 1e9, 1)
    yield result


def _seconds(work: Callable[[], Any], cpu: bool) -> float:
    """The mean of some rounds after three that warm up."""
    begun = 0.0
    for number in range(3 + ROUNDS):
        if number == 3:
            if not cpu:
                torch.cuda.synchronize()
            begun = time.monotonic()
        work()
    if not cpu:
        torch.cuda.synchronize()
    return (time.monotonic() - begun) / ROUNDS
