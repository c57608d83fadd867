"""What a comparison of two arms says: the difference, its interval, whether it can be told from chance, in a sentence."""

from dataclasses import dataclass

from eval.tables.score_tables import METRIC_NAMES

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


def sentence(comparison: Comparison, title: str) -> str:
    """What a reader may conclude, and from what."""
    found, (one, other) = comparison, comparison.values
    size = f"{found.n} {found.unit}, {found.seeds} seed{'s' if found.seeds > 1 else ''}"
    facts = [f"difference {100 * found.difference:+.1f}"]
    if found.bounds is not None:
        facts.append(f"95% interval {100 * found.bounds[0]:.1f} to {100 * found.bounds[1]:.1f}")
    if found.corrected is not None:
        facts.append(f"p {p_text(found.corrected)}{_correction(found)}")
    if found.spread is not None and found.corrected is not None and abs(found.difference) <= found.spread:
        facts.append(f"no larger than the spread over seeds, {100 * found.spread:.1f}")
    metric = METRIC_NAMES.get(found.metric, found.metric)
    metric = "" if found.task == AVERAGE else f" {metric}"
    return (
        f"{title}: {found.one} {100 * one:.1f} against {found.other} {100 * other:.1f}{metric} on {size}: "
        f"{found.verdict} ({', '.join(facts)})."
    )


def p_text(p: float) -> str:
    return f"= {p:.2f}" if p >= 0.095 else f"= {p:.3f}" if p >= 0.001 else "< 0.001"


def _correction(found: Comparison) -> str:
    if found.tests == 1:
        return ""
    tasks = f"{found.tasks} task{'s' if found.tasks > 1 else ''}"
    over = tasks if found.tests == found.tasks else f"the {found.tests} scores of {tasks}"
    return f" after Holm's correction over {over}"


def percent(value: float) -> str:
    return f"{100 * value:.1f}"


def score_text(found: Estimate, unparsed: int) -> str:
    """`71.4 ± 1.2 (60.7 to 82.1) 56×3`, and behind it the share of answers that could not be read, where there are any."""
    spread = f" ± {percent(found.spread)}" if found.spread is not None else ""
    bounds = f" ({percent(found.bounds[0])} to {percent(found.bounds[1])})" if found.bounds is not None else ""
    unreadable = f", {percent(unparsed / (found.n * found.seeds))} % unreadable" if unparsed else ""
    return f"{percent(found.value)}{spread}{bounds} {found.n}×{found.seeds}{unreadable}"


def difference_text(found: Comparison) -> str:
    """`-3.6 (-12.5 to 5.4), p = 0.62`."""
    bounds = f" ({percent(found.bounds[0])} to {percent(found.bounds[1])})" if found.bounds is not None else ""
    p = f", p {p_text(found.corrected)}" if found.corrected is not None else ""
    return f"{100 * found.difference:+.1f}{bounds}{p}"
