"""Scores and comparisons in words, as tables and pages print them."""

from collections.abc import Mapping

from eval.scoring.metrics import metric_title
from eval.scoring.scores import Score
from eval.statistics.comparison_groups import SeedScores
from eval.statistics.comparisons import AVERAGES, Comparison, Estimate

NOT_RUN = "--"


def sentence(comparison: Comparison, title: str) -> str:
    """What a comparison shows, with the evidence."""
    value, reference_value = comparison.values
    size = f"{comparison.n} {comparison.unit}, {comparison.seeds} seed{'s' if comparison.seeds > 1 else ''}"
    facts = [f"difference {100 * comparison.difference:+.1f}"]
    if comparison.bounds is not None:
        facts.append(f"95% interval {100 * comparison.bounds[0]:.1f} to {100 * comparison.bounds[1]:.1f}")
    if comparison.corrected is not None:
        facts.append(f"p {p_text(comparison.corrected)}{_correction(comparison)}")
        if comparison.spread is not None and abs(comparison.difference) <= comparison.spread:
            facts.append(f"no larger than the spread over seeds, {100 * comparison.spread:.1f}")
        if comparison.disagrees:
            facts.append(_disagreement(comparison))
    metric = "" if comparison.metric in AVERAGES else f" {metric_title(comparison.metric)}"
    return (
        f"{title}: {comparison.level} {100 * value:.1f} against {comparison.reference} {100 * reference_value:.1f}{metric} on "
        f"{size}: {comparison.verdict} ({', '.join(facts)})."
    )


def _disagreement(comparison: Comparison) -> str:
    if comparison.is_significant:
        return "the interval includes 0, but p decides"
    return "the interval, of this score alone, excludes 0, but p decides"


def p_text(p: float) -> str:
    """A p value as text; very small ones as a bound."""
    return f"= {p:.2f}" if p >= 0.095 else f"= {p:.3f}" if p >= 0.001 else "< 0.001"


def _correction(comparison: Comparison) -> str:
    if comparison.tests == 1:
        return ""
    tasks = f"{comparison.tasks} task{'s' if comparison.tasks > 1 else ''}"
    tests = tasks if comparison.tests == comparison.tasks else f"the {comparison.tests} scores of {tasks}"
    return f" after Holm's correction over {tests}"


def percent(value: float) -> str:
    """A fraction as a percentage with one decimal."""
    return f"{100 * value:.1f}"


def score_text(estimate: Estimate, scores: SeedScores | None) -> str:
    """`71.4 ± 1.2 (60.7 to 82.1) 56×3`, followed by the shares of answers that could not be read, or were cut, if there are any."""
    spread = f" ± {percent(estimate.spread)}" if estimate.spread is not None else ""
    bounds = f" ({percent(estimate.bounds[0])} to {percent(estimate.bounds[1])})" if estimate.bounds is not None else ""
    counts = {} if scores is None else {"unreadable": scores.unparsed, "cut": scores.cut_answers}
    answers = estimate.n * estimate.seeds
    shares = [f", {percent(count / answers)} % {what}" for what, count in counts.items() if count]
    return f"{percent(estimate.value)}{spread}{bounds} {estimate.n}×{estimate.seeds}{''.join(shares)}"


def difference_text(comparison: Comparison) -> str:
    """`-3.6 (-12.5 to 5.4), p = 0.62`."""
    bounds = ""
    if comparison.bounds is not None:
        bounds = f" ({percent(comparison.bounds[0])} to {percent(comparison.bounds[1])})"
    p = f", p {p_text(comparison.corrected)}" if comparison.corrected is not None else ""
    return f"{100 * comparison.difference:+.1f}{bounds}{p}"


def trained_on(rows: Mapping[str, str]) -> str:
    """`original 250, synthetic 24`: the number of training rows by level; -- if no model was finetuned."""
    return ", ".join(f"{level} {count}" for level, count in rows.items()) or NOT_RUN


def evaluated_on(score: Score) -> str:
    """`SuperGLUE val, 10 of 20 rows`."""
    part = "" if score.rows == score.rows_in_split else f"{score.rows} of "
    return f"{score.origin}, {part}{score.rows_in_split} rows"
