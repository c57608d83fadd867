"""Published numbers to stand beside ours, from results/paper.yaml, each with its source."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml
from pydantic.dataclasses import dataclass as checked_dataclass

from eval.scoring.runs import Score
from targen.config.validation import check
from targen.runtime.paths import PROJECT
from targen.tasks.task import STRICT

PAPER = PROJECT / "results" / "paper.yaml"


@checked_dataclass(frozen=True, config=STRICT)
class PublishedScore:
    """In percent, of one of `models`: it is not known of which."""

    benchmark: str
    task: str
    models: tuple[str, ...]
    instruct: bool
    arm: str
    value: float
    source: str


@checked_dataclass(frozen=True, config=STRICT)
class PublishedDifference:
    """Points of `arm` above those of `reference`."""

    benchmark: str
    task: str
    models: tuple[str, ...]
    arm: str
    reference: str
    value: float
    source: str


@checked_dataclass(frozen=True, config=STRICT)
class TokenSums:
    source: str
    tasks: dict[str, dict[str, int]]


@checked_dataclass(frozen=True, config=STRICT)
class Paper:
    """All of results/paper.yaml."""

    scores: tuple[PublishedScore, ...]
    differences: tuple[PublishedDifference, ...]
    token_sums: TokenSums


@dataclass(frozen=True)
class Number:
    value: float
    source: str


@cache
def paper(path: Path = PAPER) -> Paper:
    return check(Paper, yaml.safe_load(path.read_text(encoding="utf-8")), path.name)


def published_score(like: Score, task: str) -> Number | None:
    """What was published of the model, the instructions and the arm of a score, on a task or on average."""
    for one in paper().scores:
        same = (one.benchmark, one.task, one.instruct, one.arm) == (like.benchmark, task, like.instruct, like.arm)
        if same and like.model in one.models:
            return Number(one.value, one.source)
    return None


def published_difference(like: Score, task: str, reference: str) -> Number | None:
    """What was published of the arm of a score above that of another arm, in points."""
    for one in paper().differences:
        same = (one.benchmark, one.task, one.arm, one.reference) == (like.benchmark, task, like.arm, reference)
        if same and like.model in one.models:
            return Number(one.value, one.source)
    return None
