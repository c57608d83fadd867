"""What an analysis finds: numbers with intervals, details for a page, and what is missing and why."""

from dataclasses import dataclass, field

from targen.runtime.jsonl import Json

SIDES = ("a", "b")


@dataclass(frozen=True)
class Interval:
    """A number with its 95 % interval; without bounds where there are too few rows for one."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Measure:
    """One number of each set; `difference` is b - a. `size` counts what it was taken on in each set."""

    part: str
    name: str
    title: str
    unit: str
    a: Interval | None
    b: Interval | None
    difference: Interval | None
    size: dict[str, int]
    note: str = ""
    theirs: bool = False  # as the paper's authors took it: not sound, for comparison with what they published


@dataclass(frozen=True)
class Missing:
    """What could not be looked at, and a sentence that says why and what to do."""

    part: str
    why: str


@dataclass(frozen=True)
class Found:
    """The result of one part. `details` are plain values; texts in them were written by models and are hostile."""

    measures: tuple[Measure, ...] = ()
    details: Json = field(default_factory=dict)
    missing: tuple[Missing, ...] = ()


def joined(parts: "list[Found]") -> Found:
    """Several findings as one."""
    details: Json = {}
    for part in parts:
        details |= part.details
    return Found(
        tuple(measure for part in parts for measure in part.measures),
        details,
        tuple(missing for part in parts for missing in part.missing),
    )
