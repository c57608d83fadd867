"""What a cell answered, unit by unit, as numbers: read from its predictions and held against its scores."""

import collections
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eval.scoring.metrics import METRICS, Prediction
from eval.scoring.runs import RunScore, task_specs
from eval.statistics.resampling import NO_CLASS, ROUNDING, Answers, Floats, Ints, scores
from targen.runtime.errors import UserError
from targen.runtime.jsonl import Json, read_jsonl
from targen.tasks.task import Task

PAIRED = frozenset({"gender_parity"})  # metrics over pairs of rows
NOT_MEANS = frozenset({"f1_macro"})
LINES_AT_ONCE = 200  # few enough for their objects to be gone before the garbage collector looks at them


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


class PredictionCache:
    """The predictions of runs: each file is read once, and each distinct answer is scored once."""

    def __init__(self) -> None:
        self._cells: dict[Path, CellAnswers | None] = {}
        self._tasks: dict[str, DistinctAnswers] = {}

    def of(self, metrics: Sequence[RunScore]) -> CellAnswers | None:
        """The answers behind the metrics of one cell on one task; None where they are not kept.

        Raises: UserError where they do not give its scores.
        """
        path, task = metrics[0].predictions, metrics[0].score.task
        if path not in self._cells:
            if task not in self._tasks:
                self._tasks[task] = DistinctAnswers(task_specs()[task])
            self._cells[path] = _read(path, self._tasks[task]) if path.is_file() else None
            if (found := self._cells[path]) is not None:
                _check(found, metrics, path)
        return self._cells[path]


class DistinctAnswers:
    """The distinct (answer, right answers) of a task, numbered as they come, with what each is worth."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.labels = [label.name for label in task.labels]
        self.worth: dict[str, list[float]] = {m: [] for m in task.metrics if m not in PAIRED | NOT_MEANS}
        self.gold: list[int] = []  # the class of the first right answer
        self.answered: list[int] = []
        self.question: list[int] = []  # equal for equal right answers
        self._numbers: dict[tuple[str | None, ...], int] = {}
        self._questions: dict[tuple[str, ...], int] = {}

    def number(self, row: Json) -> int | None:
        """Of a prediction's line; None where the line is none."""
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
        for metric in self.task.metrics:
            if metric in self.worth:
                self.worth[metric].append(float(METRICS[metric]([prediction], self.labels)))
        for text, classes in ((gold[0], self.gold), (answer, self.answered)):
            classes.append(self.labels.index(text) if text in self.labels else NO_CLASS)
        self.question.append(self._questions.setdefault(tuple(gold), len(self._questions)))
        return self._numbers.setdefault(key, len(self._numbers))


def _read(path: Path, distinct: DistinctAnswers) -> CellAnswers:
    metrics, names = distinct.task.metrics, distinct.labels
    paired = [name for name in metrics if name in PAIRED]
    found: list[int] = []
    places: list[int] = []
    every: list[Prediction] = []
    for row in _rows(path):
        number, idx = distinct.number(row), row.get("idx")
        if number is None or not isinstance(idx, int):
            raise UserError(
                f"{path}: got {str(row)[:60]} as row {len(found) + 1}, expected idx, gold and prediction. Evaluate again."
            )
        found.append(number)
        places.append(idx)
        if paired:
            every.append(Prediction(idx, tuple(row["gold"]), row["prediction"], {}))
    if not found:
        raise UserError(f"{path}: got no line, expected one for each evaluated row. Evaluate again.")
    numbers = np.array(found, dtype=np.int64)
    gold, answered = (np.array(classes, dtype=np.int64)[numbers] for classes in (distinct.gold, distinct.answered))
    means: dict[str, Floats] = {metric: np.array(values)[numbers] for metric, values in distinct.worth.items()}
    samples = [Sample(gold, len(names), Answers(means, answered[:, None] if "f1_macro" in metrics else None))]
    if paired:
        pairs = [every[place : place + 2] for place in range(0, len(every), 2)]
        values: dict[str, Floats] = {
            name: np.array([float(METRICS[name](pair, names)) for pair in pairs]) for name in paired
        }
        samples.append(Sample(np.full(len(pairs), NO_CLASS), 0, Answers(values)))
    asked = np.stack([np.array(places), np.array(distinct.question)[numbers]])
    return CellAnswers(hashlib.sha256(asked.tobytes()).hexdigest(), tuple(samples))


def _rows(path: Path) -> Iterator[Json]:
    """The objects of a JSONL file. Many lines are parsed at once, which takes a fraction of the time of line by line."""
    lines = [line for line in path.read_bytes().split(b"\n") if line.strip()]
    for start in range(0, len(lines), LINES_AT_ONCE):
        part = lines[start : start + LINES_AT_ONCE]
        try:
            rows = json.loads(b"[" + b",".join(part) + b"]")
        except ValueError:
            rows = []
        if len(rows) != len(part) or not all(isinstance(row, dict) for row in rows):
            collections.deque(read_jsonl(path), maxlen=0)  # says which line it is
            raise UserError(f"{path}: two objects stand on one line. Evaluate again.")
        yield from rows


def _check(found: CellAnswers, metrics: Sequence[RunScore], path: Path) -> None:
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
