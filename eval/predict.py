"""What a cell answers, and its predictions as they lie on disk."""

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict

from eval.metrics import Prediction, gold_of, options_of
from eval.scores import Evaluated, ReadyCell
from targen.config import Settings
from targen.data import Split
from targen.jsonl import read_json, read_jsonl, write_jsonl, write_text
from targen.task import Example, TaskSpec
from train.arms import training_parts
from train.cells import Cell
from train.encoding import encode_asked
from train.families import family as family_named
from train.predictions import predicted
from train.pretrained import Loaded
from train.processes import Processes
from train.saved import load_to_device

log = logging.getLogger(__name__)


def predictions_of(
    settings: Settings,
    processes: Processes,
    ready: ReadyCell,
    task: TaskSpec,
    on: Evaluated,
    model: Callable[[], Loaded],
) -> list[Prediction]:
    """The cell's predictions, from disk where they were made by this model on these rows."""
    path = settings.paths.predictions(ready.cell.part(task.name))
    mark_path = path.with_suffix(".mark.json")
    mark = {"model": ready.mark["fingerprint"], "rows": on.hash, "origin": on.split.origin}
    old = processes.of_first(read_json(mark_path) if path.is_file() and mark_path.is_file() else None)
    if old is not None:
        if old == mark:
            return [Prediction(**{**line, "gold": tuple(line["gold"])}) for _, line in read_jsonl(path)]
        if processes.first:
            log.warning(
                "evaluate: %s was predicted on %s before, is predicted anew on %s",
                ready.cell.name,
                old["origin"],
                on.split.origin,
            )
    predictions = predict_cell(settings, ready.cell, task, on.examples, processes, model)
    if not processes.first:
        return predictions
    mark_path.unlink(missing_ok=True)  # first, so that a kill cannot leave new predictions under an old mark
    write_jsonl(path, (asdict(prediction) for prediction in predictions))
    write_text(mark_path, json.dumps(mark, indent=2) + "\n")
    return predictions


def rows_hash(split: Split) -> str:
    """Equal for equal rows."""
    return hashlib.sha256(json.dumps(split.rows).encode()).hexdigest()[:16]


def predict_cell(
    settings: Settings,
    cell: Cell,
    task: TaskSpec,
    examples: Sequence[Example],
    processes: Processes | None = None,
    model: Callable[[], Loaded] | None = None,
) -> list[Prediction]:
    """The trained cell's answers to the examples, in their order."""
    loaded = load_to_device(settings, cell) if model is None else model()
    parts = (training_parts(settings, cell) or ()) if settings.train.instruct else ()
    encoded = encode_asked(settings, cell, loaded, parts, task, examples)
    family, found = family_named(settings.model.family), []
    every = predicted(family, loaded, encoded, settings.eval.batch_size, processes or Processes())
    for example, scores in zip(examples, every, strict=True):
        options = options_of(task, example)
        best = max(range(len(scores)), key=scores.__getitem__)
        named = {option: round(value, 6) for option, value in zip(options, scores, strict=True)}
        found.append(Prediction(example.id, gold_of(task, example), options[best], named))
    return found
