"""How likely the label of each synthetic row is: to students of the other rows, or to students of original rows."""

from collections.abc import Sequence
from random import Random

from targen.quality.instances import instances_of
from targen.quality.scores import cross_validated, folds, single_threaded
from targen.quality.students import Student, answers
from targen.tasks.task import Row, Task


def by_itself(task: Task, rows: Sequence[Row], contexts: Sequence[str], student: Student, draws: Random) -> list[float]:
    """The cross-validated probability of each row's own label. Rows of a context are never split between folds."""
    questions = instances_of(task, rows, contexts)
    answered = cross_validated(student, questions, folds(questions, draws))
    return [answer.probability for answer in answered]


def by_original(task: Task, original: Sequence[Row], rows: Sequence[Row], student: Student) -> list[float]:
    """The probability of each row's label to a student of original rows."""
    questions = instances_of(task, rows)
    with single_threaded():
        probabilities = answers(student, instances_of(task, original), questions)
    return [float(of_row[question.gold[0]]) for of_row, question in zip(probabilities, questions, strict=True)]
