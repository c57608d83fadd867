"""A whole run as frozen, checked values."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic.dataclasses import dataclass as checked_dataclass

from targen.config.arms import ArmName
from targen.config.groups.cluster import Cluster
from targen.config.groups.evaluation import Analysis, Evaluation, Report, Wandb
from targen.config.groups.generation import Generator, Price, ShardOf, Synth
from targen.config.groups.method import Method
from targen.config.groups.training import Model, Train
from targen.runtime.paths import RunPaths
from targen.tasks.registry import with_format
from targen.tasks.task import STRICT, Task

Phase = Literal["generate", "merge", "train", "evaluate", "analyze", "report"]


@checked_dataclass(frozen=True, config=STRICT)
class Data:
    """Where the original data come from."""

    source: Literal["hub", "local", "fixture"]
    dir: str | None
    hub: str
    fallback: Literal["fixture"] | None
    self_instruct: str | None = None


@checked_dataclass(frozen=True, config=STRICT)
class RunDir:
    dir: str


@checked_dataclass(frozen=True, config=STRICT)
class Settings:
    """A whole run."""

    name: str
    phases: Annotated[list[Phase], Field(min_length=1)]
    run: RunDir
    seed: int
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    shard: ShardOf
    arms: Annotated[list[ArmName], Field(min_length=1)]
    cell: str | None
    method: Method
    generator: Generator
    synth: Synth
    tasks: Annotated[dict[str, Task], Field(min_length=1)]
    model: Model
    train: Train
    eval: Evaluation
    analysis: Analysis
    data: Data
    report: Report
    wandb: Wandb
    cluster: Cluster
    plan: bool
    price: Price

    @field_validator("tasks")
    @classmethod
    def _with_formats(cls, tasks: dict[str, Task]) -> dict[str, Task]:
        return {name: with_format(task) for name, task in tasks.items()}

    @property
    def paths(self) -> RunPaths:
        return RunPaths(Path(self.run.dir))

    @property
    def report_folder(self) -> Path:
        return Path(self.report.dir) if self.report.dir else self.paths.report
