"""The evaluate phase: `python -m eval.run +experiment=quickstart`."""

import hashlib
import json
import logging
import operator
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import cache, partial
from typing import Any

from eval.metrics import Prediction, gold_of, majority, options_of, score
from targen.cli import main
from targen.config import Settings
from targen.data import Split, eval_split, spread
from targen.errors import UserError
from targen.jsonl import Json, read_json, read_jsonl, write_jsonl, write_text
from targen.progress import Progress
from targen.task import Example, TaskSpec
from train.arms import training_parts
from train.cells import Cell, cells, check_trained, done, fingerprint
from train.encoding import encode_asked
from train.families import family as family_named
from train.predictions import predicted
from train.pretrained import Loaded
from train.processes import Processes, together
from train.saved import load_to_device

log = logging.getLogger(__name__)


def evaluate(settings: Settings, processes: Processes | None = None) -> None:
    """Predictions and scores of every trained cell. Raises: UserError when none is trained or data are missing."""
    processes = processes or Processes()
    trained = [(cell, marker) for cell in cells(settings) if (marker := _marker(settings, cell)) is not None]
    if not trained:
        raise UserError(
            f"{settings.paths.root / 'models'}: got no trained cell, expected at least one. Run phases=[train] first."
        )
    names = dict.fromkeys(name for cell, _ in trained for name in cell.tasks)
    splits = {name: eval_split(settings.data, settings.tasks[name]) for name in names if settings.eval.superglue}
    rows: list[Json] = []
    scored = trained if settings.eval.superglue else []
    with Progress("evaluate", "cells", len(scored) if processes.first else 0) as progress:
        for cell, marker in scored:
            model = cache(partial(load_to_device, settings, cell))  # once for all tasks of a mixture, and only if asked
            for task in (settings.tasks[name] for name in cell.tasks):
                split = splits[task.name]
                kept = replace(split, rows=spread(split.rows, settings.eval.max_rows, task.rows_per_slot))
                examples = [example for row in kept.rows for example in task.code.examples(task, row)]
                predictions = _predictions(settings, processes, cell, marker, task, kept, examples, model)
                rows += _score_rows(settings, cell, marker, task, split, kept, examples, predictions)
            if processes.first:
                progress.advance(cell.name)
    if settings.eval.openllm.suite is not None:
        from eval import openllm  # the harness takes a while to import

        rows += openllm.score(settings, processes, trained, partial(load_to_device, settings))
    if processes.first:
        _write_scores(settings, rows)


def _marker(settings: Settings, cell: Cell) -> Json | None:
    """What the cell's model was made of; None while it is not trained."""
    return done(settings.paths, cell) if cell.trained else {"fingerprint": fingerprint(settings, cell)}


def _predictions(
    settings: Settings,
    processes: Processes,
    cell: Cell,
    marker: Json,
    task: TaskSpec,
    split: Split,
    examples: list[Example],
    model: Callable[[], Loaded],
) -> list[Prediction]:
    """The cell's predictions, from disk where they were made by this model on these rows."""
    path = settings.paths.predictions(cell.part(task.name))
    mark_path = path.with_suffix(".mark.json")
    mark = {"model": marker["fingerprint"], "rows": rows_hash(split), "origin": split.origin}
    old = processes.of_first(read_json(mark_path) if path.is_file() and mark_path.is_file() else None)
    if old is not None:
        if old == mark:
            return [Prediction(**{**line, "gold": tuple(line["gold"])}) for _, line in read_jsonl(path)]
        if processes.first:
            log.warning(
                "evaluate: %s was predicted on %s before, is predicted anew on %s",
                cell.name,
                old["origin"],
                split.origin,
            )
    predictions = predict_cell(settings, cell, task, examples, processes, model)
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


def _score_rows(
    settings: Settings,
    cell: Cell,
    marker: Json,
    task: TaskSpec,
    split: Split,
    kept: Split,
    examples: list[Example],
    predictions: list[Prediction],
) -> list[Json]:
    """One row per metric, with what stands beside a score: counts, unreadable answers, baseline, origin of the rows."""
    baseline = score(task, majority(task, examples))
    made = cell.arm in ("synthetic", "mixed")
    return [
        {
            "benchmark": "superglue",
            "cell": cell.name,
            "model": cell.model,
            "setting": cell.setting,
            "task": task.name,
            "arm": cell.arm,
            "seed": cell.seed,
            "instruct": settings.train.instruct,
            "scoring": "class_head" if settings.model.family == "encoder" else settings.eval.scoring,
            "shots": 0 if cell.trained else settings.eval.shots,
            "train_rows": marker.get("rows"),
            "real_rows": marker.get("real_rows"),
            "method": settings.method.name if made else None,
            "self_correct": settings.synth.self_correct if made else None,
            "generator": settings.generator.model if made else None,
            "metric": metric,
            "value": value,
            "majority": baseline[metric],
            "n": len(predictions),
            "rows": len(kept.rows),
            "rows_in_split": len(split.rows),
            "unparsed": sum(prediction.prediction is None for prediction in predictions),
            "split": task.eval_split,
            "origin": split.origin,
            "evaluated": rows_hash(kept),
            "is_fixture": split.is_fixture,
        }
        for metric, value in score(task, predictions).items()
    ]


def _write_scores(settings: Settings, rows: list[Json]) -> None:
    """scores.jsonl with the rows of this start, and those of cells and benchmarks that it did not name."""
    path = settings.paths.scores
    fresh = {(row["benchmark"], row["cell"]) for row in rows}
    old = [row for _, row in read_jsonl(path)] if path.is_file() else []
    kept = [row for row in old if (row["benchmark"], row["cell"]) not in fresh]
    order = operator.itemgetter("benchmark", "cell", "task", "metric")
    write_jsonl(path, sorted([*kept, *rows], key=order))


def phase(cfg: Any, overrides: list[str]) -> int:
    with together(cfg, check_trained) as (settings, processes):
        evaluate(settings, processes)
    return 0


if __name__ == "__main__":
    main("eval.run", "scores every trained cell on the evaluation data", phase)
