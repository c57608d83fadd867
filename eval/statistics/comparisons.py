"""An estimate of a score, and a comparison of two: the difference, its interval, and whether chance could explain it."""

from dataclasses import dataclass

AVERAGE = "average"
ALPHA = 0.05
Interval = tuple[float, float]


@dataclass(frozen=True)
class Estimate:
    """A level's metric, from 0 to 1: the mean over its seeds, the standard deviation over them where there are several,
    and an interval over the evaluation rows where its predictions are kept."""

    value: float
    spread: float | None
    bounds: Interval | None
    seeds: int
    n: int


@dataclass(frozen=True)
class Comparison:
    """`one` against `other`: values from 0 to 1 on the seeds that both have. Without predictions there is no interval or p.

    `tests` and `tasks`: over how many the p-value is corrected, 1 for none.
    """

    task: str
    metric: str
    one: str
    other: str
    values: tuple[float, float]
    bounds: Interval | None
    p: float | None
    corrected: float | None
    n: int
    seeds: int
    spread: float | None  # the larger of the two
    tests: int = 1
    tasks: int = 1
    unit: str = "rows"

    @property
    def difference(self) -> float:
        return self.values[0] - self.values[1]

    @property
    def is_told(self) -> bool:
        """Whether chance alone would rarely make such a difference."""
        return self.corrected is not None and self.corrected < ALPHA and self.difference != 0

    @property
    def verdict(self) -> str:
        if self.corrected is None:
            return "not tested, for want of the predictions"
        if not self.is_told:
            return "not distinguishable at this size"
        return f"{self.one} is {'better' if self.difference > 0 else 'worse'}"
