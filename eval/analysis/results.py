"""The results of an analysis: numbers with intervals, details for a page, and what is missing and why."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from targen.runtime.jsonl import Json

SIDES = ("a", "b")
SHARE = "share"  # unit of numbers from 0 to 1, which people are shown in percent


@dataclass(frozen=True)
class Interval:
    """A number with its 95 % interval; without bounds if there are too few rows for one."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Measure:
    """One number of each set; `difference` is b - a. `size` is n in each set: rows, instances or words."""

    part: str
    name: str
    title: str
    unit: str
    a: Interval | None
    b: Interval | None
    difference: Interval | None
    size: dict[str, int]
    note: str = ""
    theirs: bool = False  # computed as the paper's authors did: not sound, for comparison with their published numbers


@dataclass(frozen=True)
class Missing:
    """What could not be measured, and a sentence that says why and what to do."""

    part: str
    why: str


@dataclass(frozen=True)
class AnalysisResult:
    """The result of one part. `details` are plain values; texts in them were written by models and are not trusted."""

    measures: tuple[Measure, ...] = ()
    details: Json = field(default_factory=dict)
    missing: tuple[Missing, ...] = ()


def not_measured(part: str, why: str) -> AnalysisResult:
    """The result of a part that could not be measured at all."""
    return AnalysisResult(missing=(Missing(part, why),))


def combine_results(results: Iterable[AnalysisResult]) -> AnalysisResult:
    """Several results as one."""
    measures: tuple[Measure, ...] = ()
    details: Json = {}
    missing: tuple[Missing, ...] = ()
    for result in results:
        measures, details, missing = measures + result.measures, details | result.details, missing + result.missing
    return AnalysisResult(measures, details, missing)
