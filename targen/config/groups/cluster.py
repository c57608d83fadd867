"""The settings of a SLURM cluster: what the jobs of each phase ask for."""

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
JobName = Literal["generate", "merge", "train", "evaluate", "report"]
JOBS: tuple[JobName, ...] = ("generate", "merge", "train", "evaluate", "report")


@checked_dataclass(frozen=True, config=STRICT)
class Resources:
    """What one job, or one task of an array, asks for."""

    time: Time
    """Time limit as sbatch --time takes it: minutes, h:m:s, d-h, ..."""
    cpus: Count
    """CPUs per node."""
    memory: Word | None
    """Memory per node as sbatch --mem takes it; null: the cluster's default."""
    gpus: CountOrZero
    """GPUs per node."""
    nodes: Count = 1
    """Nodes; only training spans several."""
    processes: Count | None = None
    """Processes per node that train together with train.launch; null: one per GPU."""
    partition: Word | None = None
    """Partition; null: cluster.partition."""
    at_once: Count | None = None
    """Tasks of the array that run at the same time; null: no limit."""
    options: list[Line] = Field(default_factory=list)
    """Further options of sbatch, such as --constraint=a100."""

    @property
    def seconds(self) -> int:
        """The time limit in seconds."""
        return seconds_of(self.time)


@checked_dataclass(frozen=True, config=STRICT)
class Cluster:
    """One SLURM cluster."""

    partition: Word | None
    """Partition of all jobs; null: the cluster's default."""
    account: Word | None
    """Account that is charged; null: the user's default."""
    qos: Word | None
    """Quality of service; null: the default."""
    gpu_option: Annotated[str, Field(pattern=r"^--[^\s\"'`$\\;&|<>#]*\{\}[^\s\"'`$\\;&|<>#]*$")]
    """How this cluster is asked for {} GPUs; others need --gpus-per-node={} or --gres=gpu:a100:{}."""
    options: list[Line]
    """Further options of sbatch for every job, such as [--mail-type=FAIL]."""
    setup: list[Line]
    """Lines that run before each job, such as [module load cuda/12.8]."""
    container: Line | None
    """Words before python, such as: apptainer exec --nv /images/targen.sif."""
    python: Word | None
    """Python interpreter of the jobs; null: the one that submits (in a container: python)."""
    offline: bool
    """true: jobs read only the Hub's local cache (HF_HUB_OFFLINE=1), which scripts/fetch.py fills."""
    shared: bool | None
    """true: compute nodes see run.dir although it looks like a local disk; null: checked."""
    shards: Count
    """Processes that generate at the same time, each on GPUs of its own."""
    warn: Annotated[int, Field(ge=10)]
    """Seconds before the time limit at which a job saves and goes back into the queue."""
    max_failures: Count
    """Starts of one array task that may fail through its own fault."""
    max_restarts: Count
    """Starts of one array task in all."""
    generate: Resources
    """Resources of each shard of the generation."""
    merge: Resources
    """Resources of the merge, which asks the generator again if rows repeat."""
    train: Resources
    """Resources of the training of each cell."""
    evaluate: Resources
    """Resources of the evaluation of each cell."""
    report: Resources
    """Resources of the report."""

    def of(self, job: JobName) -> Resources:
        """The resources of a kind of job."""
        resources: Resources = getattr(self, job)
        return resources


def seconds_of(time: str) -> int:
    """Seconds of a time limit in the formats of sbatch: minutes, minutes:seconds, h:m:s, days-h, days-h:m, days-h:m:s."""
    days, _, rest = time.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if days:
        hours, minutes, seconds = [*parts, 0, 0][:3]
    elif len(parts) == 3:
        hours, minutes, seconds = parts
    else:
        hours, minutes, seconds = 0, *[*parts, 0][:2]
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds
