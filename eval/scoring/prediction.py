"""The predictions of a cell: made by its model, or read from disk, which imports no torch."""

import json
import logging
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from eval.scoring.baseline import gold_of, options_of
from eval.scoring.evaluation_rows import EvaluationRows, rows_hash
from eval.scoring.metric_kinds import Prediction
from eval.scoring.ready_cells import ReadyCell, scoring_of, shots_of
from targen.config.diff import differences
from targen.config.settings import Settings
from targen.runtime.errors import UserError
from targen.runtime.jsonl import Json, read_json, read_jsonl, write_jsonl, write_text
from targen.tasks.task import Example, Task
from train.data.rendering import read_answer
from train.families.base import Encoded
from train.families.registry import family_of, text_family_named
from train.grid.arms import training_rows
from train.grid.cells import Cell
from train.grid.encoding import encode_for_prediction
from train.grid.rows import TaskRows
from train.models.loading import Loaded
from train.runtime.processes import Processes

if TYPE_CHECKING:
    from train.inference.generation import GeneratedText

log = logging.getLogger(__name__)
SINGLE_PROCESS = Processes()
LINE = TypeAdapter(Prediction)
MARK = ".mark.json"
WRITTEN = ("text", "cut")  # keys of a line with eval.scoring=generate only


def predictions_of(
    settings: Settings,
    processes: Processes,
    ready: ReadyCell,
    rows: Mapping[str, EvaluationRows],
    model: Callable[[], Loaded],
    originals: Sequence[TaskRows] = (),
    path_of: Callable[[str], Path] | None = None,
) -> dict[str, list[Prediction]]:
    """The cell's predictions by task: from disk if this model made them on these rows with the same prompts; all others are
    predicted together.

    `originals` are the rows from which examples for a model without finetuning are drawn. `path_of` says where predictions are
    stored: by default among those that are scored.
    Raises: UserError if a file on disk was changed.
    """
    path_of = path_of or settings.paths.predictions
    paths = {name: path_of(ready.cell.predictions_name(name)) for name in rows}
    marks = {name: _mark(settings, ready, settings.tasks[name], rows[name], originals) for name in rows}
    saved: dict[str, list[Prediction]] = {}
    for name, mark in marks.items():
        old = processes.broadcast(_old_mark(paths[name]))
        if old == mark:
            saved[name] = read_predictions(paths[name], settings.tasks[name], rows[name].examples, processes.first)
        elif old is not None and processes.first:
            changed = [line for key, value in mark.items() for line in differences(key, old.get(key), value)]
            log.warning(
                "evaluate: %s was predicted on %s before and is predicted again on %s (%s)",
                ready.cell.name,
                old.get("origin"),
                rows[name].split.origin,
                "; ".join(changed),
            )
    examples = {name: task_rows.examples for name, task_rows in rows.items() if name not in saved}
    new = predict_tasks(settings, ready.cell, examples, processes, model, originals) if examples else {}
    for name, predictions in new.items() if processes.first else ():
        mark_path = paths[name].with_suffix(MARK)
        # first, so that a killed process cannot leave an old mark beside new predictions
        mark_path.unlink(missing_ok=True)
        write_jsonl(paths[name], map(_as_line, predictions))
        write_text(mark_path, json.dumps(marks[name], indent=2) + "\n")
    predictions_by_task = {name: {**saved, **new}[name] for name in rows}
    if processes.first:
        for name, predictions in predictions_by_task.items():
            _warn_of_cut_answers(settings, ready.cell, name, predictions)
    return predictions_by_task


def _mark(
    settings: Settings, ready: ReadyCell, task: Task, rows: EvaluationRows, originals: Sequence[TaskRows]
) -> Json:
    mark: Json = {"model": ready.fingerprint, "rows": rows.hash, "origin": rows.split.origin}
    return mark | {"asked": _prompting(settings, ready.cell, task, originals)}


def _old_mark(path: Path) -> Json | None:
    mark_path = path.with_suffix(MARK)
    return read_json(mark_path) if path.is_file() and mark_path.is_file() else None


def _warn_of_cut_answers(settings: Settings, cell: Cell, task: str, predictions: Sequence[Prediction]) -> None:
    if cut := sum(prediction.cut for prediction in predictions):
        log.warning(
            "evaluate: %s: %d of %d answers of %s did not end within eval.max_new_tokens=%d, or the model's positions, and are "
            "read as far as they go. Set it higher.",
            cell.name,
            cut,
            len(predictions),
            task,
            settings.eval.max_new_tokens,
        )


def _prompting(settings: Settings, cell: Cell, task: Task, originals: Sequence[TaskRows]) -> Json:
    """Everything about the prompts that affects the answers."""
    prompting: Json = {"scoring": scoring_of(settings), "shots": shots_of(settings, cell)}
    if settings.train.precision != "fp32":
        prompting["arithmetic"] = "bf16"
    if settings.eval.scoring == "generate":
        prompting["max_new_tokens"] = settings.eval.max_new_tokens
    for part in originals if not cell.trained else ():
        if part.task.name == (task.original_train or task.name):
            prompting["shown"] = rows_hash(part.rows)
    return prompting


def _as_line(prediction: Prediction) -> Json:
    line = asdict(prediction)
    absent = [*(WRITTEN if prediction.text is None else ()), *(() if prediction.groups else ("groups",))]
    return {key: value for key, value in line.items() if key not in absent}


def read_predictions(path: Path, task: Task, examples: Sequence[Example], repair: bool = False) -> list[Prediction]:
    """The predictions of a file. `repair`: rewrites a file of an earlier version that lacks the examples' groups (ReCoRD, AX-b).

    Raises: UserError if they are not those of these examples, in their order.
    """
    predictions = []
    for number, line in read_jsonl(path):
        try:
            predictions.append(LINE.validate_python(line))
        except ValidationError as err:
            error = err.errors()[0]
            key = ".".join(map(str, error["loc"]))
            raise UserError(
                f"{path}:{number}: {key}: {error['msg']}; expected a prediction. Remove the file to predict again."
            ) from None
    if (problem := _mismatch(task, predictions, examples)) is not None:
        raise UserError(f"{path}: {problem}. Remove the file to predict again.")
    grouped = [replace(line, groups=example.groups) for line, example in zip(predictions, examples, strict=True)]
    if repair and grouped != predictions:
        write_jsonl(path, map(_as_line, grouped))
    return grouped


def _mismatch(task: Task, predictions: Sequence[Prediction], examples: Sequence[Example]) -> str | None:
    """The first mismatch between predictions and examples; None if they match."""
    predicted, expected = [prediction.idx for prediction in predictions], [example.id for example in examples]
    repeated = [idx for idx, count in Counter(predicted).items() if count > 1]
    missing, unknown = sorted({*expected} - {*predicted}), sorted({*predicted} - {*expected})
    for problem, rows in (("twice", repeated), ("missing", missing), ("not of this split", unknown)):
        if rows:
            return f"{len(rows)} idx {problem} (first {rows[0]}), expected each of the {len(expected)} of {task.folder} once"
    if predicted != expected:
        return "got the rows in a different order, expected that of the split"
    for prediction, example in zip(predictions, examples, strict=True):
        gold, options = gold_of(task, example), options_of(task, example)
        if prediction.gold != gold:
            return f"idx {prediction.idx}: got gold {list(prediction.gold)}, expected {list(gold)}"
        if task.classes and prediction.prediction not in (None, *options):
            return (
                f"idx {prediction.idx}: got prediction {prediction.prediction!r}, expected one of {', '.join(options)}"
            )
    return None


def load_cell(settings: Settings, cell: Cell) -> Loaded:
    """The cell's model on the available device."""
    from train.loop.saving import load_cell_to_device  # torch

    return load_cell_to_device(settings, cell)


def predict_cell(settings: Settings, cell: Cell, task: Task, examples: Sequence[Example]) -> list[Prediction]:
    """The cell's answers to the examples of one task, in their order."""
    return predict_tasks(settings, cell, {task.name: examples})[task.name]


def predict_tasks(
    settings: Settings,
    cell: Cell,
    examples: Mapping[str, Sequence[Example]],
    processes: Processes = SINGLE_PROCESS,
    model: Callable[[], Loaded] | None = None,
    originals: Sequence[TaskRows] = (),
) -> dict[str, list[Prediction]]:
    """The cell's answers to the examples of each task, in their order. All go through the model together, by their length."""
    loaded = load_cell(settings, cell) if model is None else model()
    parts = _shown_rows(settings, cell) if cell.trained else originals
    questions: list[tuple[Task, Example]] = []
    encoded: list[Encoded] = []
    for name, task_examples in examples.items():
        task = settings.tasks[name]
        questions += [(task, example) for example in task_examples]
        encoded += encode_for_prediction(settings, cell, loaded, parts, task, task_examples)
    answers = iter(_answers(settings, cell, loaded, questions, encoded, processes))
    return {name: list(islice(answers, len(task_examples))) for name, task_examples in examples.items()}


def _shown_rows(settings: Settings, cell: Cell) -> tuple[TaskRows, ...]:
    """The rows that the cell was trained on if some of them are shown. Raises: UserError if they are not available."""
    train = settings.train
    if not train.instruct or not train.instruct_examples:
        return ()
    rows = training_rows(settings, cell)
    if rows is None:
        raise UserError(
            f"train.instruct_examples: got {train.instruct_examples}, but {cell.name} was trained on original rows or chosen by them, "
            "and these are not available. Make the Hub reachable, or set data.source=local data.dir=..."
        )
    return rows


def _answers(
    settings: Settings,
    cell: Cell,
    loaded: Loaded,
    questions: Sequence[tuple[Task, Example]],
    encoded: Sequence[Encoded],
    processes: Processes,
) -> list[Prediction]:
    from train.loop.predictions import predict_distributed, predict_scores

    name, batch_size, scoring = settings.model.family, settings.eval.batch_size, scoring_of(settings)
    if scoring == "generate":
        limit = settings.eval.max_new_tokens
        generate = partial(text_family_named(name).generate, loaded, max_new_tokens=limit)
        generated = predict_distributed(generate, encoded, batch_size, processes)
        return [
            _generated_prediction(task, example, answer)
            for (task, example), answer in zip(questions, generated, strict=True)
        ]
    if scoring == "rank_normalised":
        rank = partial(text_family_named(name).predict, loaded, by_token=True)
        scores = predict_distributed(rank, encoded, batch_size, processes)
    else:
        scores = predict_scores(family_of(settings), loaded, encoded, batch_size, processes)
    return [
        _ranked_prediction(settings, cell, task, example, option_scores)
        for (task, example), option_scores in zip(questions, scores, strict=True)
    ]


def _generated_prediction(task: Task, example: Example, answer: "GeneratedText") -> Prediction:
    label = read_answer(task, answer.text)
    return Prediction(example.id, gold_of(task, example), label, {}, answer.text, answer.cut, example.groups)


def _ranked_prediction(
    settings: Settings, cell: Cell, task: Task, example: Example, scores: Sequence[float]
) -> Prediction:
    """The option of the highest score, the first among equals. Raises: UserError if a score is not a number."""
    if not all(map(math.isfinite, scores)):
        precision = settings.train.precision
        advice = (
            "Train the cell again with a lower train.learning_rate" if cell.trained else "Check the model's weights"
        )
        raise UserError(
            f"evaluate: {cell.name}: the scores of {task.name}'s idx {example.id} are {list(scores)[:4]} with "
            f"train.precision={precision}, expected finite numbers. "
            f"{advice if precision == 'fp32' else 'Set train.precision=fp32'}."
        )
    options = options_of(task, example)
    best = max(range(len(scores)), key=scores.__getitem__)
    by_option = {option: round(value, 6) for option, value in zip(options, scores, strict=True)}
    return Prediction(example.id, gold_of(task, example), options[best], by_option, groups=example.groups)
