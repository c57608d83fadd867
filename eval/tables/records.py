"""What the tables say as records: one number each, all with the same columns, for programs to read."""

from eval.statistics.comparison_groups import Labels, SeedScores
from eval.statistics.comparisons import Comparison, Estimate
from eval.tables.formats import Value
from eval.tables.published import Number

COLUMNS = (
    "table", "suite", "model", "setting", "scoring", "arm", "synthetic_rows", "made_rows", "run", "task", "metric", "kind",
    "level", "value", "spread", "low", "high", "p", "p_corrected", "verdict", "majority", "examples", "rows", "rows_in_split",
    "seeds", "unparsed", "instruct", "shots", "method", "self_correct", "generator", "train_rows", "real_rows", "origin",
    "evaluated", "is_fixture", "runs", "source",
)  # fmt: skip
OF_SCORE = (
    "arm", "instruct", "shots", "method", "self_correct", "generator", "train_rows", "real_rows", "rows", "rows_in_split",
    "origin", "evaluated", "is_fixture",
)  # fmt: skip
Record = dict[str, Value]


def record(table: str, labels: Labels, task: str, metric: str, kind: str, level: str) -> Record:
    own: Record = dict.fromkeys(COLUMNS)
    named: Record = {what.replace(" ", "_"): which for what, which in labels}
    return own | named | {"table": table, "task": task, "metric": metric, "kind": kind, "level": level}


def of_estimate(start: Record, found: Estimate, majority: float | None, entry: SeedScores | None) -> Record:
    """A score in percent; `entry` where it is of one task."""
    low, high = found.bounds or (None, None)
    values: Record = {
        "value": 100 * found.value,
        "spread": percentage(found.spread),
        "low": percentage(low),
        "high": percentage(high),
        "majority": percentage(majority),
        "examples": found.n,
        "seeds": found.seeds,
    }
    return start | values | (_of_entry(entry) if entry is not None else {})


def _of_entry(entry: SeedScores) -> Record:
    own: Record = {name: getattr(entry.first, name) for name in OF_SCORE}
    return own | {
        "unparsed": entry.unparsed,
        "runs": "; ".join(dict.fromkeys(result.run for result in entry.results)),
    }


def of_comparison(start: Record, found: Comparison) -> Record:
    """A difference in points."""
    low, high = found.bounds or (None, None)
    return start | {
        "value": 100 * found.difference,
        "low": percentage(low),
        "high": percentage(high),
        "p": found.p,
        "p_corrected": found.corrected,
        "verdict": found.verdict,
        "examples": found.n,
        "seeds": found.seeds,
    }


def of_published(start: Record, number: Number) -> Record:
    return start | {"value": number.value, "source": number.source}


def percentage(value: float | None) -> float | None:
    return None if value is None else 100 * value
