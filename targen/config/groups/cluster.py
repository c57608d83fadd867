"""The settings of a SLURM cluster: what the jobs of each phase ask for."""

import re
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field
from pydantic.dataclasses import dataclass as checked_dataclass

from targen.config.groups.bounds import STRICT, Count, CountOrZero

Word = Annotated[str, Field(pattern=r"^[^\s\"'`$\\;&|<>#]+$")]  # goes into an #SBATCH line
Line = Annotated[str, Field(pattern=r"^[^\n\r]+$")]
Time = Annotated[
    str,
    Field(pattern=r"^(\d+-)?\d+(:\d{1,2}){0,2}$"),
    BeforeValidator(lambda value: str(value) if type(value) is int else value),
]
Memory = Annotated[str, Field(pattern=r"^\d+([KMGTkmgt][Bb]?)?$")]
JobName = Literal["contexts", "generate", "merge", "train", "evaluate", "report"]
JOBS: tuple[JobName, ...] = ("contexts", "generate", "merge", "train", "evaluate", "report")
OWN_RESOURCES = JOBS[1:]  # the contexts are made with those of a shard
PACKED: tuple[JobName, ...] = ("generate", "train", "evaluate")  # jobs whose array tasks may fill a node


@checked_dataclass(frozen=True, config=STRICT)
class Node:
    """What a node with GPUs has."""

    gpus: Count
    """GPUs of a node."""
    cpus: Count
    """CPUs of a node."""
    memory: Memory
    """Memory of a node that jobs may ask for."""


@checked_dataclass(frozen=True, config=STRICT)
class PerGpu:
    """What goes with a GPU."""

    cpus: Count
    """CPUs for each GPU of a job."""
    memory: Memory
    """Memory for each GPU of a job."""


@checked_dataclass(frozen=True, config=STRICT)
class Resources:
    """What the merge, the report, each shard and each cell ask for."""

    time: Time
    """Time limit as sbatch --time takes it: minutes, h:m:s, d-h, ..."""
    cpus: Count | None
    """CPUs per node; null: the share of cluster.node that goes with its GPUs, or cluster.per_gpu for each."""
    memory: Memory | None
    """Memory per node as sbatch --mem takes it; null: the share of cluster.node, or cluster.per_gpu for each GPU; without either
    the cluster's default."""
    gpus: CountOrZero
    """GPUs per node."""
    nodes: Count = 1
    """Nodes; only training spans several."""
    processes: Count | None = None
    """Processes per node that work together with train.launch or eval.launch; null: one per GPU."""
    partition: Word | None = None
    """Partition; null: cluster.partition."""
    at_once: Count | None = None
    """Tasks of the array that run at the same time; null: no limit."""
    options: list[Line] = Field(default_factory=list)
    """Further options of sbatch, such as --constraint=a100."""

    @property
    def seconds(self) -> int:
        """The time limit in seconds."""
        return time_seconds(self.time)


@checked_dataclass(frozen=True, config=STRICT)
class Cluster:
    """One SLURM cluster."""

    partition: Word | None
    """Partition of all jobs; null: the cluster's default."""
    account: Word | None
    """Account to charge; null: the user's default."""
    qos: Word | None
    """Quality of service; null: the default."""
    gpu_option: Annotated[str, Field(pattern=r"^--[^\s\"'`$\\;&|<>#]*\{\}[^\s\"'`$\\;&|<>#]*$")]
    """sbatch option that requests {} GPUs; some clusters need --gpus-per-node={} or --gres=gpu:a100:{}."""
    options: list[Line]
    """Further sbatch options for every job, such as [--mail-type=FAIL]."""
    setup: list[Line]
    """Shell lines to run at the start of each job, such as [module load apptainer]."""
    container: Line | None
    """Command prefix before python, such as: apptainer exec --nv /images/targen.sif."""
    python: Word | None
    """Python interpreter of the jobs; null: the submitting interpreter (in a container: python)."""
    offline: bool
    """true: jobs use only the local Hub cache (HF_HUB_OFFLINE=1); scripts/fetch.py fills it."""
    shared: bool | None
    """true: compute nodes can see run.dir although it looks like a local disk; null: check it."""
    shards: Count
    """Parallel generation processes, each on its own GPUs. 4 are enough for less than one GPU-hour of generation."""
    warn: Annotated[int, Field(ge=10)]
    """Seconds before the time limit at which a job saves and is requeued."""
    max_failures: Count
    """Failed attempts allowed per array task. Being stopped or requeued by SLURM does not count."""
    max_restarts: Count
    """Starts per array task, including requeues."""
    generate: Resources
    """Resources of each generation shard."""
    merge: Resources
    """Resources of the merge. It needs the generator's GPUs because it regenerates duplicate rows."""
    train: Resources
    """Resources for training one cell."""
    evaluate: Resources
    """Resources for evaluating one cell."""
    report: Resources
    """Resources of the report."""
    node: Node | None = None
    """Size of a GPU node: {gpus: 8, cpus: 128, memory: 960G}. Jobs get the share that goes with their GPUs; null: per_gpu applies."""
    per_gpu: PerGpu | None = None
    """Without node: CPUs and memory per GPU of a job whose own are null; a job without GPUs gets them once; null: not set."""
    per_node: Count = 1
    """GPUs per node that one array task fills with cells or shards in parallel: 8 on clusters that allocate whole nodes.
    Without GPUs, the number of cells."""

    def of(self, job: JobName) -> Resources:
        """The resources of a job, or of one shard or cell, with its share of the node."""
        resources: Resources = self.generate if job == "contexts" else getattr(self, job)
        gpus, node, per_gpu = resources.gpus, self.node, self.per_gpu
        if node is not None and gpus:
            cpus, memory = max(1, node.cpus * gpus // node.gpus), memory_share(node.memory, gpus, node.gpus)
        elif node is None and per_gpu is not None:
            cpus, memory = per_gpu.cpus * max(1, gpus), memory_share(per_gpu.memory, max(1, gpus))
        else:
            return resources
        return replace(resources, cpus=resources.cpus or cpus, memory=resources.memory or memory)

    def side_by_side(self, job: JobName) -> int:
        """How many shards or cells one array task runs at the same time."""
        return max(1, self.per_node // max(1, self.of(job).gpus)) if job in PACKED else 1


def memory_share(memory: str, parts: int, of: int = 1) -> str:
    """`parts` / `of` of an amount of memory, rounded down to MB where its unit does not divide."""
    number, unit = re.fullmatch(r"(\d+)(.*)", memory).groups()  # type: ignore[union-attr]
    quotient, remainder = divmod(int(number) * parts, of)
    larger = {"T": 1024**2, "G": 1024}.get(unit[:1].upper())
    return f"{int(number) * parts * larger // of}M" if remainder and larger else f"{quotient}{unit}"


def memory_bytes(memory: str) -> int:
    """Bytes of an amount of memory as sbatch --mem takes it; without a unit MB."""
    number, unit = re.fullmatch(r"(\d+)(.*)", memory).groups()  # type: ignore[union-attr]
    power: int = 1 + "KMGT".index((unit or "M")[0].upper())
    return int(number) << 10 * power


def time_seconds(time: str) -> int:
    """Seconds of a time limit in the formats of sbatch: minutes, minutes:seconds, h:m:s, days-h, days-h:m, days-h:m:s."""
    days, _, clock = time.rpartition("-")
    parts = [int(part) for part in clock.split(":")]
    if days:
        hours, minutes, seconds = [*parts, 0, 0][:3]
    elif len(parts) == 3:
        hours, minutes, seconds = parts
    else:
        hours, minutes, seconds = 0, *[*parts, 0][:2]
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds
