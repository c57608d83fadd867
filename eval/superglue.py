"""The official metrics as a metric of the `evaluate` library, loaded by the path of this file, offline:

    metric = evaluate.load("eval/superglue.py", "cb")   # axb, axg, boolq, cb, copa, multirc, record, rte, wic, wsc
    metric.compute(predictions=["entailment", "neutral"], references=["entailment", "contradiction"])
    # {"accuracy": 0.5, "f1_macro": 0.333...}

`evaluate` copies this file elsewhere and runs it there, so the project has to be installed (`pip install -e .`).
"""

import logging
from typing import Any

import datasets
import evaluate

from eval.scoring.answers import answer_of, groups_of, python_values, right_answers
from eval.scoring.metric_kinds import Prediction
from eval.scoring.metrics import score  # From: -e <the folder of this project>
from targen.config.group_files import task_from_file
from targen.runtime.errors import did_you_mean
from targen.runtime.paths import group_choices

log = logging.getLogger(__name__)
DESCRIPTION = "The official metrics of the SuperGLUE tasks, from 0 to 1; AX-b's correlation from -1 to 1."
CITATION = "Wang et al. 2019, SuperGLUE: A Stickier Benchmark for General-Purpose Language Understanding Systems, arXiv 1905.00537"
INPUTS = """
predictions: one answer per row: the label's name (BoolQ yes, no; WiC same, different; WSC refers, does_not_refer; COPA choice1,
    choice2) or its value in the official row (true, false; 0, 1), or a text for ReCoRD. None, or a text that is not a label, is
    an unreadable answer: it counts as wrong, never as a class.
references: the same; for ReCoRD the list of the right texts. The integer labels of the Hub's mirror are refused: convert
    them to names first.
MultiRC: an entry per answer; predictions name its question: {"idx": {"paragraph": 0, "question": 3}, "prediction": 1}.
AX-g: all rows in their official order, since rows 2k and 2k+1 are a pair. Gender parity is meaningless without accuracy.
"""


class SuperGlue(evaluate.Metric):  # type: ignore[misc]
    """The metrics of the task that `config_name` names."""

    def _info(self) -> evaluate.MetricInfo:
        names = group_choices("task")
        if self.config_name not in names:
            raise ValueError(
                f"superglue: got {self.config_name!r}, expected a task. {did_you_mean(self.config_name, names)}"
            )
        self.task = task_from_file(self.config_name)
        texts = datasets.Sequence(datasets.Value("string"))  # empty for an unreadable answer
        answers = {"answer": texts, "groups": datasets.Sequence(datasets.Value("int64"))}
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation=CITATION,
            inputs_description=INPUTS,
            features=datasets.Features({"predictions": answers, "references": texts}),
        )

    def add(self, *, prediction: Any = None, reference: Any = None, **others: Any) -> None:
        """Adds one answer with the right one."""
        self.add_batch(predictions=[prediction], references=[reference], **others)

    def add_batch(self, *, predictions: Any = None, references: Any = None, **others: Any) -> None:
        """Adds answers with the right ones."""
        answers = [
            {
                "answer": _listed(answer_of(self.task, position, value)),
                "groups": list(groups_of(self.task, position, value)),
            }
            for position, value in enumerate(python_values(predictions))
        ]
        gold = [right_answers(self.task, position, value) for position, value in enumerate(python_values(references))]
        super().add_batch(predictions=answers, references=gold, **others)

    def _compute(self, predictions: list[dict[str, Any]], references: list[list[str]]) -> dict[str, float]:
        examples = [
            Prediction(position, tuple(gold), next(iter(answer["answer"]), None), {}, groups=tuple(answer["groups"]))
            for position, (answer, gold) in enumerate(zip(predictions, references, strict=True))
        ]
        if unreadable := sum(example.prediction is None for example in examples):
            log.warning("superglue: %d of %d answers could not be read and count as wrong", unreadable, len(examples))
        return score(self.task, examples)


def _listed(answer: str | None) -> list[str]:
    """A list with the answer; empty if it is unreadable."""
    return [] if answer is None else [answer]
