"""How many attempts of a task passed each step, from contexts to accepted rows, and why the others were rejected."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.page.rows import REPEATS
from eval.tables.formats import Table
from eval.tables.sentences import percent
from targen.quality.learnability import METRIC_NAMES
from targen.runtime.errors import UserError
from targen.runtime.jsonl import Json, read_json
from targen.tasks.task import Task

MAX_REASONS = 12  # that are listed
SHOWN_CONTEXTS = 3  # of a round
COUNTS = {  # key in stats.json: column of the table
    "contexts": "contexts",
    "attempts": "attempts",
    "rejects": "rejected",
    "duplicates": "duplicates",
    "flips": "labels corrected",
    "checked": "labels checked",
    "surplus": "held back",
    "rows": "rows",
}


@dataclass(frozen=True)
class Stage:
    """The `count` of attempts that passed a step, their `share` of all attempts, and how many were `lost` at it."""

    name: str
    count: int
    share: float
    lost: int


@dataclass(frozen=True)
class Funnel:
    """`reasons` for which attempts were rejected or held back, the most frequent first; `further` reasons are not listed."""

    task: Task
    stats: Json
    stages: tuple[Stage, ...]
    reasons: tuple[tuple[str, int], ...]
    further: int


def funnel(task: Task, path: Path, has_seeds: bool) -> Funnel:
    """The funnel of a task, from its stats.json. Raises: UserError if counts are missing from it."""
    stats = read_json(path)
    if absent := [name for name in (*COUNTS, "rejects_per_reason", "rows_per_label", "calls") if name not in stats]:
        raise UserError(f"{path}: got no {', '.join(absent)}, expected the counts of a generation. Generate again.")
    reasons: Counter[str] = Counter(stats["rejects_per_reason"])
    steps: Counter[str] = Counter()
    for reason, count in reasons.items():
        steps[reason.partition(":")[0]] += count
    by_stage = [
        *([("have an instance seed", steps["instance_seed"])] if has_seeds else []),
        ("pass the checks", steps["generation"]),
        *([("pass self-correction", steps["self_correction"])] if stats["checked"] else []),
        ("repeat nothing", sum(steps[name] for name in REPEATS)),
        ("in the data set", stats["surplus"]),
    ]
    attempts = remaining = stats["attempts"]
    stages = [Stage("attempts", attempts, 1.0, 0)]
    for name, lost in by_stage:
        remaining -= lost
        stages.append(Stage(name, remaining, remaining / max(1, attempts), lost))
    if stats["surplus"]:
        reasons["held back: the label has enough rows"] = stats["surplus"]
    top_reasons = reasons.most_common(MAX_REASONS)
    return Funnel(task, stats, tuple(stages), tuple(top_reasons), len(reasons) - len(top_reasons))


def counts_table(funnels: Sequence[Funnel]) -> Table:
    """The counts of generation, a line per task."""
    header = ("task", *COUNTS.values(), "rows per label", "calls")
    lines = []
    for task_funnel in funnels:
        labels = ", ".join(f"{label} {count}" for label, count in task_funnel.stats["rows_per_label"].items())
        calls = sum(step["calls"] for step in task_funnel.stats["calls"].values())
        counts = (str(task_funnel.stats[name]) for name in COUNTS)
        lines.append((task_funnel.task.folder, *counts, labels or "(answer entities)", str(calls)))
    numeric = frozenset(column for column, name in enumerate(header) if name not in ("task", "rows per label"))
    return Table("generation", "From contexts to rows", (), header, tuple(lines), (), numeric)


def learnability(funnels: Sequence[Funnel]) -> dict[str, Json]:
    """What was measured of each task, by its title."""
    return {
        task_funnel.task.folder: task_funnel.stats["learnability"]
        for task_funnel in funnels
        if task_funnel.stats.get("learnability") is not None
    }


def learnability_table(funnels: Sequence[Funnel]) -> Table | None:
    """What small students learn from each set beside chance; None if it was measured for none."""
    lines: list[tuple[str, ...]] = []
    for task_funnel in funnels:
        report = task_funnel.stats.get("learnability")
        if report is None:
            continue
        if "students" not in report:
            lines.append((task_funnel.task.folder, "--", "--", "--", "--", report["not_measured"]))
            continue
        metric = report["metric"]
        scores = [_with_bounds(report["students"].get(name, {}).get(metric)) for name in ("bag_of_words", "encoder")]
        majority = percent(report["majority"][metric]) if report["majority"] else "--"
        verdict = "above chance" if report["above_chance"] else "hardly above chance"
        summary = f"{METRIC_NAMES[metric]}, {report['questions']} questions: {verdict}"
        lines.append((task_funnel.task.folder, *scores, percent(report["chance"][metric]), majority, summary))
    header = ("task", "bag of words", "encoder", "chance", "majority", "measured")
    title = "Learnability: what small students learn from the rows about their own labels"
    return Table("learnability", title, (), header, tuple(lines), (), frozenset({1, 2, 3, 4})) if lines else None


def rounds_table(funnels: Sequence[Funnel]) -> Table | None:
    """What each round of a method that asks for hard cases brought; None if no set was made in rounds."""
    lines: list[tuple[str, ...]] = []
    for task_funnel in funnels:
        rounds: list[Json] = task_funnel.stats.get("rounds", [])
        for report, last in zip(rounds, [None, *rounds], strict=False):
            student = (last or report).get("decided_by") or next(iter(report["students"]), None)
            scores = report["students"].get(student, {})
            parts = [_with_bounds(scores.get(part)) for part in ("before", "after", "new")]
            cells = ", ".join(f"{cell} {count}" for cell, count in report["instances_per_label_cell"].items())
            details = [_most_frequent(report["instances_per_context"]), cells, str(student or "--").replace("_", " ")]
            lines.append((task_funnel.task.folder, str(report["round"]), str(report["rows"]), *details, *parts))
    header = (
        "task",
        "round",
        "rows",
        "contexts with most of them",
        "label cells",
        "student",
        "before",
        "after",
        "on its own rows",
    )
    title = "Rounds: what each brought, and what a student gets right"
    return Table("rounds", title, (), header, tuple(lines), (), frozenset({1, 2, 6, 7, 8})) if lines else None


def _most_frequent(counts: Mapping[str, int]) -> str:
    """The contexts with most instances, and how many more there are."""
    most = sorted(counts.items(), key=lambda pair: -pair[1])[:SHOWN_CONTEXTS]
    more = len(counts) - len(most)
    return "; ".join([*(f"{context} {count}" for context, count in most), *([f"{more} more"] if more else [])])


def _with_bounds(score: Json | None) -> str:
    return "--" if score is None else f"{percent(score['value'])} ({percent(score['low'])} to {percent(score['high'])})"
