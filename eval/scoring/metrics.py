"""The official metrics. An answer that could not be read (None) is wrong, never a default class.

docs/evaluation.md says where they differ from those of lm-evaluation-harness, and why.
"""

import re
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from targen.runtime.errors import UserError
from targen.tasks.task import Example, Metric, Task

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True)
class Prediction:
    """What a model answered to one example. `gold` are the right answers: one label, or several texts (ReCoRD)."""

    idx: int
    gold: tuple[str, ...]
    prediction: str | None
    scores: dict[str, float]
    text: str | None = None  # what the model wrote, where it was left to write


def accuracy(predictions: Sequence[Prediction], labels: Sequence[str]) -> float:
    return sum(p.prediction in p.gold for p in predictions) / len(predictions)


def f1_macro(predictions: Sequence[Prediction], labels: Sequence[str]) -> float:
    """Unweighted mean of the F1 of the task's fixed classes, also of those that never occur."""
    if not labels:
        raise UserError("metrics: got f1_macro for a task without labels, expected record_f1. Change conf/task.")
    from sklearn.metrics import f1_score  # takes a second to import

    gold = [p.gold[0] for p in predictions]
    predicted = [p.prediction or "" for p in predictions]
    return float(f1_score(gold, predicted, labels=list(labels), average="macro", zero_division=0))


def gender_parity(predictions: Sequence[Prediction], labels: Sequence[str]) -> float:
    """Share of pairs with equal predictions; rows 2k and 2k+1 are a pair. Source: SuperGLUE, arXiv 1905.00537, 3.3.

    A constant answer has 1.0: this says nothing without the accuracy. Raises: UserError for rows that are not in pairs.
    """
    ones, twos = predictions[::2], predictions[1::2]
    if len(ones) > len(twos):
        raise UserError(
            f"gender_parity: got {len(predictions)} rows, expected an even number, rows 2k and 2k+1 being a pair. "
            "Put the missing row in."
        )
    for one, two in zip(ones, twos, strict=True):
        if one.idx % 2 or two.idx != one.idx + 1:
            raise UserError(
                f"gender_parity: got the rows {one.idx} and {two.idx} side by side, expected rows 2k and 2k+1, which are a "
                "pair. Put the rows in their official order."
            )
    same = (
        one.prediction is not None and one.prediction == two.prediction for one, two in zip(ones, twos, strict=True)
    )
    return sum(same) / len(ones)


def record_f1(predictions: Sequence[Prediction], labels: Sequence[str]) -> float:
    """Token F1, best over the answers, averaged over queries."""
    return sum(max(_token_f1(p.prediction, gold) for gold in p.gold) for p in predictions) / len(predictions)


def record_em(predictions: Sequence[Prediction], labels: Sequence[str]) -> float:
    """Exact match up to case, ASCII punctuation and articles, best over the answers, averaged over queries."""
    hits = (p.prediction is not None and _bare(p.prediction) in {_bare(gold) for gold in p.gold} for p in predictions)
    return sum(hits) / len(predictions)


def _token_f1(predicted: str | None, gold: str) -> float:
    """F1 of the bags of words; no word in common is 0, also where nothing is left of both texts.

    Source: the evaluation scripts of SQuAD 1.1 and ReCoRD. SQuAD 2.0's, which the harness takes, has 1 for two empty texts.
    """
    if predicted is None:
        return 0.0
    one, two = _bare(predicted).split(), _bare(gold).split()
    shared = sum((Counter(one) & Counter(two)).values())
    return 2 * shared / (len(one) + len(two)) if shared else 0.0


def _bare(text: str) -> str:
    """The text as the SQuAD and ReCoRD scripts compare it. Source: arXiv 1810.12885 (ReCoRD), evaluation script."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


METRICS: dict[Metric, Callable[[Sequence[Prediction], Sequence[str]], float]] = {
    "accuracy": accuracy,
    "f1_macro": f1_macro,
    "gender_parity": gender_parity,
    "record_f1": record_f1,
    "record_em": record_em,
}

METRIC_NAMES = {
    "accuracy": "accuracy",
    "f1_macro": "macro-F1",
    "gender_parity": "gender parity",
    "record_f1": "token F1",
    "record_em": "exact match",
}


def score(task: Task, predictions: Sequence[Prediction]) -> dict[str, float]:
    """Every metric of the task, from 0 to 1. Raises: UserError for no rows, or one whose right answer is hidden."""
    if not predictions:
        raise UserError(f"{task.folder}: got no row, expected at least one to be scored.")
    for prediction in predictions:
        if not prediction.gold:
            raise UserError(
                f"{task.folder}: row {prediction.idx}: the label is hidden, expected a labelled row. Score a labelled split; "
                "eval.submission=true writes answers to a hidden one."
            )
    labels = [label.name for label in task.labels]
    return {name: METRICS[name](predictions, labels) for name in task.metrics}


def task_score(metrics: Mapping[str, float]) -> float:
    """The one number of a task: the mean of its metrics, as SuperGLUE has it (CB, ReCoRD).

    AX-g enters with its accuracy alone: a model that always gives the same answer has a gender parity of 1.0.
    Raises: ValueError where nothing but that is given.
    """
    found = [value for name, value in metrics.items() if name != "gender_parity"]
    if not found:
        raise ValueError(f"got the metrics {sorted(metrics)}, expected one beside gender_parity")
    return fmean(found)


def average(by_task: Mapping[str, Mapping[str, float]]) -> float | None:
    """The unweighted mean over the tasks; None where one of them has no score yet.

    SuperGLUE's own average leaves AX-g out and has MultiRC in: over the tasks of the paper this is another number, not to
    be put beside the leaderboard's.
    """
    if not by_task or not all(by_task.values()):
        return None
    return fmean(task_score(metrics) for metrics in by_task.values())


def gold_of(task: Task, example: Example) -> tuple[str, ...]:
    """The right answers as predictions name them: label names, or texts where the task has no labels."""
    if task.labels:
        return tuple(task.labels[place].name for place in example.gold)
    return example.answers


def options_of(task: Task, example: Example) -> tuple[str, ...]:
    """What a prediction can be: label names, or the texts to choose from."""
    return tuple(label.name for label in task.labels) or example.choices


def majority(task: Task, examples: Sequence[Example]) -> list[Prediction]:
    """The baseline: always the label that is most frequent among these examples, ReCoRD: the entity mentioned most often.

    It looks at the gold labels, so no other constant answer scores higher in accuracy.
    """
    counts = Counter(gold for example in examples for gold in gold_of(task, example))
    constant = max((label.name for label in task.labels), key=lambda name: counts[name]) if task.labels else None
    return [
        Prediction(example.id, gold_of(task, example), constant or _most_mentioned(example), {}) for example in examples
    ]


def _most_mentioned(example: Example) -> str:
    text = example.fields["passage"]
    return max(example.choices, key=lambda choice: len(re.findall(rf"(?<!\w){re.escape(choice)}(?!\w)", text)))
