"""Published numbers to compare with ours, from results/paper.yaml, each with its source."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml
from pydantic.dataclasses import dataclass as checked_dataclass

from eval.scoring.scores import Score
from targen.config.validation import check
from targen.runtime.paths import PAPER
from targen.tasks.specification import STRICT


@checked_dataclass(frozen=True, config=STRICT)
class PublishedScore:
    """A score in percent of one of `models`; the paper does not say which."""

    benchmark: str
    task: str
    models: tuple[str, ...]
    instruct: bool
    arm: str
    value: float
    source: str


@checked_dataclass(frozen=True, config=STRICT)
class PublishedDifference:
    """The score of `arm` minus that of `reference`, in points."""

    benchmark: str
    task: str
    models: tuple[str, ...]
    arm: str
    reference: str
    value: float
    source: str


@checked_dataclass(frozen=True, config=STRICT)
class TokenSums:
    """Distinct tokens per example, summed over a data set: by task, then by `original` and `synthetic`.

    `fields`: by task, field names in the authors' rows that differ from ours.
    """

    source: str
    tasks: dict[str, dict[str, int]]
    fields: dict[str, dict[str, str]]


@checked_dataclass(frozen=True, config=STRICT)
class Paper:
    """All of results/paper.yaml."""

    scores: tuple[PublishedScore, ...]
    differences: tuple[PublishedDifference, ...]
    token_sums: TokenSums


@dataclass(frozen=True)
class Number:
    """A published number, in percent or points."""

    value: float
    source: str


COLUMNS = {  # of published numbers by table
    "original_vs_synthetic": ("original", "synthetic"),
    "instructions": ("without", "with instructions"),
    "openllm": ("synthetic - self_instruct",),
}


def published_columns(table: str) -> tuple[str, ...]:
    """The levels and differences of a table that have a column of published numbers."""
    return COLUMNS.get(table, ())


@cache
def paper(path: Path = PAPER) -> Paper:
    """The published numbers. Raises: UserError if the file does not have the expected keys."""
    return check(Paper, yaml.safe_load(path.read_text(encoding="utf-8")), path.name)


def published_score(like: Score, task: str) -> Number | None:
    """The published number for the model, the instructions and the arm of a score, on a task or on average."""
    setting = (like.benchmark, task, like.instruct, like.arm)
    for score in paper().scores:
        if (score.benchmark, score.task, score.instruct, score.arm) == setting and like.model in score.models:
            return Number(score.value, score.source)
    return None


def published_difference(like: Score, task: str, reference: str) -> Number | None:
    """The published difference between the arm of a score and the arm `reference`, in points."""
    setting = (like.benchmark, task, like.arm, reference)
    for score in paper().differences:
        if (score.benchmark, score.task, score.arm, score.reference) == setting and like.model in score.models:
            return Number(score.value, score.source)
    return None
