"""Learnability: what small students learn from a data set about its own labels. It needs no original row.

Each student answers questions of folds that it was not taught. A set on which the best of them is hardly above chance
teaches little: its rows do not carry their labels in a way that a model could read. Rows that share a context or a
text are never split between folds, or topics would count as labels.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from targen.quality.instances import Instance, instances_of
from targen.quality.scores import (
    Answer,
    ScoreSample,
    accuracy,
    cross_validated,
    folds,
    group_weights,
    macro_f1,
)
from targen.quality.students import BagOfWords, Student
from targen.runtime.jsonl import Json
from targen.runtime.randomness import rng
from targen.tasks.task import Row, Task

MIN_PER_LABEL, MIN_QUESTIONS = 10, 40  # below, an interval is so wide that it includes chance whatever the rows are
MARGIN = 0.03  # above chance, which the lower bound of the best score must exceed
LISTED = 5  # hardest rows per label
DIGITS = 3
METRIC_NAMES = {"f1_macro": "macro-F1", "accuracy": "accuracy"}


@dataclass(frozen=True)
class MadeRow:
    """A synthetic row with what its provenance says. `seed_position` is the place of its instance seed in the answer of a call."""

    row: Row
    context: str | None
    seed_position: int | None = None


def learnability(task: Task, made: Sequence[MadeRow], students: Sequence[Student], seed: int) -> Json:
    """The entry `learnability` of stats.json: scores beside chance and majority, the hardest rows, and what the context gives away."""
    rows = [item.row for item in made]
    questions = instances_of(task, rows, [item.context for item in made])
    reason = too_few(task, questions) if students else "no student is installed"
    if reason is not None:
        return {"questions": len(questions), "not_measured": reason}
    fold_of = folds(questions, rng(seed, task.name, "learnability", "folds"))
    scores = {}
    for student in students:
        answered = cross_validated(student, questions, fold_of)
        scores[student.name.replace(" ", "_")] = _scores(task, answered, seed) | {
            "hardest": _hardest(task, answered, rows)
        }
    found: Json = {
        "questions": len(questions),
        "groups": len({question.group for question in questions}),
        "metric": "f1_macro" if task.classes else "accuracy",
        "chance": _chance(task, questions),
        "majority": _majority(task, questions),
        "students": scores,
    }
    return found | {"above_chance": above_chance(found), "context_leak": _leaks(task, made, questions, seed)}


def sample(task: Task, made: Sequence[MadeRow], seed: int, at_most: int) -> list[MadeRow]:
    """At most so many rows, in whole instances and in their order."""
    step = task.rows_per_slot
    if len(made) <= at_most:
        return list(made)
    starts = list(range(0, len(made), step))
    kept = sorted(rng(seed, task.name, "learnability", "sample").sample(starts, max(1, at_most // step)))
    return [item for start in kept for item in made[start : start + step]]


def too_few(task: Task, questions: Sequence[Instance]) -> str | None:
    """Why there are too few questions for a score; None if there are enough."""
    if not questions:
        return "no labelled row"
    if len(questions) < MIN_QUESTIONS:
        return f"{len(questions)} questions, expected at least {MIN_QUESTIONS}"
    if len(questions[0].options) > 1:
        return None
    counts = Counter(question.gold[0] for question in questions)
    short = [
        f"{counts[number]} of {label.name}"
        for number, label in enumerate(task.classes)
        if counts[number] < MIN_PER_LABEL
    ]
    more = f" and {len(short) - 3} labels more" if len(short) > 3 else ""
    return f"{' and '.join(short[:3])}{more}, expected at least {MIN_PER_LABEL} rows per label" if short else None


def _scores(task: Task, answered: Sequence[Answer], seed: int) -> Json:
    weights = group_weights(answered, rng(seed, task.name, "learnability", "resamples"))
    found = {"accuracy": _rounded(accuracy(answered, weights))}
    if task.classes:
        found["f1_macro"] = _rounded(macro_f1(answered, len(task.classes), weights))
    return found


def _rounded(score: ScoreSample) -> Json:
    low, high = score.bounds
    return {"value": round(score.value, DIGITS), "low": round(low, DIGITS), "high": round(high, DIGITS)}


def _hardest(task: Task, answered: Sequence[Answer], rows: Sequence[Row]) -> dict[str, list[int]]:
    """The idx of the rows of each label whose gold answer was given the lowest probability, the lowest first."""
    by_label: dict[str, list[tuple[float, int]]] = {}
    for answer in answered:
        name = task.classes[answer.gold[0]].name if task.classes else "answer"
        by_label.setdefault(name, []).append((round(answer.probability, DIGITS), rows[answer.row]["idx"]))
    order = [label.name for label in task.classes] or ["answer"]
    ranked = {name: [idx for _, idx in sorted(by_label.get(name, []))] for name in order}
    return {name: list(dict.fromkeys(indices))[:LISTED] for name, indices in ranked.items()}


def _chance(task: Task, questions: Sequence[Instance]) -> Json:
    """The expected scores of an answer at random. F1 of a label with the share s of k: 2 s / (k s + 1)."""
    right = sum(len(question.gold) / question.answers for question in questions) / len(questions)
    found = {"accuracy": round(right, DIGITS)}
    if shares := _shares(task, questions):
        found["f1_macro"] = round(sum(2 * share / (len(shares) * share + 1) for share in shares) / len(shares), DIGITS)
    return found


def _majority(task: Task, questions: Sequence[Instance]) -> Json | None:
    """The scores of the most frequent label; None if the task has no labels."""
    shares = _shares(task, questions)
    if not shares:
        return None
    highest = max(shares)
    return {
        "accuracy": round(highest, DIGITS),
        "f1_macro": round(2 * highest / (1 + highest) / len(shares), DIGITS),
    }


def _shares(task: Task, questions: Sequence[Instance]) -> list[float]:
    if not task.classes:
        return []
    counts = Counter(question.gold[0] for question in questions)
    return [counts[number] / len(questions) for number in range(len(task.classes))]


def best_student(found: Json) -> str | None:
    """The student with the highest score; None if none was asked."""
    students, metric = found["students"], found["metric"]
    return max(students, key=lambda name: students[name][metric]["value"], default=None)


def above_chance(found: Json) -> bool | None:
    """Whether the interval of the best student's score lies above chance and a small margin; None if none was asked."""
    if (best := best_student(found)) is None:
        return None
    metric = found["metric"]
    return bool(found["students"][best][metric]["low"] > found["chance"][metric] + MARGIN)


def _leaks(task: Task, made: Sequence[MadeRow], questions: Sequence[Instance], seed: int) -> Json | None:
    """How well a student predicts the label from what was drawn before the label: the context, the seed's position.

    Here rows with the same context may be split between folds: a context that goes with one label only is a leak.
    """
    if not task.labels:
        return None
    sources = {
        "context": [item.context for item in made],
        "seed_position": [None if item.seed_position is None else str(item.seed_position) for item in made],
    }
    found: Json = {}
    for name, texts in sources.items():
        told = [
            replace(
                question,
                options=((text,),),
                answers=len(task.labels),
                group=question.row // task.rows_per_slot,
            )
            for question in questions
            if (text := texts[question.row])
        ]
        if len({question.options for question in told}) < 2 or too_few(task, told) is not None:
            found[name] = None
            continue
        answered = cross_validated(BagOfWords(), told, folds(told, rng(seed, task.name, "learnability", name)))
        weights = group_weights(answered, rng(seed, task.name, "learnability", name, "resamples"))
        found[name] = {
            "accuracy": _rounded(accuracy(answered, weights)),
            "majority": _majority(task, told),
            "by_label": {
                label.name: round(_balanced(answered, number), DIGITS) for number, label in enumerate(task.labels)
            },
        }
    return found


def _balanced(answered: Sequence[Answer], label: int) -> float:
    """How well one label is told from the others: the mean of both groups' shares of right answers; 0.5 is chance."""
    hits = [answer.predicted == label for answer in answered if answer.gold[0] == label]
    refusals = [answer.predicted != label for answer in answered if answer.gold[0] != label]
    return (sum(hits) / len(hits) + sum(refusals) / max(1, len(refusals))) / 2
