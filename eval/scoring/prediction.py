"""The predictions of a cell: made by its model, or read from disk."""

import json
import logging
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from eval.scoring.baseline import gold_of, options_of
from eval.scoring.evaluation_rows import EvaluationRows, rows_hash
from eval.scoring.metrics import Prediction
from eval.scoring.ready_cells import ReadyCell, scoring_of, shots_of
from targen.config.diff import differences
from targen.config.settings import Settings
from targen.runtime.errors import UserError
from targen.runtime.jsonl import Json, read_json, read_jsonl, write_jsonl, write_text
from targen.tasks.task import Example, Task
from train.data.rendering import read_answer
from train.families.registry import family_of, text_family_named
from train.grid.arms import training_rows
from train.grid.cells import Cell
from train.grid.encoding import encode_for_prediction
from train.grid.rows import TaskRows
from train.inference.generation import Written
from train.loop.predictions import predict_distributed, predict_scores
from train.loop.saving import load_cell_to_device
from train.models.loading import Loaded
from train.runtime.processes import Processes

log = logging.getLogger(__name__)
SINGLE_PROCESS = Processes()
LINE = TypeAdapter(Prediction)
WRITTEN = ("text", "cut")  # keys of a line with eval.scoring=generate only


def predictions_of(
    settings: Settings,
    processes: Processes,
    ready: ReadyCell,
    task: Task,
    rows: EvaluationRows,
    model: Callable[[], Loaded],
    originals: Sequence[TaskRows] = (),
    path: Path | None = None,
) -> list[Prediction]:
    """The cell's predictions, from disk if this model made them on these rows, prompted in the same way.

    `originals` are the rows from which examples for a model without finetuning are drawn. `path` is where the predictions are
    stored: by default among those that are scored.
    Raises: UserError if the file on disk was changed.
    """
    path = path or settings.paths.predictions(ready.cell.predictions_name(task.name))
    mark_path = path.with_suffix(".mark.json")
    fingerprint = {"model": ready.fingerprint, "rows": rows.hash, "origin": rows.split.origin}
    fingerprint |= {"asked": _prompting(settings, ready.cell, task, originals)}
    old = processes.broadcast(read_json(mark_path) if path.is_file() and mark_path.is_file() else None)
    if old == fingerprint:
        return _told(settings, processes, ready, task, read_predictions(path, task, rows.examples))
    if old is not None and processes.first:
        changed = [line for key, value in fingerprint.items() for line in differences(key, old.get(key), value)]
        log.warning(
            "evaluate: %s was predicted on %s before and is predicted again on %s (%s)",
            ready.cell.name,
            old.get("origin"),
            rows.split.origin,
            "; ".join(changed),
        )
    predictions = predict_cell(settings, ready.cell, task, rows.examples, processes, model, originals)
    if not processes.first:
        return predictions
    mark_path.unlink(missing_ok=True)  # first, so that a killed process cannot leave an old mark beside new predictions
    write_jsonl(path, map(_line, predictions))
    write_text(mark_path, json.dumps(fingerprint, indent=2) + "\n")
    return _told(settings, processes, ready, task, predictions)


def _told(
    settings: Settings, processes: Processes, ready: ReadyCell, task: Task, predictions: list[Prediction]
) -> list[Prediction]:
    """The predictions, after a warning if some are cut."""
    if (cut := sum(prediction.cut for prediction in predictions)) and processes.first:
        log.warning(
            "evaluate: %s: %d of %d answers of %s did not end within eval.max_new_tokens=%d, or the model's positions, and are "
            "read as far as they go. Set it higher.",
            ready.cell.name,
            cut,
            len(predictions),
            task.name,
            settings.eval.max_new_tokens,
        )
    return predictions


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


def _line(prediction: Prediction) -> Json:
    line = asdict(prediction)
    return line if prediction.text is not None else {key: value for key, value in line.items() if key not in WRITTEN}


def read_predictions(path: Path, task: Task, examples: Sequence[Example]) -> list[Prediction]:
    """The predictions of a file. Raises: UserError if they are not those of these examples, in their order."""
    predictions = []
    for number, line in read_jsonl(path):
        try:
            predictions.append(LINE.validate_python(line))
        except ValidationError as err:
            first = err.errors()[0]
            key = ".".join(map(str, first["loc"]))
            raise UserError(
                f"{path}:{number}: {key}: {first['msg']}; expected a prediction. Remove the file to predict again."
            ) from None
    if (problem := _mismatch(task, predictions, examples)) is not None:
        raise UserError(f"{path}: {problem}. Remove the file to predict again.")
    return predictions


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
        if task.labels and prediction.prediction not in (None, *options):
            return (
                f"idx {prediction.idx}: got prediction {prediction.prediction!r}, expected one of {', '.join(options)}"
            )
    return None


def predict_cell(
    settings: Settings,
    cell: Cell,
    task: Task,
    examples: Sequence[Example],
    processes: Processes = SINGLE_PROCESS,
    model: Callable[[], Loaded] | None = None,
    originals: Sequence[TaskRows] = (),
) -> list[Prediction]:
    """The cell's answers to the examples, in their order."""
    loaded = load_cell_to_device(settings, cell) if model is None else model()
    parts = originals
    if cell.trained:
        parts = (training_rows(settings, cell) or ()) if settings.train.instruct else ()
    encoded = encode_for_prediction(settings, cell, loaded, parts, task, examples)
    name, batch_size, scoring = settings.model.family, settings.eval.batch_size, scoring_of(settings)
    if scoring == "generate":
        generate, limit = text_family_named(name).generate, settings.eval.max_new_tokens
        written = predict_distributed(lambda share: generate(loaded, share, batch_size, limit), encoded, processes)
        return [_written(task, example, answer) for example, answer in zip(examples, written, strict=True)]
    if scoring == "rank_normalised":
        rank = text_family_named(name).predict
        scores = predict_distributed(lambda share: rank(loaded, share, batch_size, by_token=True), encoded, processes)
    else:
        scores = predict_scores(family_of(settings), loaded, encoded, batch_size, processes)
    return [_ranked(settings, cell, task, example, options) for example, options in zip(examples, scores, strict=True)]


def _written(task: Task, example: Example, answer: Written) -> Prediction:
    label = read_answer(task, answer.text)
    return Prediction(example.id, gold_of(task, example), label, {}, answer.text, answer.cut)


def _ranked(settings: Settings, cell: Cell, task: Task, example: Example, scores: Sequence[float]) -> Prediction:
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
    named = {option: round(value, 6) for option, value in zip(options, scores, strict=True)}
    return Prediction(example.id, gold_of(task, example), options[best], named)
