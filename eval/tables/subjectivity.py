"""How far the labels of each task are a matter of opinion, beside the gap between synthetic and original training rows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import atanh, sqrt, tanh
from statistics import NormalDist, fmean

import numpy as np

from eval.scoring.metrics import metric_title
from eval.scoring.runs import RunScore
from eval.statistics.axes import AXES, MAIN
from eval.statistics.comparison_groups import ComparisonGroup, common_seeds, comparison_groups, with_seeds
from eval.tables.formats import Table
from eval.tables.sentences import NOT_RUN, percent
from targen.runtime.jsonl import Json
from targen.tasks.task import Task

NAME = "subjectivity_gap"
FEWEST_TASKS = 4
PERMUTATIONS = 9_999  # orders that p looks at; all of them if there are no more
NOTE = (
    "Rating: how far labels are a matter of opinion by the generator's rating, 1 (all agree) to 5 (a matter of taste), of original rows "
    "where they were rated, else of synthetic ones. Corrections that differ: of self-correction by vote, percent. Scores in percent, the mean over the seeds "
    "that both arms have. What people say of these tasks was not asked."
)


@dataclass(frozen=True)
class _Line:
    group: ComparisonGroup
    task: Task
    rating: float | None
    spread: float | None
    original: float
    synthetic: float
    seeds: int

    @property
    def gap(self) -> float:
        return self.synthetic - self.original


def subjectivity_table(
    analyses: Sequence[Json], run_scores: Sequence[RunScore], tasks: Mapping[str, Task]
) -> Table | None:
    """A line for each task that was rated and has scores of both arms; None if there is none.

    Raises: UserError if scores cannot be compared.
    """
    measures = {
        analysis["task"]: {measure["name"]: measure for measure in analysis["measures"]} for analysis in analyses
    }
    lines = list(_lines(measures, run_scores, tasks))
    if not lines:
        return None
    groups = list(dict.fromkeys(line.group.name for line in lines))
    header = ("rows", "task", "metric", "rating", "corrections that differ", "original", "synthetic", "difference")
    several = len(groups) > 1
    texts = tuple(_texts(line)[0 if several else 1 :] for line in lines)
    sentences = [
        text for group in groups for text in _sentences([line for line in lines if line.group.name == group], several)
    ]
    return Table(
        name=NAME,
        title="Subjectivity, and what synthetic rows teach",
        notes=(*([] if several else [groups[0]]), NOTE),
        header=header[0 if several else 1 :],
        lines=texts,
        records=tuple(_record(line) for line in lines),
        numeric=frozenset(range(2 + several, len(header) - 1 + several)),
        sentences=tuple(sentences),
    )


def _lines(
    measures_by_task: Mapping[str, Mapping[str, Json]], run_scores: Sequence[RunScore], tasks: Mapping[str, Task]
) -> Iterator[_Line]:
    axis = next(axis for axis in AXES if axis.name == MAIN)
    for group in comparison_groups(axis, run_scores, tasks):
        for name, levels in group.tasks.items():
            measures = measures_by_task.get(name, {})
            rating, spread = _value(measures.get("subjectivity")), _value(measures.get("vote_spread"))
            if name not in tasks or not {"original", "synthetic"} <= set(levels) or rating is spread is None:
                continue
            arms = [levels["original"], levels["synthetic"]]
            metric, seeds = tasks[name].metrics[0], common_seeds(arms)
            if seeds:
                original, synthetic = (
                    fmean(run_score.score.value for run_score in with_seeds(arm, seeds).metrics[metric]) for arm in arms
                )
                yield _Line(group, tasks[name], rating, spread, original, synthetic, len(seeds))


def _value(measure: Json | None) -> float | None:
    """Of the original rows if there is one, else of the synthetic ones."""
    numbers = (
        [measure[side]["value"] for side in ("a", "b") if measure[side] is not None] if measure is not None else []
    )
    return float(numbers[0]) if numbers else None


def _texts(line: _Line) -> tuple[str, ...]:
    return (
        line.group.name,
        line.task.folder,
        metric_title(line.task.metrics[0]),
        NOT_RUN if line.rating is None else f"{line.rating:.2f}",
        NOT_RUN if line.spread is None else percent(line.spread),
        percent(line.original),
        percent(line.synthetic),
        f"{100 * line.gap:+.1f}",
    )


def _record(line: _Line) -> Mapping[str, str | float | None]:
    return {
        **dict(line.group.labels),
        "task": line.task.name,
        "metric": line.task.metrics[0],
        "rating": line.rating,
        "vote_spread": line.spread,
        "original": line.original,
        "synthetic": line.synthetic,
        "difference": line.gap,
        "seeds": line.seeds,
    }


def _sentences(lines: Sequence[_Line], several: bool) -> Iterator[str]:
    """How each measure correlates with the difference over the tasks."""
    start = f"{lines[0].group.name}: " if several else ""
    for title, name in (("the rating", "rating"), ("corrections that differ", "spread")):
        pairs = [(value, line.gap) for line in lines if (value := getattr(line, name)) is not None]
        if not pairs:
            continue
        if len(pairs) < FEWEST_TASKS:
            yield f"{start}{title}: {len(pairs)} tasks, expected at least {FEWEST_TASKS} for a rank correlation."
            continue
        result = rank_correlation(*zip(*pairs, strict=True))
        if result is None:
            yield f"{start}{title}: equal for all tasks, so there is no rank correlation."
            continue
        bounds = "no interval" if result.bounds is None else "95 % interval {:+.2f} to {:+.2f}".format(*result.bounds)
        yield (
            f"{start}rank correlation of {title} with synthetic - original over {len(pairs)} tasks: {result.value:+.2f} ({bounds}), "
            f"p = {result.p:.2f}."
        )


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's, with its 95 % interval (none for a perfect order) and the p of a permutation test."""

    value: float
    bounds: tuple[float, float] | None
    p: float


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> RankCorrelation | None:
    """The rank correlation of two numbers of at least four tasks; None if one of them is constant.

    The interval is Fisher's, with the variance (1 + r^2 / 2) / (n - 3). Source: D. G. Bonett and T. A. Wright, Sample size
    requirements for estimating Pearson, Kendall and Spearman correlations, Psychometrika 65 (2000). Few tasks make it wide.
    """
    from scipy.stats import permutation_test, rankdata

    ranks = [rankdata(values) - (len(values) + 1) / 2 for values in (first, second)]
    spread = sqrt(float((ranks[0] ** 2).sum() * (ranks[1] ** 2).sum()))
    if not spread:
        return None
    value = float((ranks[0] * ranks[1]).sum()) / spread
    test = permutation_test(
        (ranks[0],),
        lambda values, axis: (values * ranks[1]).sum(axis=axis),
        permutation_type="pairings",
        n_resamples=PERMUTATIONS,
        vectorized=True,
        rng=np.random.default_rng(0),
    )
    bounds = None
    if abs(value) < 1 - 1e-9:
        reach = NormalDist().inv_cdf(0.975) * sqrt((1 + value**2 / 2) / (len(first) - 3))
        bounds = (tanh(atanh(value) - reach), tanh(atanh(value) + reach))
    return RankCorrelation(value, bounds, float(test.pvalue))
