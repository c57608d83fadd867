"""Scores and comparisons in words, as tables and pages print them."""

from eval.scoring.metrics import METRIC_NAMES
from eval.statistics.comparisons import AVERAGE, Comparison, Estimate


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
