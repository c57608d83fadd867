"""The cells of a study: the answers of a student that was taught the rows of a level. Each is computed once and logged at once."""

import hashlib
import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.scoring.metric_kinds import Prediction
from eval.scoring.metrics import METRICS
from eval.study.rows.levels import Level, TrainingRows
from eval.study.rows.material import Material
from targen.quality.instances import instances_of
from targen.quality.scores import single_threaded
from targen.quality.students import Student, answer_probabilities
from targen.runtime.errors import UserError
from targen.runtime.jsonl import AppendLog, Json, read_jsonl
from targen.runtime.signals import raise_if_stopped
from targen.tasks.task import Row, Task

log = logging.getLogger(__name__)
SCORES = ("accuracy", "f1_macro")  # names in METRICS
FIELDS = ("key", "part", "level", "task", "student", "seed", "sources", "accuracy", "f1_macro", "predictions")


@dataclass(frozen=True)
class Cell:
    """One student of one level and seed. `sources` are its rows by source; `predictions` the label of each evaluation row."""

    key: str
    part: str
    level: str
    task: str
    student: str
    seed: int
    sources: dict[str, int]
    taught: str  # hash of the training rows
    evaluation: str  # hash of the evaluation rows
    accuracy: float
    f1_macro: float
    predictions: tuple[str, ...]


class CellLog:
    """`cells.jsonl`, which grows by a line per cell. Cells that were taught the same rows share their answers."""

    def __init__(self, path: Path) -> None:
        self._log = AppendLog(path)  # cuts off a line that a kill left incomplete
        self._cells: dict[str, Cell] = {}
        self._answers: dict[tuple[str, ...], tuple[str, ...]] = {}
        for number, record in read_jsonl(path):
            self._add(_cell_of(record, f"{path}:{number}"))

    def cell(self, material: Material, level: Level, student: Student, seed: int) -> Cell:
        """The cell, computed if it is not on record."""
        training = level.training_rows(seed, student)
        training_hash = rows_key(material.task, training.rows)
        task, evaluation_hash = material.task, material.evaluation.hash
        names = (level.part, level.name, task.name, student.name, str(seed), training_hash, evaluation_hash)
        key = hashlib.sha256(json.dumps(names).encode()).hexdigest()[:24]
        if key not in self._cells:
            predictions = self._answers.get((task.name, student.name, training_hash, evaluation_hash))
            if predictions is None:
                predictions = predicted_labels(material, training, student)
            scores = scores_of(material, predictions)
            cell = Cell(
                key, level.part, level.name, task.name, student.name, seed, dict(training.sources), training_hash,
                evaluation_hash, scores["accuracy"], scores["f1_macro"], predictions,
            )  # fmt: skip
            self._log.append({**vars(cell), "predictions": list(predictions)})
            self._add(cell)
        return self._cells[key]

    def _add(self, cell: Cell) -> None:
        self._cells[cell.key] = cell
        self._answers[cell.task, cell.student, cell.taught, cell.evaluation] = cell.predictions

    def __len__(self) -> int:
        return len(self._cells)

    def close(self) -> None:
        """Closes the file."""
        self._log.close()


def _cell_of(record: Json, where: str) -> Cell:
    try:
        return Cell(**{**record, "predictions": tuple(record["predictions"])})
    except (KeyError, TypeError):
        raise UserError(f"{where}: got a line that is no cell, expected {', '.join(FIELDS)}. Remove it.") from None


def rows_key(task: Task, rows: Iterable[Row]) -> str:
    """A hash of texts and labels, equal for the same rows in any order."""
    texts = sorted(json.dumps([task.view(row), task.gold_option(row)]) for row in rows)
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]


def predicted_labels(material: Material, training: TrainingRows, student: Student) -> tuple[str, ...]:
    """The label that the student gives to each evaluation row."""
    with single_threaded():
        probabilities = answer_probabilities(student, instances_of(material.task, training.rows), material.questions)
    return tuple(material.task.labels[int(probability.argmax())].name for probability in probabilities)


def scores_of(material: Material, predictions: Sequence[str]) -> dict[str, float]:
    """Accuracy and macro-F1, by the project's metrics."""
    labels = [label.name for label in material.task.labels]
    pairs = zip(material.questions, predictions, strict=True)
    scored = [Prediction(idx, (labels[question.gold[0]],), answer, {}) for idx, (question, answer) in enumerate(pairs)]
    return {name: METRICS[name](scored, labels) for name in SCORES}


def cells_of_task(
    log_file: CellLog, material: Material, levels: Sequence[Level], students: Sequence[Student], seeds: Sequence[int]
) -> list[Cell]:
    """All cells of a task."""
    cells = []
    for level in levels:
        for student in students:
            for seed in seeds:
                raise_if_stopped()
                cells.append(log_file.cell(material, level, student, seed))
    return cells
