"""The right answers of an example, the answers it allows, and the majority baseline."""

from collections import Counter
from collections.abc import Sequence

from eval.scoring.metrics import Prediction
from targen.tasks.task import Example, Task


def gold_of(task: Task, example: Example) -> tuple[str, ...]:
    """The right answers as predictions name them: label names, or texts if the task has no labels."""
    if task.labels:
        return tuple(task.labels[number].name for number in example.gold)
    return example.answers


def options_of(task: Task, example: Example) -> tuple[str, ...]:
    """The possible predictions: label names, or the texts to choose from."""
    return tuple(label.name for label in task.labels) or example.choices


def majority(task: Task, examples: Sequence[Example]) -> list[Prediction]:
    """The baseline: always the most frequent label of these examples, or the task's own baseline answer if it has no labels.

    It looks at the gold labels, so no other constant label scores higher in accuracy.
    """
    counts = Counter(gold for example in examples for gold in gold_of(task, example))
    constant = max((label.name for label in task.labels), key=lambda name: counts[name]) if task.labels else None
    return [
        Prediction(example.id, gold_of(task, example), constant or task.baseline_answer(example), {})
        for example in examples
    ]
