"""The right answers of an example, the answers it allows, and the majority baseline."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from eval.scoring.metric_kinds import Prediction
from eval.scoring.metrics import METRICS, score, task_score
from targen.tasks.task import Example, Task


def gold_of(task: Task, example: Example) -> tuple[str, ...]:
    """The right answers as predictions name them: label names, or texts if the task has no labels."""
    if task.classes:
        return tuple(task.classes[number].name for number in example.gold)
    return example.answers


def options_of(task: Task, example: Example) -> tuple[str, ...]:
    """The possible predictions: label names, or the texts to choose from."""
    return tuple(label.name for label in task.classes) or example.choices


def majority(task: Task, examples: Sequence[Example]) -> list[Prediction]:
    """The baseline: always the same label, or the task's own baseline answer if models answer with texts.

    It looks at the gold labels: the label is the one that scores best, and of equal ones the most frequent. That is the most
    frequent one for nearly all metrics; MultiRC's F1a is that of right answers, so its label is `right`, however rare.
    """
    if not task.classes:
        return [_as_prediction(task, example, task.baseline_answer(example)) for example in examples]
    counts = Counter(gold for example in examples for gold in gold_of(task, example))
    constants = {
        label.name: [_as_prediction(task, example, label.name) for example in examples] for label in task.classes
    }
    scored_task = replace(task, metrics=[name for name in task.metrics if METRICS[name].in_task_score])

    def merit(name: str) -> tuple[float, int]:
        return task_score(score(scored_task, constants[name])) if scored_task.metrics else 0.0, counts[name]

    return constants[max(constants, key=merit)]


def _as_prediction(task: Task, example: Example, answer: str) -> Prediction:
    return Prediction(example.id, gold_of(task, example), answer, {}, groups=example.groups)
