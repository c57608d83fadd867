"""An estimate of a score, and a comparison of two: the difference, its interval, and whether chance could explain it."""

from dataclasses import dataclass

AVERAGE = "average"  # of all tasks
PAPER_AVERAGE = "paper_average"  # of the paper's eight tasks, if the group has more
LEADERBOARD_AVERAGE = "leaderboard_average"  # of the eight tasks of SuperGLUE's own score, if the group has more
AVERAGES = (AVERAGE, PAPER_AVERAGE, LEADERBOARD_AVERAGE)
ALPHA = 0.05
Interval = tuple[float, float]


@dataclass(frozen=True)
class Estimate:
    """A metric of a level: the mean over its seeds, their standard deviation if there are several, and an interval over the
    evaluation rows if its predictions are stored. 1 is 100 percent; `n` is the number of evaluation rows."""

    value: float
    spread: float | None
    bounds: Interval | None
    seeds: int
    n: int


@dataclass(frozen=True)
class Comparison:
    """`level` against `reference` on the seeds that both have; 1 is 100 percent. Without predictions there is no interval or p.

    `tests` and `tasks`: the number of tests that the p-value is corrected for, and of their tasks; 1 for no correction.
    """

    task: str
    metric: str
    level: str
    reference: str
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
        """The first value minus the second."""
        return self.values[0] - self.values[1]

    @property
    def is_significant(self) -> bool:
        """Whether the corrected p-value is below ALPHA."""
        return self.corrected is not None and self.corrected < ALPHA and self.difference != 0

    @property
    def disagrees(self) -> bool:
        """Whether the interval excludes 0 and the difference is not significant, or the reverse."""
        if self.bounds is None or self.corrected is None:
            return False
        return (self.bounds[0] > 0 or self.bounds[1] < 0) != self.is_significant

    @property
    def verdict(self) -> str:
        """Better, worse or not distinguishable, by the corrected p value."""
        if self.corrected is None:
            return "not tested, because the predictions are missing"
        if not self.is_significant:
            return "not distinguishable at this size"
        return f"{self.level} is {'better' if self.difference > 0 else 'worse'}"


def uncorrected_comparison(
    task: str,
    metric: str,
    levels: tuple[str, str],
    estimates: tuple[Estimate, Estimate],
    bounds: Interval | None,
    p: float | None,
    unit: str = "rows",
) -> Comparison:
    """The comparison of a level with its reference, before any correction for several tests."""
    first, second = estimates
    spreads = [estimate.spread for estimate in estimates if estimate.spread is not None]
    return Comparison(
        task=task,
        metric=metric,
        level=levels[0],
        reference=levels[1],
        values=(first.value, second.value),
        bounds=bounds,
        p=p,
        corrected=p,
        n=first.n,
        seeds=first.seeds,
        spread=max(spreads, default=None),
        unit=unit,
    )
