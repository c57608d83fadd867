"""Cross-validated scores of students, with intervals from a bootstrap over groups of rows."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from random import Random

import numpy as np
from numpy.typing import NDArray

from targen.quality.instances import Instance, folds_of
from targen.quality.students import Numbers, Student, answer_probabilities

FOLDS = 5
RESAMPLES = 1000
BOUNDS = (0.025, 0.975)
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class StudentAnswer:
    """A student's answer to a question that it was not taught, and the probability that it gave the gold answer."""

    predicted: int
    gold: tuple[int, ...]
    probability: float
    group: int
    row: int

    @property
    def is_right(self) -> bool:
        """Whether the prediction is a gold answer."""
        return self.predicted in self.gold


@dataclass(frozen=True)
class ScoreSample:
    """A score and the same score of each resample."""

    value: float
    resampled: Numbers

    @property
    def bounds(self) -> tuple[float, float]:
        """The 95% interval of the resamples."""
        low, high = np.quantile(self.resampled, BOUNDS)
        return float(low), float(high)


def folds(instances: Sequence[Instance], draws: Random) -> list[int]:
    """The fold of each question: stratified by answer, groups whole."""
    strata = [instance.gold[0] if len(instance.options) == 1 else 0 for instance in instances]
    return folds_of(strata, [instance.group for instance in instances], FOLDS, draws)


def cross_validated_answers(
    student: Student, instances: Sequence[Instance], fold_of: Sequence[int]
) -> list[StudentAnswer]:
    """The answer to every question, from a student that was taught the other folds."""
    return transfer_answers(student, instances, fold_of, instances, fold_of)


def transfer_answers(
    student: Student,
    train_instances: Sequence[Instance],
    train_folds: Sequence[int],
    test_instances: Sequence[Instance],
    test_folds: Sequence[int],
) -> list[StudentAnswer]:
    """The answers to the test instances, each fold by a student that was taught the other folds of another set.

    Such a student has seen about as many rows as a cross-validated one, so that both can be compared.
    """
    answer_of: dict[int, StudentAnswer] = {}
    with single_threaded():
        for fold in sorted(set(test_folds)):
            others = [instance for instance, number in zip(train_instances, train_folds, strict=True) if number != fold]
            test_indices = [index for index, number in enumerate(test_folds) if number == fold]
            predictions = answer_probabilities(student, others, [test_instances[index] for index in test_indices])
            for index, probabilities in zip(test_indices, predictions, strict=True):
                answer_of[index] = _answer(test_instances[index], probabilities)
    return [answer_of[index] for index in range(len(test_instances))]


def single_threaded() -> AbstractContextManager[None]:
    """A context in which linear algebra uses one thread, so that sums do not depend on the number of cores."""
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[None] = threadpool_limits(1)
    return limits


def _answer(instance: Instance, probabilities: Numbers) -> StudentAnswer:
    gold = float(sum(probabilities[answer] for answer in instance.gold))
    return StudentAnswer(int(probabilities.argmax()), instance.gold, gold, instance.group, instance.row)


def group_weights(answered: Sequence[StudentAnswer], draws: Random, resamples: int = RESAMPLES) -> Ints:
    """How often each answer is drawn in each resample of its groups, `(resamples, answers)`."""
    numbers = sorted({answer.group for answer in answered})
    position = {group: index for index, group in enumerate(numbers)}
    generator = np.random.default_rng(draws.getrandbits(64))
    count = len(numbers)
    sampled = generator.integers(0, count, (resamples, count))
    times = np.zeros((resamples, count), dtype=np.int64)
    np.add.at(times, (np.arange(resamples)[:, None], sampled), 1)
    return times[:, [position[answer.group] for answer in answered]]


def accuracy(answered: Sequence[StudentAnswer], weights: Ints) -> ScoreSample:
    """The share of right answers. `weights`: as from `group_weights`."""
    is_right = np.array([answer.is_right for answer in answered], dtype=np.int64)
    return ScoreSample(float(is_right.mean()), weights @ is_right / np.maximum(weights.sum(axis=1), 1))


def macro_f1(answered: Sequence[StudentAnswer], labels: int, weights: Ints) -> ScoreSample:
    """The mean F1 of the labels that occur."""
    gold = np.array([answer.gold[0] for answer in answered])
    predicted = np.array([answer.predicted for answer in answered])
    unweighted = np.ones((1, len(answered)), dtype=np.int64)
    value, resampled = (_macro_f1(gold, predicted, labels, times) for times in (unweighted, weights))
    return ScoreSample(float(value[0]), resampled)


def _macro_f1(gold: Ints, predicted: Ints, labels: int, weights: Ints) -> Numbers:
    scores, present = [], []
    for label in range(labels):
        is_gold, is_predicted = gold == label, predicted == label
        hits = weights @ (is_gold & is_predicted)
        gold_count, predicted_count = weights @ is_gold, weights @ is_predicted
        scores.append(2 * hits / np.maximum(gold_count + predicted_count, 1))
        present.append(gold_count > 0)
    occurs = np.array(present)
    return np.asarray((np.array(scores) * occurs).sum(axis=0) / np.maximum(occurs.sum(axis=0), 1))
