"""Learnability: how well small students learn a data set's own labels from it. It needs no original row.

Each student answers questions of folds that it was not taught. A set on which the best of them is hardly above chance
teaches little: a model cannot read the labels from its rows. Rows that share a context or a text are never split between
folds, or topics would count as labels.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from targen.quality.instances import Instance, instances_of
from targen.quality.scores import (
    ScoreSample,
    StudentAnswer,
    accuracy,
    cross_validated_answers,
    folds,
    group_weights,
    macro_f1,
)
from targen.quality.students import BagOfWords, Student
from targen.runtime.jsonl import Json
from targen.runtime.randomness import rng
from targen.tasks.task import Row, Task

MIN_PER_LABEL, MIN_QUESTIONS = 10, 40  # with fewer, intervals are so wide that they always include chance
MARGIN = 0.03  # above chance, which the lower bound of the best score must exceed
LISTED = 5  # hardest rows per label
DIGITS = 3
METRIC_NAMES = {"f1_macro": "macro-F1", "accuracy": "accuracy"}


@dataclass(frozen=True)
class RowWithProvenance:
    """A synthetic row with parts of its provenance. `seed_position` is the index of its instance seed in the answer of a call."""

    row: Row
    context: str | None
    seed_position: int | None = None


def learnability(task: Task, rows: Sequence[RowWithProvenance], students: Sequence[Student], seed: int) -> Json:
    """The entry `learnability` of stats.json: scores beside chance and majority, the hardest rows, and leaks from the context."""
    official_rows = [item.row for item in rows]
    questions = instances_of(task, official_rows, [item.context for item in rows])
    reason = why_too_few(task, questions) if students else "no student is installed"
    if reason is not None:
        return {"questions": len(questions), "not_measured": reason}
    fold_of = folds(questions, rng(seed, task.name, "learnability", "folds"))
    scores = {}
    for student in students:
        student_answers = cross_validated_answers(student, questions, fold_of)
        scores[student.name.replace(" ", "_")] = _scores(task, student_answers, seed) | {
            "hardest": _hardest(task, student_answers, official_rows)
        }
    entry: Json = {
        "questions": len(questions),
        "groups": len({question.group for question in questions}),
        "metric": "f1_macro" if task.classes else "accuracy",
        "chance": _chance(task, questions),
        "majority": _majority(task, questions),
        "students": scores,
    }
    return entry | {"above_chance": above_chance(entry), "context_leak": _leaks(task, rows, questions, seed)}


def sample_rows(task: Task, rows: Sequence[RowWithProvenance], seed: int, at_most: int) -> list[RowWithProvenance]:
    """At most `at_most` rows, drawn in whole instances, in their order."""
    step = task.rows_per_slot
    if len(rows) <= at_most:
        return list(rows)
    starts = list(range(0, len(rows), step))
    chosen_starts = sorted(rng(seed, task.name, "learnability", "sample").sample(starts, max(1, at_most // step)))
    return [item for start in chosen_starts for item in rows[start : start + step]]


def why_too_few(task: Task, questions: Sequence[Instance]) -> str | None:
    """Why there are too few questions for a score; None if there are enough."""
    if not questions:
        return "no labelled row"
    if len(questions) < MIN_QUESTIONS:
        return f"{len(questions)} questions, expected at least {MIN_QUESTIONS}"
    if len(questions[0].options) > 1:
        return None
    counts = Counter(question.gold[0] for question in questions)
    rare = [
        f"{counts[number]} of {label.name}"
        for number, label in enumerate(task.classes)
        if counts[number] < MIN_PER_LABEL
    ]
    more = f" and {len(rare) - 3} labels more" if len(rare) > 3 else ""
    return f"{' and '.join(rare[:3])}{more}, expected at least {MIN_PER_LABEL} rows per label" if rare else None


def _scores(task: Task, answered: Sequence[StudentAnswer], seed: int) -> Json:
    weights = group_weights(answered, rng(seed, task.name, "learnability", "resamples"))
    scores = {"accuracy": _rounded(accuracy(answered, weights))}
    if task.classes:
        scores["f1_macro"] = _rounded(macro_f1(answered, len(task.classes), weights))
    return scores


def _rounded(score: ScoreSample) -> Json:
    low, high = score.bounds
    return {"value": round(score.value, DIGITS), "low": round(low, DIGITS), "high": round(high, DIGITS)}


def _hardest(task: Task, answered: Sequence[StudentAnswer], rows: Sequence[Row]) -> dict[str, list[int]]:
    """By label, the idx of the rows whose gold answer got the lowest probability, the lowest first."""
    by_label: dict[str, list[tuple[float, int]]] = {}
    for answer in answered:
        name = task.classes[answer.gold[0]].name if task.classes else "answer"
        by_label.setdefault(name, []).append((round(answer.probability, DIGITS), rows[answer.row]["idx"]))
    order = [label.name for label in task.classes] or ["answer"]
    ranked = {name: [idx for _, idx in sorted(by_label.get(name, []))] for name in order}
    return {name: list(dict.fromkeys(indices))[:LISTED] for name, indices in ranked.items()}


def _chance(task: Task, questions: Sequence[Instance]) -> Json:
    """The expected scores of an answer at random. F1 of a label with the share s of k: 2 s / (k s + 1)."""
    expected = sum(len(question.gold) / question.answers for question in questions) / len(questions)
    scores = {"accuracy": round(expected, DIGITS)}
    if shares := _shares(task, questions):
        scores["f1_macro"] = round(sum(2 * share / (len(shares) * share + 1) for share in shares) / len(shares), DIGITS)
    return scores


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


def best_student(entry: Json) -> str | None:
    """The student with the highest score; None if there is none."""
    students, metric = entry["students"], entry["metric"]
    return max(students, key=lambda name: students[name][metric]["value"], default=None)


def above_chance(entry: Json) -> bool | None:
    """Whether the interval of the best student's score lies above chance by a small margin; None if there is no student."""
    if (best := best_student(entry)) is None:
        return None
    metric = entry["metric"]
    return bool(entry["students"][best][metric]["low"] > entry["chance"][metric] + MARGIN)


def _leaks(task: Task, rows: Sequence[RowWithProvenance], questions: Sequence[Instance], seed: int) -> Json | None:
    """How well a student predicts the label from the context alone, and from the seed's position alone.

    Here rows with the same context may be split between folds: a context that goes with one label only is a leak.
    """
    if not task.labels:
        return None
    sources = {
        "context": [item.context for item in rows],
        "seed_position": [None if item.seed_position is None else str(item.seed_position) for item in rows],
    }
    leaks: Json = {}
    for name, texts in sources.items():
        probes = [
            replace(
                question,
                options=((text,),),
                answers=len(task.labels),
                group=question.row // task.rows_per_slot,
            )
            for question in questions
            if (text := texts[question.row])
        ]
        if len({question.options for question in probes}) < 2 or why_too_few(task, probes) is not None:
            leaks[name] = None
            continue
        answered = cross_validated_answers(
            BagOfWords(), probes, folds(probes, rng(seed, task.name, "learnability", name))
        )
        weights = group_weights(answered, rng(seed, task.name, "learnability", name, "resamples"))
        leaks[name] = {
            "accuracy": _rounded(accuracy(answered, weights)),
            "majority": _majority(task, probes),
            "by_label": {
                label.name: round(_balanced(answered, number), DIGITS) for number, label in enumerate(task.labels)
            },
        }
    return leaks


def _balanced(answered: Sequence[StudentAnswer], label: int) -> float:
    """Balanced accuracy of one label against the others: the mean of both groups' shares of right answers; 0.5 is chance."""
    hits = [answer.predicted == label for answer in answered if answer.gold[0] == label]
    refusals = [answer.predicted != label for answer in answered if answer.gold[0] != label]
    return (sum(hits) / len(hits) + sum(refusals) / max(1, len(refusals))) / 2
