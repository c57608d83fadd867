"""The numbers of the tables as records for programs: one number each, all with the same columns."""

from eval.statistics.axes import Labels
from eval.statistics.comparison_groups import SeedScores
from eval.statistics.comparisons import Comparison, Estimate
from eval.tables.formats import Value
from eval.tables.published import Number

COLUMNS = (
    "table", "suite", "model", "setting", "scoring", "arm", "synthetic_rows", "made_rows", "run", "task", "metric", "kind",
    "level", "value", "spread", "low", "high", "p", "p_corrected", "verdict", "majority", "examples", "rows", "rows_in_split",
    "seeds", "unparsed", "cut_answers", "instruct", "shots", "method", "self_correct", "generator", "selection", "train_rows", "real_rows", "origin",
    "evaluated", "is_fixture", "runs", "source",
)  # fmt: skip
OF_SCORE = (
    "arm", "instruct", "shots", "method", "self_correct", "generator", "selection", "train_rows", "real_rows", "rows", "rows_in_split",
    "origin", "evaluated", "is_fixture",
)  # fmt: skip
Record = dict[str, Value]


def record(table: str, labels: Labels, task: str, metric: str, kind: str, level: str) -> Record:
    """A record with these labels, otherwise empty; the long form of a table has one per number."""
    empty: Record = dict.fromkeys(COLUMNS)
    label_values: Record = {name.replace(" ", "_"): value for name, value in labels}
    return empty | label_values | {"table": table, "task": task, "metric": metric, "kind": kind, "level": level}


def estimate_record(start: Record, estimate: Estimate, majority: float | None, scores: SeedScores | None) -> Record:
    """The record of a score, in percent; `scores` are given if it is of a single task."""
    low, high = estimate.bounds or (None, None)
    values: Record = {
        "value": 100 * estimate.value,
        "spread": percentage(estimate.spread),
        "low": percentage(low),
        "high": percentage(high),
        "majority": percentage(majority),
        "examples": estimate.n,
        "seeds": estimate.seeds,
    }
    return start | values | (_score_columns(scores) if scores is not None else {})


def _score_columns(scores: SeedScores) -> Record:
    columns: Record = {name: getattr(scores.first, name) for name in OF_SCORE}
    return columns | {
        "unparsed": scores.unparsed,
        "cut_answers": scores.cut_answers,
        "runs": "; ".join(dict.fromkeys(run_score.run for run_score in scores.scores)),
    }


def comparison_record(start: Record, comparison: Comparison) -> Record:
    """The record of a difference, in points."""
    low, high = comparison.bounds or (None, None)
    return start | {
        "value": 100 * comparison.difference,
        "low": percentage(low),
        "high": percentage(high),
        "p": comparison.p,
        "p_corrected": comparison.corrected,
        "verdict": comparison.verdict,
        "examples": comparison.n,
        "seeds": comparison.seeds,
    }


def published_record(start: Record, number: Number) -> Record:
    """The record of a published number."""
    return start | {"value": number.value, "source": number.source}


def percentage(value: float | None) -> float | None:
    """A fraction in percent."""
    return None if value is None else 100 * value
