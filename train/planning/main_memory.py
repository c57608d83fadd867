"""The main memory of a node that trains, and what a job of the cluster asks for."""

from collections.abc import Iterable

from targen.config.groups.cluster import Cluster, memory_bytes
from targen.config.settings import Settings
from train.planning.cell_plan import GIB, Size
from train.planning.fitting import Device
from train.planning.memory import BF16, FP32


def reads_once(settings: Settings) -> bool:
    """Whether one process reads pretrained weights for all, where they are sharded: encoders are small, and the head of a new task
    is cut out of whole weights."""
    return settings.model.path is not None and not settings.model.has_head and not settings.train.quantize


def main_memory(settings: Settings, size: Size, device: Device, libraries: int) -> int:
    """Bytes of a node, at least, with those of the libraries of each process; without what CUDA takes.

    On a CPU training itself takes it. With a GPU each process reads all weights before they are on the device, and the first
    gathers them to save them; with FSDP it holds them once more meanwhile. ZeRO-3 divides them while they are read.
    """
    on_node = max(1, device.processes // settings.cluster.train.nodes) if settings.train.launch is not None else 1
    if not device.on_gpu:
        return on_node * (libraries + (size.memory.total if size.memory is not None else 0))
    if settings.train.quantize:
        return on_node * libraries  # its layers are quantised on the device, one by one
    weights = size.parameters * (BF16 if settings.train.precision == "bf16_weights" else FP32)
    if reads_once(settings) and device.sharding in ("fsdp", "zero3") and device.processes > 1:
        return on_node * libraries + size.parameters * FP32 * (2 if device.sharding == "fsdp" else 1)
    return on_node * (libraries + weights)


def lines(settings: Settings, sizes: Iterable[Size], device: Device, libraries: int) -> list[str]:
    """What a node needs for the largest cell, and whether a job of the cluster asks for less, if it has as many processes."""
    needed = max((main_memory(settings, size, device, libraries) for size in sizes), default=0)
    if not needed:
        return []
    resources, text = settings.cluster.of("train"), f"main memory of a node: at least {needed / GIB:,.1f} GiB"
    of_job = resources.nodes * (resources.processes or max(resources.gpus, 1))
    if device.processes != of_job or resources.memory is None or memory_bytes(resources.memory) >= needed:
        return [text]
    enough = -(-needed * 5 // (4 * GIB))  # a quarter more, for files and batches
    return [f"{text}; DOES NOT FIT into {_memory_of_job(settings.cluster)}. Set cluster.train.memory={enough}G."]


def _memory_of_job(cluster: Cluster) -> str:
    """The memory that a job of the training gets, by the setting that gives it."""
    memory, gpus = cluster.of("train").memory, cluster.train.gpus
    if cluster.train.memory is not None:
        return f"cluster.train.memory={memory} of a job"
    if cluster.node is not None and gpus:
        return f"the {memory} of cluster.node.memory={cluster.node.memory} that a job gets"
    assert cluster.per_gpu is not None  # what else gives memory
    return f"cluster.per_gpu.memory={cluster.per_gpu.memory} of a job{f' with {gpus} GPUs' if gpus > 1 else ''}"
