"""The evaluate phase: `python -m eval.run +experiment=quickstart`."""

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from eval.metrics import Prediction, gold_of, majority, options_of, score
from targen.cli import main
from targen.config import Settings
from targen.data import Split, eval_split, spread
from targen.errors import UserError
from targen.jsonl import Json, read_json, read_jsonl, write_jsonl, write_text
from targen.progress import Progress
from targen.run_dir import open_run
from targen.run_lock import locked
from targen.task import Example, TaskSpec
from train.cells import Cell, cells, check_trained, done
from train.families import family as family_named

log = logging.getLogger(__name__)


def evaluate(settings: Settings) -> None:
    """Predictions and scores of every trained cell. Raises: UserError when none is trained or data are missing."""
    trained = [(cell, marker) for cell in cells(settings) if (marker := done(settings.paths, cell)) is not None]
    if not trained:
        raise UserError(
            f"{settings.paths.root / 'models'}: got no trained cell, expected at least one. Run phases=[train] first."
        )
    splits = {
        name: eval_split(settings.data, settings.tasks[name]) for name in dict.fromkeys(c.task for c, _ in trained)
    }
    rows: list[Json] = []
    with Progress("evaluate", "cells", len(trained)) as progress:
        for cell, marker in trained:
            task, split = settings.tasks[cell.task], splits[cell.task]
            kept = replace(split, rows=spread(split.rows, settings.eval.max_rows, task.rows_per_slot))
            examples = [example for row in kept.rows for example in task.code.examples(task, row)]
            predictions = _predictions(settings, cell, marker, task, kept, examples)
            rows += _score_rows(cell, task, split, kept, examples, predictions)
            progress.advance(cell.name)
    _write_scores(settings, rows)


def _predictions(
    settings: Settings, cell: Cell, marker: Json, task: TaskSpec, split: Split, examples: list[Example]
) -> list[Prediction]:
    """The cell's predictions, from disk where they were made by this model on these rows."""
    path = settings.paths.predictions(cell.name)
    mark_path = path.with_suffix(".mark.json")
    rows_hash = hashlib.sha256(json.dumps(split.rows).encode()).hexdigest()[:16]
    mark = {"model": marker["fingerprint"], "rows": rows_hash, "origin": split.origin}
    if path.is_file() and mark_path.is_file():
        old = read_json(mark_path)
        if old == mark:
            return [Prediction(**{**line, "gold": tuple(line["gold"])}) for _, line in read_jsonl(path)]
        log.warning(
            "evaluate: %s was predicted on %s before, is predicted anew on %s", cell.name, old["origin"], split.origin
        )
    predictions = predict_cell(settings, cell, task, examples)
    mark_path.unlink(missing_ok=True)  # first, so that a kill cannot leave new predictions under an old mark
    write_jsonl(path, (asdict(prediction) for prediction in predictions))
    write_text(mark_path, json.dumps(mark, indent=2) + "\n")
    return predictions


def predict_cell(settings: Settings, cell: Cell, task: TaskSpec, examples: Sequence[Example]) -> list[Prediction]:
    """The trained cell's answers to the examples, in their order."""
    from accelerate import PartialState

    family = family_named(settings.model.family)
    loaded = family.load_trained(settings.paths.model(cell.name))
    loaded.model.to(PartialState().device)
    encoded = family.encode(loaded, task, examples, settings.train.max_length)
    found: dict[int, Prediction] = {}
    for place, scores in family.predict(loaded, encoded, settings.eval.batch_size):
        example = examples[place]
        options = options_of(task, example)
        best = max(range(len(scores)), key=scores.__getitem__)
        named = {option: round(value, 6) for option, value in zip(options, scores, strict=True)}
        found[place] = Prediction(example.id, gold_of(task, example), options[best], named)
    return [found[place] for place in range(len(examples))]


def _score_rows(
    cell: Cell, task: TaskSpec, split: Split, kept: Split, examples: list[Example], predictions: list[Prediction]
) -> list[Json]:
    """One row per metric, with what stands beside a score: counts, unreadable answers, baseline, origin of the rows."""
    baseline = score(task, majority(task, examples))
    return [
        {
            "cell": cell.name,
            **asdict(cell),
            "metric": metric,
            "value": value,
            "majority": baseline[metric],
            "n": len(predictions),
            "rows": len(kept.rows),
            "rows_in_split": len(split.rows),
            "unparsed": sum(prediction.prediction is None for prediction in predictions),
            "split": task.eval_split,
            "origin": split.origin,
            "is_fixture": split.is_fixture,
        }
        for metric, value in score(task, predictions).items()
    ]


def _write_scores(settings: Settings, rows: list[Json]) -> None:
    """scores.jsonl with the rows of this start, and those of cells that it did not name."""
    path = settings.paths.scores
    fresh = {row["cell"] for row in rows}
    kept = [row for _, row in read_jsonl(path) if row["cell"] not in fresh] if path.is_file() else []
    write_jsonl(path, sorted([*kept, *rows], key=lambda row: (row["cell"], row["metric"])))


def phase(cfg: Any, overrides: list[str]) -> int:
    settings = open_run(cfg, check_trained)
    with locked(settings.paths.root):
        evaluate(settings)
    return 0


if __name__ == "__main__":
    main("eval.run", "scores every trained cell on the evaluation data", phase)
