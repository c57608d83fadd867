"""Runs that were evaluated, without models: predictions that are right as often as asked, and their scores."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

import yaml

from eval.scoring.baseline import majority
from eval.scoring.metrics import Prediction, score
from targen.runtime.jsonl import write_jsonl
from targen.runtime.randomness import rng
from targen.tasks.task import Example, Task
from tests.support.commands import settings

SPECS = settings().tasks
MORE = settings("task=[axb,multirc]").tasks  # of SuperGLUE, and not of the paper
SIZES = {"axg": 356, "boolq": 3270, "cb": 56, "copa": 100, "record": 10_000, "rte": 277, "wic": 638, "wsc": 104}
ANSWERS, QUESTIONS = 4, 3  # of a question, of a passage
TRAINED = {"none": (None, None), "original": (250, 250), "synthetic": (250, 0), "mixed": (500, 250)}  # rows, real ones
ENTITIES = ("Ada Lovelace", "Berlin", "the Red Cross", "Lake Turkana", "Ada", "Red Cross Society")


@dataclass(frozen=True)
class FakeCell:
    """A cell without a model: an answer is right with probability `right`."""

    task: str
    arm: str
    right: float
    seed: int = 0
    model: str = "flan_t5_base"
    setting: str = "single"


def gold_of(task: Task, count: int) -> list[tuple[str, ...]]:
    """The right answers of the made-up rows, the same for every cell."""
    draws = rng(0, task.name, "gold")
    names = [label.name for label in task.classes] or list(ENTITIES)
    return [(draws.choice(names),) for _ in range(count)]


def answers(task: Task, gold: Sequence[tuple[str, ...]], right: float, draws: Random) -> list[Prediction]:
    names = [label.name for label in task.classes] or list(ENTITIES)
    chosen = [labels[0] if draws.random() < right else draws.choice(names) for labels in gold]
    pairs = enumerate(zip(gold, chosen, strict=True))
    return [Prediction(idx, labels, answer, {}, groups=groups_of(task, idx)) for idx, (labels, answer) in pairs]


def groups_of(task: Task, idx: int) -> tuple[int, ...]:
    """Passage and question of an answer, where a task has them."""
    return (idx // (ANSWERS * QUESTIONS), idx // ANSWERS) if task.answer_labels else ()


def write_run(folder: Path, cells: Sequence[FakeCell], sizes: Mapping[str, int] = SIZES, **fields: Any) -> Path:
    """A run with these cells, without a config.yaml; `fields` replace those of every row of scores.jsonl."""
    rows = []
    for cell in cells:
        task = (SPECS | MORE)[cell.task]
        draws = rng(cell.seed, cell.task, cell.arm, cell.model, cell.setting, cell.right)
        predictions = answers(task, gold_of(task, sizes[cell.task]), cell.right, draws)
        rows += write_cell(folder, cell, predictions, **fields)
    write_scores(folder, rows)
    return folder


def write_cell(
    folder: Path, cell: FakeCell, predictions: Sequence[Prediction], /, **fields: Any
) -> list[dict[str, Any]]:
    """Writes the cell's predictions; returns its rows of scores.jsonl, which are not written yet."""
    task, synthetic = (SPECS | MORE)[cell.task], cell.arm in ("synthetic", "mixed")
    name = fields.get("cell", f"{cell.model}-{cell.setting}-{cell.task}-{cell.arm}-s{cell.seed}")
    lines = (
        {"idx": p.idx, "gold": list(p.gold), "prediction": p.prediction, "scores": {}, "groups": p.groups}
        for p in predictions
    )
    records = ({key: value for key, value in line.items() if value != ()} for line in lines)
    write_jsonl(folder / "predictions" / f"{name}.jsonl", records)
    evaluated = json.dumps([p.gold for p in predictions])
    baseline = score(task, majority(task, [_example(task, p) for p in predictions])) if task.classes else {}
    return [
        {
            "benchmark": "superglue",
            "cell": name,
            "model": cell.model,
            "setting": cell.setting,
            "task": cell.task,
            "arm": cell.arm,
            "seed": cell.seed,
            "instruct": "instruct" in cell.setting,
            "scoring": "rank",
            "shots": 0,
            **dict(zip(("train_rows", "real_rows"), TRAINED[cell.arm], strict=True)),
            "method": "targen" if synthetic else None,
            "self_correct": "paper" if synthetic else None,
            "generator": "a-model" if synthetic else None,
            "metric": metric,
            "value": value,
            "majority": baseline.get(metric, 0.1),
            "n": len(predictions),
            "rows": len(predictions),
            "rows_in_split": len(predictions),
            "unparsed": sum(p.prediction is None for p in predictions),
            "split": task.eval_split,
            "origin": f"SuperGLUE {task.eval_split}",
            "evaluated": hashlib.sha256(evaluated.encode()).hexdigest()[:16],
            "is_fixture": False,
            **fields,
        }
        for metric, value in score(task, predictions).items()
    ]


def write_tasks(folder: Path, tasks: Mapping[str, Task]) -> None:
    """The run's config.yaml, as far as a report of several runs reads it."""
    values = {"tasks": {name: asdict(task) for name, task in tasks.items()}}
    (folder / "config.yaml").write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")


def write_scores(folder: Path, rows: Sequence[dict[str, Any]]) -> None:
    write_jsonl(folder / "scores.jsonl", rows)


def _example(task: Task, prediction: Prediction) -> Example:
    names = [label.name for label in task.classes]
    gold = (names.index(prediction.gold[0]),)
    return Example(task.name, prediction.idx, {}, tuple(names), gold, groups=prediction.groups)
