"""What became of the attempts of a task, from contexts to accepted rows, with the reasons of what was refused."""

from collections import Counter
from dataclasses import dataclass

from eval.page.rows import REPEATS
from targen.jsonl import Json
from targen.task import TaskSpec

REASONS = 12  # that are listed


@dataclass(frozen=True)
class Stage:
    """Attempts that came so far; `share` of all attempts. `refused` are those that came no further than before."""

    name: str
    count: int
    share: float
    refused: int


@dataclass(frozen=True)
class Funnel:
    """`reasons`: of what was refused, the most frequent first; `further` of them are not listed."""

    task: TaskSpec
    stats: Json
    contexts: int
    stages: tuple[Stage, ...]
    reasons: tuple[tuple[str, int], ...]
    further: int


def funnel(task: TaskSpec, stats: Json) -> Funnel:
    """From stats.json of a task."""
    reasons: Counter[str] = Counter(stats["rejects_per_reason"])
    steps: Counter[str] = Counter()
    for reason, count in reasons.items():
        steps[reason.partition(":")[0]] += count
    by_stage = [
        ("instance seed written", steps["instance_seed"]),
        ("passes the checks", steps["generation"]),
        *([("passes self-correction", steps["self_correction"])] if stats["checked"] else []),
        ("repeats nothing", sum(steps[name] for name in REPEATS)),
        ("in the set", stats["surplus"]),
    ]
    attempts = left = stats["attempts"]
    stages = [Stage("attempts", attempts, 1.0, 0)]
    for name, refused in by_stage:
        left -= refused
        stages.append(Stage(name, left, left / max(1, attempts), refused))
    listed = reasons.most_common(REASONS)
    return Funnel(task, stats, stats["contexts"], tuple(stages), tuple(listed), len(reasons) - len(listed))
