"""The cells that can be scored, and the scores of their predictions."""

from collections.abc import Sequence
from dataclasses import dataclass

from eval.scoring.baseline import majority
from eval.scoring.evaluation_rows import EvaluationRows
from eval.scoring.metric_kinds import Prediction
from eval.scoring.metrics import score
from eval.scoring.scores import SUPERGLUE, Score, as_score
from targen.config.arms import ARMS
from targen.config.settings import Settings
from targen.runtime.errors import UserError
from targen.runtime.jsonl import Json
from targen.tasks.task import Task
from train.grid.cells import Cell, cells, fingerprint, read_done_marker

# keys of conf/train that affect the answers of a model without finetuning
UNTRAINED_KEYS = ("max_length", "precision", "quantize", "instruct", "instruct_examples")


@dataclass(frozen=True)
class ReadyCell:
    """A cell that can be scored, the fingerprint of its model, and how many rows it was trained on."""

    cell: Cell
    fingerprint: Json
    train_rows: int | None = None  # None: not finetuned
    real_rows: int | None = None  # original ones, those that its checkers were taught included


def ready_cells(settings: Settings) -> list[ReadyCell]:
    """The cells of the grid that are trained, or need no training. Raises: UserError if there are none."""
    ready = [ready_cell for cell in cells(settings) if (ready_cell := _ready_cell(settings, cell)) is not None]
    if not ready:
        raise UserError(
            f"{settings.paths.root / 'models'}: got no trained cell, expected at least one. Run phases=[train] first."
        )
    return ready


def _ready_cell(settings: Settings, cell: Cell) -> ReadyCell | None:
    """The cell with the contents of its done marker; None if it is not trained yet.

    The fingerprint of a model without finetuning leaves out the settings of training, which do not affect it.
    """
    if cell.trained:
        marker = read_done_marker(settings.paths, cell)
        if marker is None:
            return None
        return ReadyCell(cell, marker["fingerprint"], marker.get("rows"), marker.get("real_rows"))
    full_fingerprint = fingerprint(settings, cell)
    train = {key: value for key, value in full_fingerprint["train"].items() if key in UNTRAINED_KEYS}
    rest = {key: value for key, value in full_fingerprint.items() if key == "model" or key.startswith("tasks.")}
    return ReadyCell(cell, rest | {"train": train})


def scoring_of(settings: Settings) -> str:
    """How the model's answers are chosen: by its class head, or as eval.scoring says."""
    return "class_head" if settings.model.has_head else settings.eval.scoring


def shots_of(settings: Settings, cell: Cell) -> int:
    """Solved examples shown before each question."""
    return 0 if cell.trained else settings.eval.shots


def cell_columns(settings: Settings, ready: ReadyCell) -> Json:
    """The columns of scores.jsonl that describe the cell, the same for everything it is scored on."""
    cell, is_synthetic = ready.cell, ARMS[ready.cell.arm].uses_synthetic
    return {
        "cell": cell.name,
        "model": cell.model,
        "setting": cell.setting,
        "tasks": list(cell.tasks),
        "arm": cell.arm,
        "seed": cell.seed,
        "instruct": settings.train.instruct,
        "precision": settings.train.precision,
        "train_rows": ready.train_rows,
        "real_rows": ready.real_rows,
        "method": settings.method.name if is_synthetic else None,
        "self_correct": settings.synth.self_correct if is_synthetic else None,
        "generator": settings.generator.model if is_synthetic else None,
        **({"selection": cell.selection} if cell.selection else {}),
    }


def _is_tie(prediction: Prediction) -> bool:
    """Whether two options have the best score, of which the first is taken: in bf16 differences can vanish."""
    best, *others = sorted(prediction.scores.values(), reverse=True) or [0.0]
    return others[:1] == [best]


def scores_of(
    settings: Settings, ready: ReadyCell, task: Task, rows: EvaluationRows, predictions: Sequence[Prediction]
) -> list[Score]:
    """A score for each metric of the task, with its counts, unreadable and cut answers, baseline and the origin of the rows."""
    baseline = score(task, majority(task, list(rows.examples)))
    columns = cell_columns(settings, ready)
    return [
        as_score(
            {
                "benchmark": SUPERGLUE,
                **columns,
                "task": task.name,
                "scoring": scoring_of(settings),
                "shots": shots_of(settings, ready.cell),
                "metric": metric,
                "value": value,
                "majority": baseline[metric],
                "n": len(predictions),
                "rows": len(rows.sample.rows),
                "rows_in_split": len(rows.split.rows),
                "unparsed": sum(prediction.prediction is None for prediction in predictions),
                "ties": sum(map(_is_tie, predictions)),
                "cut_answers": sum(prediction.cut for prediction in predictions),
                "source": rows.split.source,
                "place": rows.split.location,
                "split": rows.split.name,
                "origin": rows.split.origin,
                "evaluated": rows.hash,
                "is_fixture": rows.split.is_fixture,
            },
            ready.cell.name,
        )
        for metric, value in score(task, predictions).items()
    ]
