"""The official metrics of a task on plain lists."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from eval.scoring.answers import predictions_of
from eval.scoring.metrics import score as score_predictions
from targen.interface.tasks import load_task
from targen.runtime.errors import UserError
from targen.tasks.task import Task


def score(task: Task | str | Path, predictions: Iterable[Any], references: Iterable[Any]) -> dict[str, float]:
    """Every metric of the task, by name, from 0 to 1 (AX-b: from -1).

    Both lists hold one entry per row: the name of a label, or its value in the official row; ReCoRD has texts, and a list of the
    right ones. None, or a text that is no label, is an unreadable answer, which counts as wrong. Numbers of a ClassLabel become
    names by `features["label"].int2str`. AX-g: all rows in their official order, since rows 2k and 2k+1 are a pair. MultiRC: an
    entry per answer, and predictions name its question: `{"idx": {"paragraph": 0, "question": 3}, "prediction": 1}`.
    Raises: UserError for a reference that is no label, and for lists of different lengths.
    """
    task = task if isinstance(task, Task) else load_task(task)
    try:
        return score_predictions(task, predictions_of(task, predictions, references))
    except ValueError as err:
        raise UserError(f"score: {err}") from None
