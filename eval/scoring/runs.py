"""Runs with their scores, checked against the tasks of the run, for reports of one run or of several."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path

from eval.scoring.run_tasks import run_tasks
from eval.scoring.scores import SUPERGLUE, Score, read_scores
from targen.runtime.errors import UserError, did_you_mean
from targen.runtime.paths import RunPaths
from targen.tasks.registry import PAPER_TASKS, SUPERGLUE_TASKS
from targen.tasks.task import Task

ALL = "all"  # in a cell's name: the mixture of all tasks of the paper


@dataclass(frozen=True)
class RunScore:
    """A score with its run, the tasks of its cell, and its task as the run specifies it (None for an OpenLLM task)."""

    score: Score
    run: str
    root: Path
    cell_tasks: tuple[str, ...]
    task: Task | None

    @property
    def predictions(self) -> Path:
        """The file with the answers to the task."""
        alone = self.cell_tasks == (self.score.task,)
        return RunPaths(self.root).predictions(self.score.cell if alone else f"{self.score.cell}.{self.score.task}")


@dataclass(frozen=True)
class Run:
    """A run by its name in tables, its scores, and its tasks, in the order of its configuration."""

    name: str
    scores: tuple[RunScore, ...]
    tasks: Mapping[str, Task]


def read_runs(roots: Sequence[Path]) -> list[Run]:
    """Every run, each folder once. A single run is called `this run`, so that its report does not depend on its folder.

    Raises: UserError with file and line of a score that is damaged or does not fit its run.
    """
    distinct = list({root.resolve(): root for root in reversed(roots)}.values())[::-1]
    if len(distinct) == 1:
        return [_run(distinct[0], "this run")]
    names = [root.resolve().name for root in distinct]
    return [
        _run(root, name if names.count(name) == 1 else str(root)) for root, name in zip(distinct, names, strict=True)
    ]


def tasks_of(runs: Sequence[Run]) -> dict[str, Task]:
    """The tasks of all runs: each as the first run that has it specifies it, with the metrics of all runs."""
    tasks: dict[str, Task] = {}
    for run in runs:
        for name, task in run.tasks.items():
            earlier = tasks.setdefault(name, task)
            tasks[name] = replace(earlier, metrics=list(dict.fromkeys([*earlier.metrics, *task.metrics])))
    return tasks


def _run(root: Path, name: str) -> Run:
    scores = read_scores(RunPaths(root).scores)
    tasks = run_tasks(RunPaths(root).config, sorted({score.task for score in scores}))
    cell_tasks = _tasks_of_cells(scores, tasks)
    for score in scores:
        if (problem := _problem(score, tasks, cell_tasks[score.cell])) is not None:
            raise UserError(f"{score.where}: {problem} Evaluate again, or remove the line.")
    run_scores = (RunScore(score, name, root, cell_tasks[score.cell], tasks.get(score.task)) for score in scores)
    return Run(name, tuple(run_scores), tasks)


def _problem(score: Score, tasks: Mapping[str, Task], cell_tasks: Sequence[str]) -> str | None:
    """What is unknown or contradictory in a row that is otherwise well formed; None if nothing is."""
    if score.benchmark == SUPERGLUE:
        if score.task not in tasks:
            return f"task: got {score.task!r}, expected a task of the run. {did_you_mean(score.task, tasks or SUPERGLUE_TASKS)}"
        metrics = tasks[score.task].metrics
        if score.metric not in metrics:
            return f"metric: got {score.metric!r}, expected one of {score.task}'s: {', '.join(metrics)}."
    if _task_part(score) is None:
        expected = f"{score.model}-{score.setting}-<task>{score.name_end}"
        return f"cell: got {score.cell!r}, expected {expected}, from the row's model, setting, arm and seed."
    if score.benchmark == SUPERGLUE and score.task not in cell_tasks:
        return f"cell: got {score.cell!r} with the task {score.task}, expected a cell of that task."
    return None


def _tasks_of_cells(scores: Sequence[Score], tasks: Mapping[str, Task]) -> dict[str, tuple[str, ...]]:
    """The tasks of each cell, as in its rows. Rows of earlier versions do not list them: then the cell's name decides."""
    by_cell: dict[str, list[Score]] = defaultdict(list)
    for score in scores:
        by_cell[score.cell].append(score)
    return {cell: _tasks_of_cell(cell_scores, {*tasks, *SUPERGLUE_TASKS}) for cell, cell_scores in by_cell.items()}


def _tasks_of_cell(scores: Sequence[Score], task_names: Set[str]) -> tuple[str, ...]:
    """The tasks of the cell with these scores; none if its name is not made up of known tasks."""
    for score in scores:
        if score.tasks is not None:
            return tuple(score.tasks)
    name_part = _task_part(scores[0]) or ""
    scored = sorted({score.task for score in scores if score.benchmark == SUPERGLUE})
    if name_part == ALL and ALL not in task_names:
        return PAPER_TASKS if set(scored) <= set(PAPER_TASKS) else tuple(scored)
    possible = [tasks for tasks in _mixtures(name_part, task_names) if set(scored) <= set(tasks)]
    exact = [tasks for tasks in possible if list(tasks) == scored]
    return next(iter([*exact, *possible, *_mixtures(name_part, task_names)]), ())


def _task_part(score: Score) -> str | None:
    """The part of the cell's name that names its task or tasks; None if the name contradicts the row."""
    start, end = f"{score.model}-{score.setting}-", score.name_end
    if score.cell.startswith(start) and score.cell.endswith(end) and len(score.cell) > len(start) + len(end):
        return score.cell[len(start) : -len(end)]
    return None


def _mixtures(name: str, task_names: Set[str]) -> Iterator[tuple[str, ...]]:
    """All sorted tuples of tasks whose names, joined by `_`, give this name; those with the longest names first."""
    if name in task_names:
        yield (name,)
    for task in sorted(task_names, key=len, reverse=True):
        if name.startswith(f"{task}_"):
            yield from ((task, *rest) for rest in _mixtures(name[len(task) + 1 :], task_names) if task < rest[0])
