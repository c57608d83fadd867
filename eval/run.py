"""The evaluate phase: `python -m eval.run +experiment=quickstart`."""

import os
from collections.abc import Callable, Sequence
from functools import cache, lru_cache, partial
from typing import Any

from eval.plan import lines
from eval.scoring.evaluation_rows import EvaluationRows, evaluation_rows
from eval.scoring.metric_kinds import Prediction
from eval.scoring.metrics import check_metrics
from eval.scoring.prediction import load_cell, predictions_of
from eval.scoring.ready_cells import ReadyCell, ready_cells, scores_of
from eval.scoring.scores import Score, as_score, read_scores, write_scores
from eval.submission.archives import leaderboard_splits, write_archives
from targen.config.original_data import original_train_task, shows_original
from targen.config.run_directory import open_run
from targen.config.settings import Settings
from targen.data.openllm_files import check_openllm_rows
from targen.data.original import original_train_split
from targen.pipeline.start import log_start
from targen.runtime.cli import CHECK, main
from targen.runtime.errors import UserError
from targen.runtime.progress import Progress
from targen.tasks.task import Task
from train.families.checks import check_loadable
from train.grid.cells import check_trained
from train.grid.rows import TaskRows
from train.runtime.processes import Processes, open_run_together

# Each step of the evaluation writes its own files and returns its scores.
Step = Callable[[Settings, Processes, Sequence[ReadyCell]], list[Score]]


def evaluate(settings: Settings, processes: Processes | None = None) -> None:
    """Writes predictions and scores of every trained cell. Raises: UserError if none is trained or data are missing."""
    processes = processes or Processes()
    check_metrics(settings.tasks)
    ready = ready_cells(settings)
    read_scores(settings.paths.scores)  # reports a damaged file before anything is computed
    if settings.eval.submission:
        leaderboard_splits(settings, ready)  # reports a missing split, too
    for step in steps(settings):
        scores = step(settings, processes, ready)
        if processes.first and scores:
            write_scores(settings, scores)


def steps(settings: Settings) -> list[Step]:
    """The steps that the settings select, in order."""
    candidates = (
        (settings.eval.superglue, superglue),
        (settings.eval.submission, submission),
        (settings.eval.openllm.suite is not None, leaderboard),
    )
    return [step for is_chosen, step in candidates if is_chosen]


def superglue(settings: Settings, processes: Processes, ready: Sequence[ReadyCell]) -> list[Score]:
    """The scores on the tasks of the run."""
    names = dict.fromkeys(name for ready_cell in ready for name in ready_cell.cell.tasks)
    rows = {name: evaluation_rows(settings, settings.tasks[name]) for name in names}
    originals = original_parts(settings, [settings.tasks[name] for name in names])
    if any(not ready_cell.cell.trained for ready_cell in ready):
        check_loadable(settings.model, settings.train)
    scores: list[Score] = []
    with Progress("evaluate", "cells", len(ready) if processes.first else 0) as progress:
        for ready_cell in ready:
            # loaded once for all tasks of a mixture, and only if it is needed
            model = cache(partial(load_cell, settings, ready_cell.cell))
            cell_rows = {name: rows[name] for name in ready_cell.cell.tasks}
            predictions_by_task = predictions_of(settings, processes, ready_cell, cell_rows, model, originals)
            for name, predictions in predictions_by_task.items():
                scores += scores_of(settings, ready_cell, settings.tasks[name], rows[name], predictions)
            if processes.first:
                progress.advance(ready_cell.cell.name)
    return scores


def leaderboard(settings: Settings, processes: Processes, ready: Sequence[ReadyCell]) -> list[Score]:
    """The scores on the tasks of the OpenLLM leaderboard."""
    from eval.openllm import harness  # takes a while to import

    rows = harness.score(settings, processes, ready, partial(load_cell, settings))
    return [as_score(row, row["cell"]) for row in rows]


def submission(settings: Settings, processes: Processes, ready: Sequence[ReadyCell]) -> list[Score]:
    """Writes answers to the test splits, as archives for the SuperGLUE leaderboard. Returns no scores."""
    originals = original_parts(
        settings, [settings.tasks[name] for ready_cell in ready for name in ready_cell.cell.tasks]
    )
    load = lru_cache(maxsize=1)(partial(load_cell, settings))  # once for all tasks of a mixture

    def predict(ready_cell: ReadyCell, task: Task, rows: EvaluationRows) -> list[Prediction]:
        model, submitted = partial(load, ready_cell.cell), settings.paths.submitted
        task_rows = {task.name: rows}
        return predictions_of(settings, processes, ready_cell, task_rows, model, originals, submitted)[task.name]

    write_archives(settings, processes, ready, predict)
    return []


def original_parts(settings: Settings, tasks: Sequence[Task]) -> tuple[TaskRows, ...]:
    """The original training rows from which examples for models without finetuning are drawn; empty if none are shown.

    Raises: UserError if they are not available, or too few.
    """
    if not shows_original(settings):
        return ()
    key = "train.instruct_examples" if settings.train.instruct else "eval.shots"
    count = settings.train.instruct_examples if settings.train.instruct else settings.eval.shots
    train_tasks = {task.name: task for task in (original_train_task(settings, task) for task in tasks)}
    parts = []
    for task in train_tasks.values():
        split = original_train_split(settings.data, task)
        if split is None:
            raise UserError(
                f"{key}: got {count} for the arm none, but the train split of {task.folder}, from which the examples are drawn, is not "
                f"available. Set data.source=local data.dir=..., or {key}=0."
            )
        part = TaskRows(task, split.rows, real=True)
        if part.count <= count:
            raise UserError(
                f"{key}: got {count}, expected less than {part.count}, the rows of {split.origin} ({task.folder}). Lower it."
            )
        parts.append(part)
    return tuple(parts)


def check(settings: Settings) -> None:
    """Raises: UserError with every problem of the metrics, the trained cells and local OpenLLM files, before anything is computed."""
    check_metrics(settings.tasks)
    check_trained(settings)
    check_openllm_rows(settings.eval.openllm)


def phase(cfg: Any, overrides: list[str]) -> int:
    """The evaluate phase: predictions and scores of every cell."""
    if os.environ.get(CHECK):
        open_run(cfg, check, write=False)
    elif cfg.plan:
        print("\n".join(lines(open_run(cfg, check, write=False))))  # noqa: T201
    else:
        with open_run_together(cfg, check) as (settings, processes):
            if processes.first:
                log_start(settings, ["evaluate"])
            evaluate(settings, processes)
    return 0


if __name__ == "__main__":
    main("eval.run", "scores every trained cell on the evaluation data", phase)
