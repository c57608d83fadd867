"""The metrics. A metric is one function and one entry in METRICS; nothing else knows it by name.

An answer that could not be read (None) is wrong, never a default class. docs/evaluation.md says where these metrics differ
from those of lm-evaluation-harness, and why.
"""

import math
import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from eval.scoring.metric_kinds import ClassCounts, ClassMetric, GroupMetric, Metric, PairMetric, Prediction, RowMetric
from targen.runtime.errors import UserError, did_you_mean
from targen.tasks.task import Task

if TYPE_CHECKING:
    from eval.scoring.metric_kinds import Floats

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def is_right(prediction: Prediction) -> float:
    """1 for a right answer, otherwise 0."""
    return float(prediction.prediction in prediction.gold)


def macro_f1(counts: ClassCounts) -> "Floats":
    """Unweighted mean of the classes' F1 = 2 right / (answered + gold), 0 for a class that never occurs."""
    import numpy as np

    totals = counts.answered + counts.gold
    class_f1: Floats = np.divide(2 * counts.right, totals, out=np.zeros_like(totals), where=totals > 0)
    mean: Floats = class_f1.mean(axis=-1)
    return mean


def mean_places_off(counts: ClassCounts) -> "Floats":
    """Mean absolute error, in labels."""
    mean: Floats = counts.off / counts.gold.sum(axis=-1)
    return mean


def quadratic_kappa(counts: ClassCounts) -> "Floats":
    """Cohen's kappa with quadratic weights, 1 if all labels and answers are the same one. Source: Cohen, Psychol. Bull. 70 (1968).

    The expected disagreement is that of the gold labels with the readable answers.
    """
    import numpy as np

    positions = np.arange(counts.gold.shape[-1], dtype=float)
    squares = (positions[:, None] - positions) ** 2
    by_chance = np.einsum("...i,ij,...j->...", counts.gold, squares, counts.answered)
    readable = counts.answered.sum(axis=-1)
    expected = np.divide(by_chance, readable, out=np.zeros_like(by_chance), where=readable > 0)
    share = np.divide(counts.off_squared, expected, out=np.zeros_like(expected), where=expected > 0)
    kappa: Floats = np.where((expected > 0) | (counts.off_squared == 0), 1 - share, 0.0)
    return kappa


def f1_of_first(counts: ClassCounts) -> "Floats":
    """F1 of the first label; every wrong answer, readable or not, counts against it. Source: F1a of MultiRC, Khashabi et al., NAACL 2018."""
    import numpy as np

    right, wrong = 2 * counts.right[..., 0], (counts.gold - counts.right).sum(axis=-1)
    score: Floats = np.divide(right, right + wrong, out=np.zeros_like(right), where=right + wrong > 0)
    return score


def all_right(group: Sequence[Prediction]) -> float:
    """1 for a group whose answers are all right. Source: exact match of MultiRC, arXiv 1905.00537, section 3.2."""
    return float(all(map(is_right, group)))


def matthews_correlation(counts: ClassCounts) -> "Floats":
    """The correlation of answers and labels, 0 if either is always the same; an unreadable answer is a class of its own.

    Source: Matthews, Biochim. Biophys. Acta 405 (1975); for more than two classes Gorodkin, Comput. Biol. Chem. 28 (2004).
    """
    import numpy as np

    rows = counts.gold.sum(axis=-1)
    unreadable = rows - counts.answered.sum(axis=-1)
    covariance = counts.right.sum(axis=-1) * rows - (counts.answered * counts.gold).sum(axis=-1)
    answer_variance = rows**2 - (counts.answered**2).sum(axis=-1) - unreadable**2
    spread = np.sqrt(np.maximum(answer_variance * (rows**2 - (counts.gold**2).sum(axis=-1)), 0.0))
    correlation: Floats = np.divide(covariance, spread, out=np.zeros_like(spread), where=spread > 0)
    return correlation


def same_answer(first: Prediction, second: Prediction) -> float:
    """1 for a pair with equal, readable answers. Source: gender parity of SuperGLUE, arXiv 1905.00537, section 3.3."""
    return float(first.prediction is not None and first.prediction == second.prediction)


def token_f1(prediction: Prediction) -> float:
    """Token F1, best over the right answers."""
    return max(_token_f1(prediction.prediction, gold) for gold in prediction.gold)


def exact_match(prediction: Prediction) -> float:
    """1 for an answer that equals a right one up to case, ASCII punctuation and articles."""
    answer = prediction.prediction
    return float(answer is not None and _normalised(answer) in {_normalised(gold) for gold in prediction.gold})


def _token_f1(predicted: str | None, gold: str) -> float:
    """F1 of the bags of words; 0 if they share no word, even if both texts are empty after normalisation.

    Source: the evaluation scripts of SQuAD 1.1 and ReCoRD. SQuAD 2.0's, which the harness uses, gives 1 for two empty texts.
    """
    if predicted is None:
        return 0.0
    predicted_words, gold_words = _normalised(predicted).split(), _normalised(gold).split()
    shared = sum((Counter(predicted_words) & Counter(gold_words)).values())
    return 2 * shared / (len(predicted_words) + len(gold_words)) if shared else 0.0


def _normalised(text: str) -> str:
    """The text as the SQuAD and ReCoRD scripts normalise it. Source: arXiv 1810.12885 (ReCoRD), evaluation script."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        RowMetric("accuracy", "accuracy", is_right),
        ClassMetric("f1_macro", "macro-F1", macro_f1),
        # a constant answer scores 1.0, so this is meaningless without accuracy
        PairMetric("gender_parity", "gender parity", same_answer, in_task_score=False),
        # for labels that have an order; tables show a hundred times each value
        ClassMetric("quadratic_kappa", "quadratic kappa", quadratic_kappa, lowest=-1.0, in_task_score=False),
        ClassMetric(
            "mean_absolute_error",
            "error in labels x 100 (low is good)",
            mean_places_off,
            highest=math.inf,
            in_task_score=False,
        ),
        ClassMetric("matthews_correlation", "Matthews correlation", matthews_correlation, lowest=-1.0),
        ClassMetric("f1a", "F1a", f1_of_first),
        GroupMetric("question_em", "exact match per question", all_right),
        RowMetric("record_f1", "token F1", token_f1),
        RowMetric("record_em", "exact match", exact_match),
    )
}


def metric_title(name: str) -> str:
    """The name of a metric in tables and figures; metrics of the OpenLLM tasks keep their names."""
    return METRICS[name].title if name in METRICS else name


def check_metrics(tasks: Mapping[str, Task]) -> None:
    """Raises: UserError with a line for each metric that is unknown, or that its task cannot have."""
    problems = []
    for task in tasks.values():
        for position, name in enumerate(task.metrics):
            if name not in METRICS:
                expected = f"expected one of {', '.join(METRICS)}. {did_you_mean(name, METRICS)}"
                problems.append(f"tasks.{task.name}.metrics.{position}: got {name!r}, {expected}")
            elif isinstance(metric := METRICS[name], ClassMetric) and not task.classes:
                problems.append(f"tasks.{task.name}.metrics.{position}: {metric.without_labels()}")
            elif isinstance(METRICS[name], GroupMetric) and not task.answer_labels:
                expected = "expected a metric of rows: only a task whose rows hold several answers (MultiRC) has groups. Change it."
                problems.append(f"tasks.{task.name}.metrics.{position}: got {name}, {expected}")
    if problems:
        raise UserError("\n".join(problems))


def score(task: Task, predictions: Sequence[Prediction]) -> dict[str, float]:
    """Every metric of the task. Raises: UserError if there are no rows, or the right answer of one is hidden."""
    if not predictions:
        raise UserError(f"{task.folder}: got no row, expected at least one to be scored.")
    for prediction in predictions:
        if not prediction.gold:
            raise UserError(
                f"{task.folder}: row {prediction.idx}: the label is hidden, expected a labelled row. Score a labelled split; "
                "eval.submission=true writes answers to a hidden one."
            )
    labels = [label.name for label in task.classes]
    return {name: METRICS[name](predictions, labels) for name in task.metrics}


def task_score(values: Mapping[str, float]) -> float:
    """The score of a task: the mean of its metrics, as in SuperGLUE (CB, ReCoRD).

    AX-g counts with its accuracy alone: a model that always gives the same answer has a gender parity of 1.0.
    Raises: ValueError if no other metric is given.
    """
    counted = [value for name, value in values.items() if name not in METRICS or METRICS[name].in_task_score]
    if not counted:
        raise ValueError(f"got only the metrics {sorted(values)}, none of which counts in the score of a task")
    return fmean(counted)


def average(by_task: Mapping[str, Mapping[str, float]]) -> float | None:
    """The unweighted mean over the tasks; None if one of them has no score yet.

    SuperGLUE's own average leaves out AX-g and includes MultiRC, so this average over the paper's tasks is not comparable to
    the leaderboard's.
    """
    if not by_task or not all(by_task.values()):
        return None
    return fmean(task_score(metrics) for metrics in by_task.values())
