"""A whole run as frozen, checked values."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic.dataclasses import dataclass as checked_dataclass

from targen.config.arms import ArmName
from targen.config.groups.analysis import Analysis
from targen.config.groups.bounds import STRICT, PathText, TrainingSeed
from targen.config.groups.cluster import Cluster
from targen.config.groups.data import Data
from targen.config.groups.evaluation import Evaluation
from targen.config.groups.generation import Generator, Price, ShardOf, Synth
from targen.config.groups.method import Method
from targen.config.groups.report import Report, Wandb
from targen.config.groups.training import Model, Train, file_name
from targen.runtime.paths import RunPaths
from targen.tasks.registry import PAPER_TASKS, with_format
from targen.tasks.task import Task

MOST_TITLES = 3  # of tasks that a title names
Phase = Literal["generate", "merge", "train", "evaluate", "analyze", "report"]


@checked_dataclass(frozen=True, config=STRICT)
class RunDir:
    """Where the run writes."""

    dir: PathText
    """Folder for everything the run writes."""


@checked_dataclass(frozen=True, config=STRICT)
class Settings:
    """A whole run."""

    name: str
    """Name of the run, used in the default run.dir: set by an experiment, otherwise the task names."""
    phases: Annotated[list[Phase], Field(min_length=1)]
    """Phases to run; also available: merge (after shards) and analyze (before report)."""
    task_dir: PathText | None
    """Folder with tasks of your own, <name>.yaml each: docs/own_task.md."""
    run: RunDir
    """The run directory."""
    seed: int
    """Master seed of generation."""
    seeds: Annotated[list[TrainingSeed], Field(min_length=1)]
    """Training seeds, one cell each."""
    shard: ShardOf
    """The shard of the data set that this process generates; phases=[merge] joins all shards."""
    arms: Annotated[list[ArmName], Field(min_length=1)]
    """Training data of the models: original, synthetic, mixed, self_instruct, or none (not finetuned); null: original and
    synthetic, or only synthetic if no task has original training rows."""
    cell: str | None
    """Name of a single cell of the grid to train and evaluate; null: all. Cells may run in parallel."""
    method: Method
    """How the data set is written."""
    generator: Generator
    """The language model that writes it, and its backend."""
    synth: Synth
    """The knobs of the four steps."""
    tasks: Annotated[dict[str, Task], Field(min_length=1)]
    """The tasks of the run."""
    model: Model
    """The model that is finetuned."""
    train: Train
    """How it is finetuned."""
    eval: Evaluation
    """How it is scored."""
    analysis: Analysis
    """How original and synthetic data are compared."""
    data: Data
    """Where the original data come from."""
    report: Report
    """The report page, tables and figures."""
    wandb: Wandb
    """Logging to Weights & Biases."""
    cluster: Cluster
    """The SLURM cluster that slurm/submit.sh submits to."""
    plan: bool
    """true: print the planned calls, training and costs, then stop. Makes no calls and writes nothing."""
    price: Price
    """Prices per million tokens, generation speed and GPU for plan=true; null: not shown."""

    @field_validator("tasks")
    @classmethod
    def _with_formats(cls, tasks: dict[str, Task]) -> dict[str, Task]:
        return {name: with_format(task) for name, task in tasks.items()}

    @field_validator("cell")
    @classmethod
    def _as_cells_are_named(cls, cell: str | None) -> str | None:
        return cell and file_name(cell)

    @property
    def paths(self) -> RunPaths:
        """Where the files of the run are."""
        return RunPaths(Path(self.run.dir))

    @property
    def title(self) -> str:
        """Title of the report: `report.title`, or else what the run is about."""
        if self.report.title is not None:
            return self.report.title
        if set(self.tasks) == set(PAPER_TASKS) and self.method.name == "targen":
            return "TarGEN, reproduced"
        titles = [task.title for task in self.tasks.values()]
        return f"{', '.join(titles) if len(titles) <= MOST_TITLES else f'{len(titles)} tasks'}: synthetic data"

    @property
    def report_folder(self) -> Path:
        """Where the report is written."""
        return Path(self.report.dir) if self.report.dir else self.paths.report
