"""Which rows of a set are kept: a criterion gives each row that a seed draws a value, and the lowest values are left out.

PVI(x -> y) = -log2 g[null](y) + log2 g'[x](y). Source: K. Ethayarajh et al., arXiv 2110.08420, definition 4.1. Here g' is a small
student that was taught the other rows of the set, and g, which sees no text, knows the shares of their labels.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log2
from random import Random
from typing import TypeVar

from eval.study.rows.draws import without_lowest
from eval.study.rows.levels import Taught, Teach, at, drawn, draws, of_original
from eval.study.rows.material import ORIGINAL, Material, Pool
from targen.quality.instances import instances_of
from targen.quality.scores import cross_validated, folds, single_threaded
from targen.quality.students import Student, answers
from targen.tasks.task import Row, Task

CHECKER_ROWS = 48  # original rows that teach a checker
AT_RANDOM, BY_ITSELF, BY_PVI = "at random", "by the set itself", "by PVI"
BY_ORIGINAL = f"by {CHECKER_ROWS} {ORIGINAL} rows"
CRITERIA = (AT_RANDOM, BY_ITSELF, BY_PVI, BY_ORIGINAL)
TINY = 1e-12  # a smaller probability counts as this

Values = Callable[[int, Student], Sequence[float]]  # of the rows that a seed draws, for a student


@dataclass(frozen=True)
class HeldOut:
    """The probability of a row's label to a student of the other folds, and the share of these that have the label."""

    probability: float
    prior: float

    @property
    def pvi(self) -> float:
        """In bits; 0 for a label that the other folds lack."""
        return log2(max(self.probability, TINY)) - log2(max(self.prior, TINY))


def held_out(
    task: Task, rows: Sequence[Row], contexts: Sequence[str], student: Student, random: Random
) -> list[HeldOut]:
    """How likely each row's own label is to students of the other rows. Rows of a context are never split between folds."""
    questions = instances_of(task, rows, contexts)
    fold_of = folds(questions, random)
    answered = cross_validated(student, questions, fold_of)
    labels = [question.gold[0] for question in questions]
    whole, by_fold = Counter(labels), Counter(zip(fold_of, labels, strict=True))
    sizes = Counter(fold_of)
    return [
        HeldOut(answer.probability, (whole[label] - by_fold[fold, label]) / max(1, len(labels) - sizes[fold]))
        for answer, fold, label in zip(answered, fold_of, labels, strict=True)
    ]


def by_original(task: Task, original: Sequence[Row], rows: Sequence[Row], student: Student) -> list[float]:
    """The probability of each row's label to a student of original rows."""
    questions = instances_of(task, rows)
    with single_threaded():
        probabilities = answers(student, instances_of(task, original), questions)
    return [float(of_row[question.gold[0]]) for of_row, question in zip(probabilities, questions, strict=True)]


Found = TypeVar("Found")


def _once(compute: Callable[[int, Student], Found]) -> Callable[[int, Student], Found]:
    """The same, computed once for each seed and student."""
    found: dict[tuple[int, str], Found] = {}

    def remembered(seed: int, student: Student) -> Found:
        key = seed, student.name
        if key not in found:
            found[key] = compute(seed, student)
        return found[key]

    return remembered


def criteria(given: Material, pool: Pool) -> dict[str, Values]:
    """The criteria by name; without that of original rows if there are too few. Values are computed once for all shares."""

    def at_random(seed: int, _: Student) -> list[float]:
        random = draws(given, seed, "left out at random")
        return [random.random() for _ in drawn(given, pool, given.size, seed)]

    @_once
    def held(seed: int, student: Student) -> list[HeldOut]:
        places = drawn(given, pool, given.size, seed)
        contexts = [pool.contexts[place] for place in places]
        return held_out(given.task, at(pool, places).rows, contexts, student, draws(given, seed, "folds"))

    @_once
    def checked(seed: int, student: Student) -> list[float]:
        rows = at(pool, drawn(given, pool, given.size, seed)).rows
        return by_original(given.task, of_original(given, CHECKER_ROWS)(seed, student).rows, rows, student)

    found: dict[str, Values] = {
        AT_RANDOM: at_random,
        BY_ITSELF: lambda seed, student: [one.probability for one in held(seed, student)],
        BY_PVI: lambda seed, student: [one.pvi for one in held(seed, student)],
    }
    if given.original.size >= CHECKER_ROWS:
        found[BY_ORIGINAL] = checked
    return found


def without(given: Material, pool: Pool, values: Values, share: float) -> Teach:
    """The rows that a seed draws without this share of them, rounded, that have the lowest values."""

    def taught(seed: int, student: Student) -> Taught:
        return at(pool, without_lowest(drawn(given, pool, given.size, seed), values(seed, student), share))

    return taught
