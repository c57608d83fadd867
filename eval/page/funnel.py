"""What became of the attempts of a task, from contexts to accepted rows, with the reasons of what was refused."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.page.rows import REPEATS
from eval.tables.formats import Table
from targen.runtime.errors import UserError
from targen.runtime.jsonl import Json, read_json
from targen.tasks.task import Task

REASONS = 12  # that are listed
COUNTS = {  # of stats.json: the columns of the table
    "contexts": "contexts",
    "attempts": "attempts",
    "rejects": "rejected",
    "duplicates": "duplicates",
    "flips": "labels corrected",
    "checked": "of checked",
    "surplus": "held back",
    "rows": "rows",
}


@dataclass(frozen=True)
class Stage:
    """Attempts that came so far; `share` of all attempts. `lost` are those that came no further than before."""

    name: str
    count: int
    share: float
    lost: int


@dataclass(frozen=True)
class Funnel:
    """`reasons`: of what was refused or held back, the most frequent first; `further` of them are not listed."""

    task: Task
    stats: Json
    stages: tuple[Stage, ...]
    reasons: tuple[tuple[str, int], ...]
    further: int


def funnel(task: Task, path: Path, has_seeds: bool) -> Funnel:
    """From a task's stats.json. Raises: UserError where it is not what this version writes."""
    stats = read_json(path)
    if absent := [name for name in (*COUNTS, "rejects_per_reason", "rows_per_label", "calls") if name not in stats]:
        raise UserError(f"{path}: got no {', '.join(absent)}, expected the counts of a generation. Generate again.")
    reasons: Counter[str] = Counter(stats["rejects_per_reason"])
    steps: Counter[str] = Counter()
    for reason, count in reasons.items():
        steps[reason.partition(":")[0]] += count
    by_stage = [
        *([("instance seed written", steps["instance_seed"])] if has_seeds else []),
        ("passes the checks", steps["generation"]),
        *([("passes self-correction", steps["self_correction"])] if stats["checked"] else []),
        ("repeats nothing", sum(steps[name] for name in REPEATS)),
        ("in the set", stats["surplus"]),
    ]
    attempts = left = stats["attempts"]
    stages = [Stage("attempts", attempts, 1.0, 0)]
    for name, lost in by_stage:
        left -= lost
        stages.append(Stage(name, left, left / max(1, attempts), lost))
    if stats["surplus"]:
        reasons["held back: the label is full"] = stats["surplus"]
    listed = reasons.most_common(REASONS)
    return Funnel(task, stats, tuple(stages), tuple(listed), len(reasons) - len(listed))


def counts_table(funnels: Sequence[Funnel]) -> Table:
    """What was asked for and what came of it, a line each task."""
    header = ("task", *COUNTS.values(), "rows per label", "calls")
    lines = []
    for one in funnels:
        labels = ", ".join(f"{label} {count}" for label, count in one.stats["rows_per_label"].items())
        calls = sum(step["calls"] for step in one.stats["calls"].values())
        counts = (str(one.stats[name]) for name in COUNTS)
        lines.append((one.task.folder, *counts, labels or "(answer entities)", str(calls)))
    numeric = frozenset(place for place, name in enumerate(header) if name not in ("task", "rows per label"))
    return Table("generation", "From contexts to rows", (), header, tuple(lines), (), numeric)
