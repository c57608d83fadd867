"""Selection of the rows of a set: a criterion gives each row a value, and the rows with the lowest values are left out.

PVI(x -> y) = -log2 g[null](y) + log2 g'[x](y). Source: K. Ethayarajh et al., arXiv 2110.08420, definition 4.1. Here g' is a small
student that was taught the other rows of the set, and g, which sees no text, knows the shares of their labels.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import log2
from random import Random
from typing import TypeVar

from targen.quality.instances import Instance, instances_of
from targen.quality.scores import cross_validated_answers, folds, single_threaded
from targen.quality.students import Student, answer_probabilities
from targen.tasks.task import Row, Task

TINY = 1e-12  # a smaller probability counts as this
Item = TypeVar("Item")


@dataclass(frozen=True)
class LabelProbability:
    """The probability of a row's label to a student of the other folds, and the share of these that have the label."""

    probability: float
    prior: float

    @property
    def pvi(self) -> float:
        """In bits; 0 for a label that the other folds lack."""
        return log2(max(self.probability, TINY)) - log2(max(self.prior, TINY))


def held_out_probabilities(
    task: Task, rows: Sequence[Row], contexts: Sequence[str | None], student: Student, random: Random
) -> list[LabelProbability]:
    """How likely each row's own label is to students of the other folds. Rows of a context are never split between folds."""
    instances = instances_of(task, rows, contexts)
    fold_of = folds(instances, random)
    answered = cross_validated_answers(student, instances, fold_of)
    labels = [instance.gold[0] for instance in instances]
    label_counts, by_fold = Counter(labels), Counter(zip(fold_of, labels, strict=True))
    sizes = Counter(fold_of)
    return [
        LabelProbability(
            answer.probability, (label_counts[label] - by_fold[fold, label]) / max(1, len(labels) - sizes[fold])
        )
        for answer, fold, label in zip(answered, fold_of, labels, strict=True)
    ]


def checker_probabilities(
    train_instances: Sequence[Instance], instances: Sequence[Instance], student: Student
) -> list[float]:
    """The probability of each instance's label, to a student that was taught other, original rows."""
    with single_threaded():
        probabilities = answer_probabilities(student, train_instances, instances)
    return [float(row[instance.gold[0]]) for row, instance in zip(probabilities, instances, strict=True)]


def without_lowest(items: Sequence[Item], values: Sequence[float], share: float) -> list[Item]:
    """The items without the share with the lowest values, rounded; among equal values the first are left out."""
    order = sorted(range(len(items)), key=lambda index: (values[index], index))
    left_out = set(order[: round(share * len(items))])
    return [item for index, item in enumerate(items) if index not in left_out]
