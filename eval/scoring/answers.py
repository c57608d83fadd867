"""Answers and right answers as lists of plain values: names of labels, official values, or texts.

Where a metric is over groups of rows (MultiRC: the answers to a question), an answer says to which it belongs, in the form of
the `super_glue` metric of `evaluate`: `{"idx": {"paragraph": 0, "question": 3, "answer": 7}, "prediction": 1}`.
"""

from collections.abc import Iterable, Mapping
from numbers import Integral
from typing import Any

from eval.scoring.metric_kinds import GroupMetric, Prediction
from eval.scoring.metrics import METRICS
from targen.tasks.task import Task, same_value

GROUPS = ("paragraph", "question")  # the idx of an answer's groups, the largest first


def python_values(values: Iterable[Any]) -> list[Any]:
    """The values of a list, an array or a tensor as Python objects."""
    return list(values.tolist() if hasattr(values, "tolist") else values)


def groups_of(task: Task, position: int, value: object) -> tuple[int, ...]:
    """The groups of an answer, none where the task needs none. Raises: ValueError if it needs them and they are not there."""
    needed = any(isinstance(METRICS[name], GroupMetric) for name in task.metrics)
    idx = value.get("idx") if isinstance(value, Mapping) else None
    groups = tuple(
        int(index) for name in GROUPS if isinstance(idx, Mapping) and isinstance(index := idx.get(name), Integral)
    )
    if not needed:
        return ()
    if len(groups) < len(GROUPS):
        form = '{"idx": {"paragraph": 0, "question": 3}, "prediction": ...}'
        raise ValueError(f"predictions[{position}]: got {value!r}, expected an answer with its question: {form}.")
    return groups


def answer_of(task: Task, position: int, value: object) -> str | None:
    """The text or the label's name; None if the answer is unreadable. Raises: ValueError if it is of another kind."""
    if isinstance(value, Mapping) and "prediction" in value:
        value = value["prediction"]
    if value is None or (
        task.classes and isinstance(value, str) and value not in {label.name for label in task.classes}
    ):
        return None
    return _label_or_text(task, f"predictions[{position}]", value)


def right_answers(task: Task, position: int, value: object) -> list[str]:
    """The label's name, or all right texts. Raises: ValueError if it is neither."""
    where = f"references[{position}]"
    if task.classes:
        return [_label_or_text(task, where, value)]
    if not isinstance(value, list) or not value:
        raise ValueError(f"{where}: got {value!r}, expected a list of the right texts.")
    return [_label_or_text(task, where, text) for text in value]


def _label_or_text(task: Task, where: str, value: object) -> str:
    """The label's name for its name or official value; a text if the task has no labels. Raises: ValueError for anything else."""
    if not task.classes and isinstance(value, str):
        return value
    for label in task.classes:
        if value == label.name or same_value(value, label.value):
            return label.name
    allowed = dict.fromkeys(repr(value) for label in task.classes for value in (label.name, label.value))
    expected = f"one of {', '.join(allowed)}. Convert numbers to the names of labels." if allowed else "a text."
    raise ValueError(f"{where}: got {value!r}, expected {expected}")


def predictions_of(task: Task, predictions: Iterable[Any], references: Iterable[Any]) -> list[Prediction]:
    """One prediction per row, in order. Raises: ValueError for a wrong answer, or lists of different lengths."""
    answers, gold = python_values(predictions), python_values(references)
    if len(answers) != len(gold):
        raise ValueError(f"predictions: got {len(answers)} for {len(gold)} references, expected one for each.")
    return [
        Prediction(
            position,
            tuple(right_answers(task, position, reference)),
            answer_of(task, position, answer),
            {},
            groups=groups_of(task, position, answer),
        )
        for position, (answer, reference) in enumerate(zip(answers, gold, strict=True))
    ]
