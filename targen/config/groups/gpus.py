"""GPUs by the names that price.gpu takes: their speed and memory, for plans and for the utilisation in logs."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Gpu:
    """`title` is made of words of the name that the GPU reports. Dense bf16 operations a second; bytes of memory."""

    title: str
    flops: float
    memory: float


# Without sparsity. Source: the makers' data sheets.
GPUS = {
    "a100": Gpu("A100", 312e12, 80e9),
    "h100": Gpu("H100", 989e12, 80e9),
    "h200": Gpu("H200", 989e12, 141e9),
    "b200": Gpu("B200", 2250e12, 180e9),
    "l4": Gpu("L4", 121e12, 24e9),
    "l40s": Gpu("L40S", 362e12, 48e9),
    "a10g": Gpu("A10G", 70e12, 24e9),
    "rtx4090": Gpu("RTX 4090", 165e12, 24e9),
}


def gpu_reported_as(name: str) -> Gpu | None:
    """The GPU by the name that it reports, "NVIDIA H100 80GB HBM3"; None if it is not known here."""
    words = name.replace("-", " ").split()
    return next((gpu for gpu in GPUS.values() if all(word in words for word in gpu.title.split())), None)
