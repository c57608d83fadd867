"""The answers of a cell as numbers, unit by unit, read from its predictions and checked against its scores."""

import collections
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from eval.scoring.metric_kinds import ClassMetric, GroupMetric, PairMetric, Prediction, RowMetric
from eval.scoring.metrics import METRICS
from eval.scoring.runs import RunScore
from eval.statistics.resampling import NO_CLASS, ROUNDING, Answers, Floats, Ints, scores
from targen.runtime.errors import UserError
from targen.runtime.jsonl import Json, read_jsonl
from targen.tasks.task import Task

LINES_AT_ONCE = 200  # few enough for their objects to be freed before the garbage collector looks at them


@dataclass(frozen=True)
class Sample:
    """One kind of unit of a task, rows or pairs: the gold class of each (NO_CLASS if there are no classes), the answers, and the
    number of each unit's cluster if units are not independent."""

    gold: Ints
    labels: int
    answers: Answers
    clusters: Ints | None = None


@dataclass(frozen=True)
class CellAnswers:
    """The answers of a cell to a task; `questions` is a hash, equal for equal questions in equal order."""

    questions: str
    samples: tuple[Sample, ...]


class PredictionCache:
    """The predictions of runs: each file is read once, and each distinct answer is scored once."""

    def __init__(self) -> None:
        self._cells: dict[Path, CellAnswers | None] = {}
        self._tasks: dict[tuple[str, ...], DistinctAnswers] = {}

    def of(self, metrics: Sequence[RunScore]) -> CellAnswers | None:
        """The answers behind the metrics of one cell on one task; None if they are not stored.

        Raises: UserError if the cell's scores in scores.jsonl do not match them.
        """
        path = metrics[0].predictions
        if path not in self._cells:
            answers = self._read(path, metrics[0].task)
            if answers is not None:
                _check(answers, metrics, path)
            self._cells[path] = answers
        return self._cells[path]

    def _read(self, path: Path, task: Task | None) -> CellAnswers | None:
        if task is None or not path.is_file():
            return None
        # runs may specify a task differently
        key = (task.name, *(label.name for label in task.classes), "", *task.metrics)
        return _read(path, self._tasks.setdefault(key, DistinctAnswers(task)))


class DistinctAnswers:
    """The distinct (answer, right answers) of a task, numbered in order of appearance, with their values."""

    def __init__(self, task: Task) -> None:
        metrics = [METRICS[name] for name in task.metrics]
        self.labels = [label.name for label in task.classes]
        self.row_metrics = [metric for metric in metrics if isinstance(metric, RowMetric)]
        self.pair_metrics = [metric for metric in metrics if isinstance(metric, PairMetric)]
        self.group_metrics = [metric for metric in metrics if isinstance(metric, GroupMetric)]
        self.class_metrics = [metric for metric in metrics if isinstance(metric, ClassMetric)]
        self.values: dict[str, list[float]] = {metric.name: [] for metric in self.row_metrics}
        self.gold: list[int] = []  # the class of the first right answer
        self.answered: list[int] = []
        self.question: list[int] = []  # equal for equal right answers
        self._numbers: dict[tuple[str | None, ...], int] = {}
        self._questions: dict[tuple[str, ...], int] = {}

    def number(self, row: Json) -> int | None:
        """The number of the answer in a prediction's line; None if it is not a prediction."""
        try:
            key = (row["prediction"], *row["gold"])
            return self._numbers[key] if key in self._numbers else self._add(row, key)
        except (KeyError, TypeError):
            return None

    def _add(self, row: Json, key: tuple[str | None, ...]) -> int | None:
        gold, answer = row["gold"], row["prediction"]
        if not (isinstance(gold, list) and gold and all(isinstance(text, str) for text in gold)):
            return None
        if not (answer is None or isinstance(answer, str)):
            return None
        prediction = Prediction(0, tuple(gold), answer, {})
        for metric in self.row_metrics:
            self.values[metric.name].append(metric.of_row(prediction))
        for text, classes in ((gold[0], self.gold), (answer, self.answered)):
            classes.append(self.labels.index(text) if text in self.labels else NO_CLASS)
        self.question.append(self._questions.setdefault(tuple(gold), len(self._questions)))
        return self._numbers.setdefault(key, len(self._numbers))


def _read(path: Path, distinct: DistinctAnswers) -> CellAnswers:
    answer_numbers: list[int] = []
    ids: list[int] = []
    predictions: list[Prediction] = []
    groups: list[tuple[int, ...]] = []
    for row in _rows(path):
        number, idx = distinct.number(row), row.get("idx")
        if number is None or not isinstance(idx, int):
            raise UserError(
                f"{path}: got {str(row)[:60]} as row {len(ids) + 1}, expected idx, gold and prediction. Evaluate again."
            )
        answer_numbers.append(number)
        ids.append(idx)
        groups.append(_groups(row))
        if distinct.pair_metrics or distinct.group_metrics:
            predictions.append(Prediction(idx, tuple(row["gold"]), row["prediction"], {}, groups=groups[-1]))
    if not ids:
        raise UserError(f"{path}: got no line, expected one for each evaluated row. Evaluate again.")
    numbers = np.array(answer_numbers, dtype=np.int64)
    samples = [
        _rows_sample(distinct, numbers, predictions, groups),
        *([_pairs_sample(distinct, predictions)] if distinct.pair_metrics else []),
    ]
    questions = np.stack([np.array(ids), np.array(distinct.question)[numbers]])
    return CellAnswers(hashlib.sha256(questions.tobytes()).hexdigest(), tuple(samples))


def _groups(row: Json) -> tuple[int, ...]:
    groups = row.get("groups", ())
    return tuple(groups) if isinstance(groups, list) and all(isinstance(group, int) for group in groups) else ()


def _rows_sample(
    distinct: DistinctAnswers, numbers: Ints, predictions: Sequence[Prediction], groups: Sequence[tuple[int, ...]]
) -> Sample:
    gold, answered = (np.array(classes, dtype=np.int64)[numbers] for classes in (distinct.gold, distinct.answered))
    means: dict[str, Floats] = {name: np.array(values)[numbers] for name, values in distinct.values.items()}
    shares: dict[str, Floats] = {}
    for metric in distinct.group_metrics:
        values = {group[0].groups: (metric.of_group(group), 1 / len(group)) for group in metric.groups(predictions)}
        means[metric.name], shares[metric.name] = np.array([values[group] for group in groups]).T
    of_counts = {metric.name: metric.of_counts for metric in distinct.class_metrics}
    answers = Answers(means, answered[:, None] if of_counts else None, of_counts, shares)
    return Sample(gold, len(distinct.labels), answers, _clusters(groups))


def _clusters(groups: Sequence[tuple[int, ...]]) -> Ints | None:
    """The number of each row's largest group, such as its passage; None if no two rows share one."""
    numbers: dict[int, int] = {}
    clusters = [numbers.setdefault(group[0], len(numbers)) for group in groups if group]
    return np.array(clusters, dtype=np.int64) if len(numbers) < len(clusters) == len(groups) else None


def _pairs_sample(distinct: DistinctAnswers, predictions: Sequence[Prediction]) -> Sample:
    means: dict[str, Floats] = {
        metric.name: np.array([metric.of_pair(*pair) for pair in metric.pairs(predictions)])
        for metric in distinct.pair_metrics
    }
    return Sample(np.full(len(predictions) // 2, NO_CLASS), 0, Answers(means))


def _rows(path: Path) -> Iterator[Json]:
    """The objects of a JSONL file, parsed many lines at a time, which is much faster than line by line."""
    lines = [line for line in path.read_bytes().split(b"\n") if line.strip()]
    for start in range(0, len(lines), LINES_AT_ONCE):
        batch = lines[start : start + LINES_AT_ONCE]
        try:
            rows = json.loads(b"[" + b",".join(batch) + b"]")
        except (ValueError, RecursionError):
            rows = []
        if len(rows) != len(batch) or not all(isinstance(row, dict) for row in rows):
            collections.deque(read_jsonl(path), maxlen=0)  # raises with the number of the line
            raise UserError(f"{path}: got two objects on one line, expected one. Evaluate again.")
        yield from rows


def _check(answers: CellAnswers, metrics: Sequence[RunScore], path: Path) -> None:
    """Raises: UserError if the predictions are of other rows, or give a different score than scores.jsonl."""
    values: dict[str, float] = {}
    for sample in answers.samples:
        weights = np.ones((1, len(sample.gold)))
        sample_scores = scores(sample.answers, sample.gold, sample.labels, weights)
        values |= {name: float(value[0]) for name, value in sample_scores.items()}
    count = len(answers.samples[0].gold)
    for score in (run_score.score for run_score in metrics):
        if count != score.n or abs(values[score.metric] - score.value) > ROUNDING:
            raise UserError(
                f"{path}: {score.metric} of its {count} answers is {values[score.metric]:.6f}, expected "
                f"{score.value:.6f} of {score.n} as in scores.jsonl. Evaluate {score.cell} again."
            )


def over_seeds(cells: Sequence[CellAnswers]) -> tuple[Sample, ...]:
    """The samples of an arm that was trained with several seeds: means over them, and the classes that each answered."""
    merged = []
    for samples in zip(*(cell.samples for cell in cells), strict=True):
        first = samples[0]
        means: dict[str, Floats] = {
            name: np.mean([sample.answers.means[name] for sample in samples], axis=0) for name in first.answers.means
        }
        classes = [sample.answers.classes for sample in samples if sample.answers.classes is not None]
        answers = replace(first.answers, means=means, classes=np.hstack(classes) if classes else None)
        merged.append(replace(first, answers=answers))
    return tuple(merged)
