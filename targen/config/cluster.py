"""The settings of a SLURM cluster: what each phase's jobs ask for, and what has to hold before they are submitted."""

import math
import re
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BeforeValidator, Field
from pydantic.dataclasses import dataclass as checked_dataclass

from targen.tasks.task import STRICT, Count

if TYPE_CHECKING:
    from targen.config.settings import Settings

Word = Annotated[str, Field(pattern=r"^[^\s\"'`$\\;&|<>#]+$")]  # goes into an #SBATCH line
Line = Annotated[str, Field(pattern=r"^[^\n\r]+$")]
Time = Annotated[
    str,
    Field(pattern=r"^(\d+-)?\d+(:\d{1,2}){0,2}$"),
    BeforeValidator(lambda value: str(value) if type(value) is int else value),
]
JobName = Literal["generate", "merge", "train", "evaluate", "report"]
JOBS: tuple[JobName, ...] = ("generate", "merge", "train", "evaluate", "report")


@checked_dataclass(frozen=True, config=STRICT)
class Resources:
    """What one job, or one element of an array, asks for."""

    time: Time  # as sbatch --time: minutes, h:m:s, d-h ...
    cpus: Count  # per node
    memory: Word | None  # per node, as sbatch --mem
    gpus: Annotated[int, Field(ge=0)]  # per node
    nodes: Count = 1
    processes: Count | None = None  # per node that train together; null: one per GPU
    partition: Word | None = None  # null: the cluster's
    at_once: Count | None = None  # elements of the array that run at the same time; null: as many as there is room for
    options: list[Line] = Field(default_factory=list)  # further options of sbatch, as --constraint=a100

    @property
    def seconds(self) -> int:
        return seconds_of(self.time)


@checked_dataclass(frozen=True, config=STRICT)
class Cluster:
    """One SLURM cluster."""

    partition: Word | None  # null: the default one
    account: Word | None
    qos: Word | None
    gpu_option: Annotated[str, Field(pattern=r"^--[^\s\"'`$\\;&|<>#]*\{\}[^\s\"'`$\\;&|<>#]*$")]
    options: list[Line]
    setup: list[Line]
    container: Line | None
    python: Word | None
    offline: bool
    shared: bool | None
    shards: Count
    warn: Annotated[int, Field(ge=10)]
    max_failures: Count
    max_restarts: Count
    generate: Resources
    merge: Resources
    train: Resources
    evaluate: Resources
    report: Resources

    def of(self, job: JobName) -> Resources:
        found: Resources = getattr(self, job)
        return found


def seconds_of(time: str) -> int:
    """Seconds of a time as sbatch reads it: minutes, minutes:seconds, h:m:s, days-h, days-h:m, days-h:m:s."""
    days, _, rest = time.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if days:
        hours, minutes, seconds = [*parts, 0, 0][:3]
    elif len(parts) == 3:
        hours, minutes, seconds = parts
    else:
        hours, minutes, seconds = 0, *[*parts, 0][:2]
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds


def shard_count(settings: "Settings") -> int:
    """The shards of a generation on the cluster."""
    return settings.cluster.shards if settings.shard.count == 1 else settings.shard.count


def problems(settings: "Settings") -> list[str]:
    """What would go wrong on the cluster and can be known beforehand, a line each."""
    cluster, found = settings.cluster, []
    for job in JOBS:
        if cluster.of(job).seconds <= cluster.warn:
            found.append(
                f"cluster.{job}.time: got {cluster.of(job).time}, expected more than the {cluster.warn} s of cluster.warn, "
                "in which a job saves before its limit. Ask for more time."
            )
    found += _of_checkpoints(settings)
    if settings.generator.backend == "vllm" and "generate" in settings.phases:
        engine = settings.generator.engine
        needed = math.prod(int(engine.get(f"{kind}_parallel_size") or 1) for kind in ("tensor", "pipeline", "data"))
        if needed > cluster.generate.gpus:
            found.append(
                f"cluster.generate.gpus: got {cluster.generate.gpus}, expected {needed}, over which generator.engine spreads "
                f"the model. Set cluster.generate.gpus={needed}."
            )
    if (
        (cluster.train.gpus > 1 or cluster.train.processes)
        and settings.train.launch is None
        and "train" in settings.phases
    ):
        which = "gpus" if cluster.train.gpus > 1 else "processes"
        found.append(
            f"cluster.train.{which}: got {getattr(cluster.train, which)} without train.launch, which is one process on one GPU. "
            "Set train.launch=ddp (or fsdp ...)."
        )
    if cluster.train.nodes > 1 and settings.train.launch is None:
        found.append(
            f"cluster.train.nodes: got {cluster.train.nodes} without train.launch, expected 1. Set train.launch=ddp (or fsdp ...)."
        )
    for job in JOBS:
        if job != "train" and cluster.of(job).nodes > 1:
            found.append(f"cluster.{job}.nodes: got {cluster.of(job).nodes}, expected 1: only training spans nodes.")
    if settings.shard.index:
        found.append("shard.index: got one with a whole grid, whose shards are made by cluster.shards. Leave it out.")
    if settings.cell is not None:
        found.append(f"cell: got {settings.cell} with a whole grid. Leave it out.")
    return found


def _of_checkpoints(settings: "Settings") -> list[str]:
    """A job that ends before its first checkpoint would begin anew for ever."""
    every, limit = settings.train.save_every, settings.cluster.train.seconds
    minutes = re.fullmatch(r"(\d+)m", str(every))
    if "train" not in settings.phases or minutes is None or limit - settings.cluster.warn > 60 * int(minutes[1]):
        return []
    return [
        f"cluster.train.time: got {settings.cluster.train.time}, expected more than one checkpoint interval "
        f"(train.save_every={every}) and the {settings.cluster.warn} s of cluster.warn. Ask for more time, or save more often."
    ]
