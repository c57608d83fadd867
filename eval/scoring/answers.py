"""Answers and right answers as lists of plain values: names of labels, official values, or texts."""

from collections.abc import Iterable
from typing import Any

from eval.scoring.metrics import Prediction
from targen.tasks.task import Task, same_value


def plain(values: Iterable[Any]) -> list[Any]:
    """The values of a list, an array or a tensor as Python objects."""
    return list(values.tolist() if hasattr(values, "tolist") else values)


def answer_of(task: Task, position: int, value: object) -> str | None:
    """The text or the label's name; None if the answer is unreadable. Raises: ValueError if it is of another kind."""
    if value is None or (task.labels and isinstance(value, str) and value not in {label.name for label in task.labels}):
        return None
    return _name(task, f"predictions[{position}]", value)


def right_answers(task: Task, position: int, value: object) -> list[str]:
    """The label's name, or all right texts. Raises: ValueError if it is neither."""
    where = f"references[{position}]"
    if task.labels:
        return [_name(task, where, value)]
    if not isinstance(value, list) or not value:
        raise ValueError(f"{where}: got {value!r}, expected a list of the right texts.")
    return [_name(task, where, text) for text in value]


def _name(task: Task, where: str, value: object) -> str:
    """The label's name for its name or official value; a text if the task has no labels. Raises: ValueError for anything else."""
    if not task.labels and isinstance(value, str):
        return value
    for label in task.labels:
        if value == label.name or same_value(value, label.value):
            return label.name
    known = dict.fromkeys(repr(value) for label in task.labels for value in (label.name, label.value))
    expected = f"one of {', '.join(known)}. Convert numbers to the names of labels." if known else "a text."
    raise ValueError(f"{where}: got {value!r}, expected {expected}")


def predictions_of(task: Task, predictions: Iterable[Any], references: Iterable[Any]) -> list[Prediction]:
    """One prediction per row, in order. Raises: ValueError for a wrong answer, or lists of different lengths."""
    answers, gold = plain(predictions), plain(references)
    if len(answers) != len(gold):
        raise ValueError(f"predictions: got {len(answers)} for {len(gold)} references, expected one for each.")
    return [
        Prediction(position, tuple(right_answers(task, position, right)), answer_of(task, position, answer), {})
        for position, (answer, right) in enumerate(zip(answers, gold, strict=True))
    ]
