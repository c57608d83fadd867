"""The rows of scores.jsonl, of one run or of several, checked one by one."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass as checked_dataclass

from targen.config.group_files import task_from_file
from targen.runtime.errors import UserError, did_you_mean
from targen.runtime.jsonl import Json, read_jsonl
from targen.runtime.paths import CONF, RunPaths
from targen.tasks.task import Task

SUPERGLUE = "superglue"
ALL = "all"  # the name of a mixture of all tasks
Share = Annotated[float, Field(ge=0, le=1)]
Whole = Annotated[int, Field(ge=0)]
Name = Annotated[str, Field(min_length=1)]


@checked_dataclass(frozen=True, config=ConfigDict(extra="ignore", strict=True))
class Score:
    """One row of scores.jsonl: a metric of a cell on a task."""

    benchmark: Literal["superglue", "openllm_4", "openllm_6", "openllm_v2"]
    cell: Name
    model: Name
    setting: Name
    task: Name
    arm: Name
    seed: int
    instruct: bool
    scoring: Name
    shots: Whole | None  # None: of several tasks together
    train_rows: Whole | None
    real_rows: Whole | None
    method: str | None
    self_correct: str | None
    generator: str | None
    metric: Name
    value: Share
    majority: Share | None
    n: Annotated[int, Field(ge=1)]
    rows: Annotated[int, Field(ge=1)]
    rows_in_split: Whole
    unparsed: Whole
    origin: str
    evaluated: str
    is_fixture: bool
    harness: str | None = None
    task_version: str | float | None = None
    stderr: float | None = None


@dataclass(frozen=True)
class RunScore:
    """A score and the run that it stands in."""

    score: Score
    run: str
    root: Path

    @property
    def predictions(self) -> Path:
        """Where the answers to the task lie: by the cell's name, of a mixture by the task's too."""
        own, paths = self.score, RunPaths(self.root)
        alone = paths.predictions(own.cell)
        return alone if _mixture(own) == own.task else paths.predictions(f"{own.cell}.{own.task}")


@dataclass(frozen=True)
class Run:
    """A run by its name in tables, its results, and the tasks that it is about."""

    name: str
    results: tuple[RunScore, ...]
    tasks: tuple[str, ...]


def read_runs(roots: Sequence[Path]) -> list[Run]:
    """Every run, each folder once; one alone has no name of its own, so that its report is the same wherever it lies.

    Raises: UserError with file and line of a score that is none.
    """
    distinct = list({root.resolve(): root for root in reversed(roots)}.values())[::-1]
    if len(distinct) == 1:
        return [_run(distinct[0], "this run")]
    names = [root.resolve().name for root in distinct]
    return [
        _run(root, name if names.count(name) == 1 else str(root)) for root, name in zip(distinct, names, strict=True)
    ]


def _run(root: Path, name: str) -> Run:
    path = RunPaths(root).scores
    results = tuple(RunScore(score, name, root) for score in read_scores(path)) if path.is_file() else ()
    return Run(name, results, _tasks(RunPaths(root).config))


def _tasks(config: Path) -> tuple[str, ...]:
    """The tasks of a run, as its configuration names them; none where it has none."""
    if not config.is_file():
        return ()
    try:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        values = yaml.load(config.read_text(encoding="utf-8"), Loader=loader)
    except (OSError, ValueError, yaml.YAMLError) as err:
        what = " ".join(str(err).split())
        raise UserError(f"{config}: cannot be read ({what}). Repair it, or leave the run out.") from None
    tasks = values.get("tasks") if isinstance(values, dict) else None
    return tuple(map(str, tasks)) if isinstance(tasks, dict) else ()


def read_scores(path: Path) -> list[Score]:
    """The scores of a file. Raises: UserError with the line of one that is garbled, of an unknown cell, or there twice."""
    found: list[Score] = []
    seen: dict[tuple[str, ...], int] = {}
    for number, row in read_jsonl(path):
        score = _checked(row, f"{path}:{number}")
        key = (score.benchmark, score.cell, score.task, score.metric)
        if key in seen:
            raise UserError(f"{path}:{number}: {' '.join(key)} stands on line {seen[key]} already. Remove one of them.")
        seen[key] = number
        found.append(score)
    return found


def _checked(row: Json, where: str) -> Score:
    try:
        score = Score(**row)
    except ValidationError as err:
        first = err.errors()[0]
        key = ".".join(map(str, first["loc"][:1]))
        got = (
            f"got {repr(row[key])[:60]}, expected {first['msg'].removeprefix('Input should be ')}"
            if key in row
            else "is missing"
        )
        raise UserError(f"{where}: {key}: {got}. Evaluate again, or remove the line.") from None
    if (wrong := _unknown(score)) is not None:
        raise UserError(f"{where}: {wrong} Evaluate again, or remove the line.")
    return score


def _unknown(score: Score) -> str | None:
    """What is not known, or does not fit together, in a row that is otherwise well formed."""
    if score.benchmark == SUPERGLUE:
        specs = task_specs()
        if score.task not in specs:
            return f"task: got {score.task!r}, expected a file of conf/task/. {did_you_mean(score.task, specs)}"
        metrics = specs[score.task].metrics
        if score.metric not in metrics:
            return f"metric: got {score.metric!r}, expected one of {score.task}'s: {', '.join(metrics)}."
    mixture = _mixture(score)
    if mixture is None:
        expected = f"{score.model}-{score.setting}-<task>-{score.arm}-s{score.seed}"
        return f"cell: got {score.cell!r}, expected {expected}, as model, setting, arm and seed of the row say."
    if score.benchmark == SUPERGLUE and score.task not in (mixture, *mixture.split("_")) and mixture != ALL:
        return f"cell: got {score.cell!r} with the task {score.task}, expected a cell of that task."
    return None


def _mixture(score: Score) -> str | None:
    """The part of the cell's name that names its task or tasks; None where the name does not fit the row."""
    start, end = f"{score.model}-{score.setting}-", f"-{score.arm}-s{score.seed}"
    name = score.cell
    if not (name.startswith(start) and name.endswith(end) and len(name) > len(start) + len(end)):
        return None
    middle = name[len(start) : -len(end)]
    known = middle in {ALL, *task_specs()} or all(part in task_specs() for part in middle.split("_"))
    return middle if known else None


@cache
def task_specs() -> Mapping[str, Task]:
    """Every task of conf/task/ by its name."""
    return {path.stem: task_from_file(path.stem) for path in sorted((CONF / "task").glob("*.yaml"))}


def task_order(names: Iterable[str]) -> list[str]:
    """Tasks in the order of conf/task/, others as they come, averages last."""
    own = list(task_specs())
    distinct = list(dict.fromkeys(names))
    known = [name for name in own if name in distinct]
    rest = [name for name in distinct if name not in own]
    return [*known, *(name for name in rest if name != "average"), *(name for name in rest if name == "average")]
