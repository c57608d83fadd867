"""The evaluate phase: `python -m eval.run +experiment=quickstart`."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any

from eval.predict import predictions_of, rows_hash
from eval.scores import Evaluated, ReadyCell, read_scores, ready_cells, score_rows, write_scores
from targen.cli import main
from targen.config import Settings
from targen.data import eval_split, spread
from targen.jsonl import Json
from targen.progress import Progress
from targen.task import TaskSpec
from train.cells import check_trained
from train.processes import Processes, together
from train.saved import load_to_device

# Each part of the evaluation writes its own files and says its rows of scores.jsonl.
Part = Callable[[Settings, Processes, Sequence[ReadyCell]], list[Json]]


def evaluate(settings: Settings, processes: Processes | None = None) -> None:
    """Predictions and scores of every trained cell. Raises: UserError when none is trained or data are missing."""
    processes = processes or Processes()
    ready = ready_cells(settings)
    read_scores(settings.paths.scores)  # a damaged file is told before anything is computed
    for part in parts(settings):
        rows = part(settings, processes, ready)
        if processes.first and rows:
            write_scores(settings, rows)


def parts(settings: Settings) -> list[Part]:
    """What is asked for, in this order."""
    found: list[Part] = []
    if settings.eval.superglue:
        found.append(superglue)
    return found


def superglue(settings: Settings, processes: Processes, ready: Sequence[ReadyCell]) -> list[Json]:
    """The scores on the SuperGLUE tasks of the run."""
    names = dict.fromkeys(name for one in ready for name in one.cell.tasks)
    on = {name: evaluated(settings, settings.tasks[name]) for name in names}
    rows: list[Json] = []
    with Progress("evaluate", "cells", len(ready) if processes.first else 0) as progress:
        for one in ready:
            # once for all tasks of a mixture, and only if asked
            model = cache(partial(load_to_device, settings, one.cell))
            for task in (settings.tasks[name] for name in one.cell.tasks):
                predictions = predictions_of(settings, processes, one, task, on[task.name], model)
                rows += score_rows(settings, one, task, on[task.name], predictions)
            if processes.first:
                progress.advance(one.cell.name)
    return rows


def evaluated(settings: Settings, task: TaskSpec) -> Evaluated:
    """The rows on which a task is scored."""
    split = eval_split(settings.data, task)
    kept = replace(split, rows=spread(split.rows, settings.eval.max_rows, task.rows_per_slot))
    examples = [example for row in kept.rows for example in task.code.examples(task, row)]
    return Evaluated(split, kept, examples, rows_hash(kept))


def phase(cfg: Any, overrides: list[str]) -> int:
    with together(cfg, check_trained) as (settings, processes):
        evaluate(settings, processes)
    return 0


if __name__ == "__main__":
    main("eval.run", "scores every trained cell on the evaluation data", phase)
