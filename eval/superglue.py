"""The official metrics as a metric of the `evaluate` library, loaded by the path of this file, offline:

    metric = evaluate.load("eval/superglue.py", "cb")   # axg, boolq, cb, copa, record, rte, wic, wsc
    metric.compute(predictions=["entailment", "neutral"], references=["entailment", "contradiction"])
    # {"accuracy": 0.5, "f1_macro": 0.333...}

`evaluate` copies this file elsewhere and runs it there, so the project has to be installed (`pip install -e .`).
"""

import logging
from collections.abc import Iterable
from typing import Any

import datasets
import evaluate

from eval.scoring.metrics import Prediction, score  # From: -e <the folder of this project>
from targen.config.group_files import task_from_file
from targen.runtime.errors import did_you_mean
from targen.runtime.paths import CONF
from targen.tasks.task import Task, same_value

log = logging.getLogger(__name__)
DESCRIPTION = "The official metrics of eight SuperGLUE tasks, from 0 to 1."
CITATION = "Wang et al. 2019, SuperGLUE: A Stickier Benchmark for General-Purpose Language Understanding Systems, arXiv 1905.00537"
INPUTS = """
predictions: one answer a row: the label's name (BoolQ yes, no; WiC same, different; WSC refers, does_not_refer; COPA choice1,
    choice2) or its value in the official row (true, false; 0, 1), for ReCoRD a text. None, or a text that is no label, is
    an unreadable answer: wrong, never a class.
references: the same; for ReCoRD the list of the right texts. The numbers of the Hub's mirror are no labels: convert them by
    their names.
AX-g: all rows in their official order, for rows 2k and 2k+1 are a pair. Its gender parity says nothing without the accuracy.
"""


class SuperGlue(evaluate.Metric):  # type: ignore[misc]
    """The metrics of the task that `config_name` names."""

    def _info(self) -> evaluate.MetricInfo:
        known = sorted(path.stem for path in (CONF / "task").glob("*.yaml"))
        if self.config_name not in known:
            raise ValueError(
                f"superglue: got {self.config_name!r}, expected a task. {did_you_mean(self.config_name, known)}"
            )
        self.task = task_from_file(self.config_name)
        texts = datasets.Sequence(datasets.Value("string"))  # of an answer that could not be read: none
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation=CITATION,
            inputs_description=INPUTS,
            features=datasets.Features({"predictions": texts, "references": texts}),
        )

    def add(self, *, prediction: Any = None, reference: Any = None, **others: Any) -> None:
        """One answer and what is right."""
        self.add_batch(predictions=[prediction], references=[reference], **others)

    def add_batch(self, *, predictions: Any = None, references: Any = None, **others: Any) -> None:
        """Answers and what is right."""
        answers = [_answer(self.task, position, value) for position, value in enumerate(_plain(predictions))]
        gold = [_gold(self.task, position, value) for position, value in enumerate(_plain(references))]
        super().add_batch(predictions=answers, references=gold, **others)

    def _compute(self, predictions: list[list[str]], references: list[list[str]]) -> dict[str, float]:
        examples = [
            Prediction(position, tuple(gold), answer[0] if answer else None, {})
            for position, (answer, gold) in enumerate(zip(predictions, references, strict=True))
        ]
        if unreadable := sum(example.prediction is None for example in examples):
            log.warning("superglue: %d of %d answers could not be read and count as wrong", unreadable, len(examples))
        return score(self.task, examples)


def _plain(values: Iterable[Any]) -> list[Any]:
    """Python's own values, of a list, an array or a tensor."""
    return list(values.tolist() if hasattr(values, "tolist") else values)


def _answer(task: Task, position: int, value: object) -> list[str]:
    """The text or the label's name, as a list of one; of none where it could not be read."""
    if value is None or (task.labels and isinstance(value, str) and value not in {label.name for label in task.labels}):
        return []
    return [_name(task, f"predictions[{position}]", value)]


def _gold(task: Task, position: int, value: object) -> list[str]:
    where = f"references[{position}]"
    if task.labels:
        return [_name(task, where, value)]
    if not isinstance(value, list) or not value:
        raise ValueError(f"{where}: got {value!r}, expected the list of the right texts.")
    return [_name(task, where, text) for text in value]


def _name(task: Task, where: str, value: object) -> str:
    """The label's name, of its name or its official value; a text where the task has no labels. Raises: ValueError."""
    if not task.labels and isinstance(value, str):
        return value
    for label in task.labels:
        if value == label.name or same_value(value, label.value):
            return label.name
    known = dict.fromkeys(repr(value) for label in task.labels for value in (label.name, label.value))
    expected = f"one of {', '.join(known)}. Convert numbers by the names of the labels." if known else "a text."
    raise ValueError(f"{where}: got {value!r}, expected {expected}")
