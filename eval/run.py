"""The evaluate phase: `python -m eval.run +experiment=quickstart`."""

from collections.abc import Callable, Sequence
from functools import cache, lru_cache, partial
from typing import Any

from eval.plan import lines
from eval.scoring.evaluation_rows import EvaluationRows, evaluation_rows
from eval.scoring.metrics import Prediction
from eval.scoring.prediction import predictions_of
from eval.scoring.scores import ReadyCell, read_scores, ready_cells, score_rows, write_scores
from eval.submission.archives import leaderboard_splits, write_archives
from targen.config.original_data import original_train_task, shows_original
from targen.config.run_directory import open_run
from targen.config.settings import Settings
from targen.data.original import original_train_split
from targen.runtime.cli import main
from targen.runtime.errors import UserError
from targen.runtime.jsonl import Json
from targen.runtime.progress import Progress
from targen.tasks.task import Task
from train.families.checks import check_loadable
from train.grid.cells import check_trained
from train.grid.rows import TaskRows
from train.loop.saving import load_cell_to_device
from train.runtime.processes import Processes, open_run_together

# Each step of the evaluation writes its own files and says its rows of scores.jsonl.
Step = Callable[[Settings, Processes, Sequence[ReadyCell]], list[Json]]


def evaluate(settings: Settings, processes: Processes | None = None) -> None:
    """Predictions and scores of every trained cell. Raises: UserError when none is trained or data are missing."""
    processes = processes or Processes()
    ready = ready_cells(settings)
    read_scores(settings.paths.scores)  # a damaged file is told before anything is computed
    if settings.eval.submission:
        leaderboard_splits(settings, ready)  # and a split that is missing
    for step in steps(settings):
        rows = step(settings, processes, ready)
        if processes.first and rows:
            write_scores(settings, rows)


def steps(settings: Settings) -> list[Step]:
    """What is asked for, in this order."""
    found: list[Step] = []
    if settings.eval.superglue:
        found.append(superglue)
    if settings.eval.submission:
        found.append(submission)
    if settings.eval.openllm.suite is not None:
        found.append(leaderboard)
    return found


def superglue(settings: Settings, processes: Processes, ready: Sequence[ReadyCell]) -> list[Json]:
    """The scores on the SuperGLUE tasks of the run."""
    names = dict.fromkeys(name for one in ready for name in one.cell.tasks)
    on = {name: evaluation_rows(settings, settings.tasks[name]) for name in names}
    originals = original_parts(settings, [settings.tasks[name] for name in names])
    if any(not one.cell.trained for one in ready):
        check_loadable(settings.model, settings.train)
    rows: list[Json] = []
    with Progress("evaluate", "cells", len(ready) if processes.first else 0) as progress:
        for one in ready:
            # once for all tasks of a mixture, and only if asked
            model = cache(partial(load_cell_to_device, settings, one.cell))
            for task in (settings.tasks[name] for name in one.cell.tasks):
                predictions = predictions_of(settings, processes, one, task, on[task.name], model, originals)
                rows += score_rows(settings, one, task, on[task.name], predictions)
            if processes.first:
                progress.advance(one.cell.name)
    return rows


def leaderboard(settings: Settings, processes: Processes, ready: Sequence[ReadyCell]) -> list[Json]:
    """The scores on the tasks of the OpenLLM leaderboard."""
    from eval.openllm import harness as openllm  # the harness takes a while to import

    return openllm.score(settings, processes, ready, partial(load_cell_to_device, settings))


def submission(settings: Settings, processes: Processes, ready: Sequence[ReadyCell]) -> list[Json]:
    """No score: answers to the test splits, as archives for the leaderboard."""
    originals = original_parts(settings, [settings.tasks[name] for one in ready for name in one.cell.tasks])
    loaded = lru_cache(maxsize=1)(partial(load_cell_to_device, settings))  # once for all tasks of a mixture

    def predict(one: ReadyCell, task: Task, on: EvaluationRows) -> list[Prediction]:
        path = settings.paths.submitted(one.cell.predictions_name(task.name))
        return predictions_of(settings, processes, one, task, on, lambda: loaded(one.cell), originals, path)

    write_archives(settings, processes, ready, predict)
    return []


def original_parts(settings: Settings, tasks: Sequence[Task]) -> tuple[TaskRows, ...]:
    """The original training rows of which some are shown to a model that is not finetuned; none where none are.

    Raises: UserError where they are not to be had, or too few.
    """
    if not shows_original(settings):
        return ()
    key = "train.instruct_examples" if settings.train.instruct else "eval.shots"
    count = settings.train.instruct_examples if settings.train.instruct else settings.eval.shots
    specs = {spec.name: spec for spec in (original_train_task(settings, task) for task in tasks)}
    found = []
    for spec in specs.values():
        split = original_train_split(settings.data, spec)
        if split is None:
            raise UserError(
                f"{key}: got {count} for the arm none, but the train split of {spec.folder}, whose rows would be shown, is not at "
                f"hand. Set data.source=local data.dir=..., or {key}=0."
            )
        if len(split.rows) <= count:
            raise UserError(
                f"{key}: got {count}, expected less than {len(split.rows)}, the rows of {split.origin} ({spec.folder}). Lower it."
            )
        found.append(TaskRows(spec, split.rows, real=True))
    return tuple(found)


def phase(cfg: Any, overrides: list[str]) -> int:
    if cfg.plan:
        print("\n".join(lines(open_run(cfg, check_trained, write=False))))  # noqa: T201
        return 0
    with open_run_together(cfg, check_trained) as (settings, processes):
        evaluate(settings, processes)
    return 0


if __name__ == "__main__":
    main("eval.run", "scores every trained cell on the evaluation data", phase)
