"""The settings of a SLURM cluster: what each phase's jobs ask for."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field
from pydantic.dataclasses import dataclass as checked_dataclass

from targen.tasks.task import STRICT, Count

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
