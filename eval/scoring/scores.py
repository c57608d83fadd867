"""Rows of scores.jsonl: what was scored, how, on what, and what came out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.scoring.evaluation_rows import EvaluationRows
from eval.scoring.metrics import Prediction, majority, score
from targen.config.settings import Settings
from targen.runtime.errors import UserError
from targen.runtime.jsonl import Json, read_jsonl, write_jsonl
from targen.runtime.paths import RunPaths
from targen.tasks.task import Task
from train.grid.cells import Cell, cells, done, fingerprint

KEY = ("cell", "task", "metric")  # what tells the rows of one benchmark apart
SUPERGLUE = "superglue"
ASKED_WITH = ("max_length", "precision", "quantize", "instruct", "instruct_examples")  # of conf/train, without training


@dataclass(frozen=True)
class ReadyCell:
    """A cell that can be scored; `mark` says what its model was made of."""

    cell: Cell
    mark: Json


def ready_cells(settings: Settings) -> list[ReadyCell]:
    """The cells of the grid that are trained, or need no training. Raises: UserError where there is none."""
    found = [ReadyCell(cell, mark) for cell in cells(settings) if (mark := _mark(settings, cell)) is not None]
    if not found:
        raise UserError(
            f"{settings.paths.root / 'models'}: got no trained cell, expected at least one. Run phases=[train] first."
        )
    return found


def _mark(settings: Settings, cell: Cell) -> Json | None:
    """What the cell's model was made of; None while it is not trained. How others are trained is nothing to one as it is."""
    if cell.trained:
        return done(settings.paths, cell)
    found = fingerprint(settings, cell)
    train = {key: value for key, value in found["train"].items() if key in ASKED_WITH}
    own = {key: value for key, value in found.items() if key == "model" or key.startswith("tasks.")}
    return {"fingerprint": own | {"train": train}}


def scoring_of(settings: Settings) -> str:
    """How predictions are made."""
    return "class_head" if settings.model.family == "encoder" else settings.eval.scoring


def shots_of(settings: Settings, cell: Cell) -> int:
    """Solved examples shown before each question."""
    return 0 if cell.trained else settings.eval.shots


def cell_columns(settings: Settings, ready: ReadyCell) -> Json:
    """What every row says of a cell, whatever it was scored on."""
    cell, made = ready.cell, ready.cell.arm in ("synthetic", "mixed")
    return {
        "cell": cell.name,
        "model": cell.model,
        "setting": cell.setting,
        "arm": cell.arm,
        "seed": cell.seed,
        "instruct": settings.train.instruct,
        "train_rows": ready.mark.get("rows"),
        "real_rows": ready.mark.get("real_rows"),
        "method": settings.method.name if made else None,
        "self_correct": settings.synth.self_correct if made else None,
        "generator": settings.generator.model if made else None,
    }


def score_rows(
    settings: Settings, ready: ReadyCell, task: Task, on: EvaluationRows, predictions: Sequence[Prediction]
) -> list[Json]:
    """One row per metric, with what stands beside a score: counts, unreadable answers, baseline, origin of the rows."""
    baseline = score(task, majority(task, list(on.examples)))
    common = cell_columns(settings, ready)
    return [
        {
            "benchmark": SUPERGLUE,
            **common,
            "task": task.name,
            "scoring": scoring_of(settings),
            "shots": shots_of(settings, ready.cell),
            "metric": metric,
            "value": value,
            "majority": baseline[metric],
            "n": len(predictions),
            "rows": len(on.sample.rows),
            "rows_in_split": len(on.split.rows),
            "unparsed": sum(prediction.prediction is None for prediction in predictions),
            "split": task.eval_split,
            "origin": on.split.origin,
            "evaluated": on.hash,
            "is_fixture": on.split.is_fixture,
        }
        for metric, value in score(task, predictions).items()
    ]


def read_scores(path: Path) -> list[Json]:
    """The rows of scores.jsonl, none where it is not there. Raises: UserError with the line of one that is no score."""
    found = []
    for number, row in read_jsonl(path) if path.is_file() else ():
        if not all(isinstance(row.get(name), str) for name in KEY):
            raise UserError(
                f"{path}:{number}: got {str(row)[:60]}, expected a row with {', '.join(KEY)}. Repair or remove the line."
            )
        found.append(row)
    return found


def write_scores(settings: Settings, rows: Sequence[Json]) -> None:
    """These rows in place of those of the same cell and benchmark: in the cells' own files, and in scores.jsonl.

    Who scores one cell of the grid leaves scores.jsonl to `join_scores`, for others are at work beside it.
    """
    for cell in dict.fromkeys(row["cell"] for row in rows):
        path = settings.paths.cell_scores(cell)
        write_jsonl(path, _replaced(read_scores(path), [row for row in rows if row["cell"] == cell]))
    if settings.cell is None:
        write_jsonl(settings.paths.scores, _replaced(read_scores(settings.paths.scores), rows))


def join_scores(paths: RunPaths) -> int:
    """scores.jsonl with the rows of all cells' own files, and those that stand in it already; how many there are."""
    own = [row for path in sorted(paths.scores.with_suffix("").glob("*.jsonl")) for row in read_scores(path)]
    every = _replaced(read_scores(paths.scores), own)
    if every:
        write_jsonl(paths.scores, every)
    return len(every)


def _replaced(old: Sequence[Json], new: Sequence[Json]) -> list[Json]:
    fresh = {_group(row) for row in new}
    kept = [row for row in old if _group(row) not in fresh]
    return sorted([*kept, *new], key=lambda row: (row["cell"], *_group(row), row["task"], row["metric"]))


def _group(row: Json) -> tuple[str, str]:
    return row["cell"], row.get("benchmark", SUPERGLUE)
