"""What a cell answered, unit by unit, as numbers: read from its predictions and held against its scores."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eval.metrics import METRICS, Prediction
from eval.results import Result, task_specs
from eval.statistics import NO_CLASS, ROUNDING, Answers, Floats, Ints, scores
from targen.errors import UserError
from targen.jsonl import Json, read_jsonl

PAIRED = frozenset({"gender_parity"})  # metrics over pairs of rows
NOT_MEANS = frozenset({"f1_macro"})


@dataclass(frozen=True)
class Sample:
    """One kind of unit of a task, rows or pairs: the right class of each where there are classes, and what was answered."""

    gold: Ints
    labels: int
    answers: Answers


@dataclass(frozen=True)
class CellAnswers:
    """The answers of a cell to a task; `asked` is equal for equal questions in equal order."""

    asked: str
    samples: tuple[Sample, ...]


class Archive:
    """The predictions of runs; each file is read once, and each distinct answer is scored once."""

    def __init__(self) -> None:
        self._cells: dict[Path, CellAnswers | None] = {}
        self._values: dict[tuple[str, str, str | None, tuple[str, ...]], float] = {}

    def of(self, metrics: Sequence[Result]) -> CellAnswers | None:
        """The answers behind the metrics of one cell on one task; None where they are not kept.

        Raises: UserError where they do not give its scores.
        """
        path = metrics[0].predictions
        if path not in self._cells:
            self._cells[path] = self._read(path, metrics[0].score.task) if path.is_file() else None
            if (found := self._cells[path]) is not None:
                _check(found, metrics, path)
        return self._cells[path]

    def _read(self, path: Path, task: str) -> CellAnswers:
        spec = task_specs()[task]
        names = [label.name for label in spec.labels]
        predictions = [_prediction(row, f"{path}:{number}") for number, row in read_jsonl(path)]
        if not predictions:
            raise UserError(f"{path}: got no line, expected one for each evaluated row. Evaluate again.")
        asked = hashlib.sha256(repr([(p.idx, p.gold) for p in predictions]).encode()).hexdigest()
        classes = {name: place for place, name in enumerate(names)}
        gold = _numbers([classes.get(p.gold[0], NO_CLASS) for p in predictions])
        answered = _numbers([classes.get(p.prediction or "", NO_CLASS) for p in predictions])
        rows = {
            name: np.array([self._value(task, name, prediction, names) for prediction in predictions])
            for name in spec.metrics
            if name not in PAIRED | NOT_MEANS
        }
        found = [Sample(gold, len(names), Answers(rows, answered[:, None] if "f1_macro" in spec.metrics else None))]
        paired = [name for name in spec.metrics if name in PAIRED]
        if paired:
            pairs = [predictions[place : place + 2] for place in range(0, len(predictions), 2)]
            means = {name: np.array([float(METRICS[name](pair, names)) for pair in pairs]) for name in paired}
            found.append(Sample(_numbers([NO_CLASS] * len(pairs)), 0, Answers(means)))
        return CellAnswers(asked, tuple(found))

    def _value(self, task: str, metric: str, prediction: Prediction, labels: Sequence[str]) -> float:
        key = (task, metric, prediction.prediction, prediction.gold)
        if key not in self._values:
            self._values[key] = float(METRICS[metric]([prediction], labels))
        return self._values[key]


def _numbers(values: Sequence[int]) -> Ints:
    return np.array(values, dtype=np.int64)


def _prediction(row: Json, where: str) -> Prediction:
    idx, gold, answer = row.get("idx"), row.get("gold"), row.get("prediction")
    texts = isinstance(gold, list) and bool(gold) and all(isinstance(text, str) for text in gold)
    if not (isinstance(idx, int) and texts and (answer is None or isinstance(answer, str))):
        raise UserError(f"{where}: got {str(row)[:60]}, expected idx, gold and prediction. Evaluate again.")
    return Prediction(idx, tuple(gold or ()), answer, {})


def _check(found: CellAnswers, metrics: Sequence[Result], path: Path) -> None:
    """Raises: UserError where the predictions are of other rows, or give another score."""
    values: dict[str, float] = {}
    for sample in found.samples:
        every = np.ones((1, len(sample.gold)))
        own = scores(sample.answers, sample.gold, sample.labels, every)
        values |= {name: float(value[0]) for name, value in own.items()}
    for score in (result.score for result in metrics):
        count = len(found.samples[0].gold)
        if count != score.n or abs(values[score.metric] - score.value) > ROUNDING:
            raise UserError(
                f"{path}: {score.metric} of its {count} answers is {values[score.metric]:.6f}, in scores.jsonl it is "
                f"{score.value:.6f} of {score.n}. Evaluate {score.cell} again."
            )


def over_seeds(cells: Sequence[CellAnswers]) -> tuple[Sample, ...]:
    """The samples of an arm that was trained with several seeds: means over them, and the classes that each answered."""
    found = []
    for own in zip(*(cell.samples for cell in cells), strict=True):
        first = own[0]
        means: dict[str, Floats] = {
            name: np.mean([sample.answers.means[name] for sample in own], axis=0) for name in first.answers.means
        }
        classes = [sample.answers.classes for sample in own if sample.answers.classes is not None]
        found.append(Sample(first.gold, first.labels, Answers(means, np.hstack(classes) if classes else None)))
    return tuple(found)
