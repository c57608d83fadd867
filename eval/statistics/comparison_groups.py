"""Scores arranged for comparison: the levels of a comparison group differ in one thing only."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from eval.scoring.metrics import METRICS
from eval.scoring.runs import RunScore
from eval.scoring.scores import SUPERGLUE, Score
from eval.statistics.axes import ComparisonAxis, Labels
from eval.statistics.comparisons import AVERAGE, LEADERBOARD_AVERAGE, PAPER_AVERAGE
from targen.config.arms import ARMS
from targen.runtime.errors import UserError
from targen.tasks.registry import LEADERBOARD_TASKS, PAPER_TASKS


@dataclass(frozen=True)
class SeedScores:
    """The scores of one recipe on one task, by metric; those of a metric are in the order of the seeds."""

    metrics: dict[str, tuple[RunScore, ...]]

    @property
    def scores(self) -> tuple[RunScore, ...]:
        """The scores of the first metric."""
        return next(iter(self.metrics.values()))

    @property
    def first(self) -> Score:
        """The score of the first seed, for what all seeds share."""
        return self.scores[0].score

    @property
    def unparsed(self) -> int:
        """Number of answers that could not be read, over all seeds."""
        return sum(run_score.score.unparsed for run_score in self.scores)

    @property
    def cut_answers(self) -> int:
        """Number of texts that reached eval.max_new_tokens, over all seeds."""
        return sum(run_score.score.cut_answers for run_score in self.scores)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The training seeds, in the order of the scores."""
        return tuple(run_score.score.seed for run_score in self.scores)


@dataclass(frozen=True)
class ComparisonGroup:
    """The scores by task and by each level that was run; `labels` say what they have in common."""

    labels: Labels
    levels: tuple[str, ...]
    tasks: dict[str, dict[str, SeedScores]]

    @property
    def name(self) -> str:
        """The values of the labels, as text."""
        return ", ".join(value for _, value in self.labels)


def comparison_groups(
    axis: ComparisonAxis, run_scores: Sequence[RunScore], tasks: Iterable[str]
) -> list[ComparisonGroup]:
    """The groups of a table in a fixed order, with their tasks in the order of `tasks`.

    The same cell may be in several runs: with equal scores it counts once; with different ones each run gets a group.
    If a training set has several sizes, the largest that all levels share is used, or else each level's largest.
    Raises: UserError if a line would mix scores on different evaluation data.
    """
    by_labels: dict[Labels, list[RunScore]] = defaultdict(list)
    for run_score in run_scores:
        if axis.level(run_score.score) is not None:
            by_labels[axis.labels(run_score.score)].append(run_score)
    order, groups = list(tasks), []
    for labels, equal_scores in sorted(by_labels.items(), key=lambda item: item[0]):
        for run, distinct in without_repeats(equal_scores):
            for synthesis, members in _by_synthesis(axis, distinct):
                group = _group(axis, (*labels, *synthesis, *((("run", run),) if run else ())), members, order)
                if len({axis.level_kind(level) for level in group.levels}) >= axis.min_levels:
                    groups.append(group)
    return groups


def without_repeats(run_scores: Sequence[RunScore]) -> list[tuple[str | None, list[RunScore]]]:
    """(None, each score once); or (run, its scores) for each, if two runs differ in a score of the same recipe and seed."""
    seen: dict[tuple[object, ...], RunScore] = {}
    for run_score in run_scores:
        earlier = seen.setdefault((*_recipe(run_score.score), run_score.score.seed), run_score).score
        if (earlier.value, earlier.evaluated) != (run_score.score.value, run_score.score.evaluated):
            by_run: dict[str, list[RunScore]] = defaultdict(list)
            for other in run_scores:
                by_run[other.run].append(other)
            return list(by_run.items())
    return [(None, list(seen.values()))]


def _recipe(score: Score) -> tuple[object, ...]:
    """Everything that distinguishes scores, except the seed and the run."""
    synthesis = (score.method, score.self_correct, score.generator, score.selection, score.train_rows, score.real_rows)
    scored = (score.benchmark, score.task, score.metric)
    return (*scored, score.model, score.setting, score.scoring, score.shots, score.arm, *synthesis)


def _by_synthesis(axis: ComparisonAxis, run_scores: list[RunScore]) -> list[tuple[Labels, list[RunScore]]]:
    """(how synthetic rows were made, the scores with such rows and those without synthetic rows)."""
    if axis.synthesis is None:
        return [((), run_scores)]
    ways = sorted({way for run_score in run_scores if (way := axis.synthesis(run_score.score))})
    return [
        (way, [run_score for run_score in run_scores if axis.synthesis(run_score.score) in (way, ())])
        for way in ways or [()]
    ]


def _group(axis: ComparisonAxis, labels: Labels, run_scores: list[RunScore], order: Sequence[str]) -> ComparisonGroup:
    members: dict[str, dict[str, list[RunScore]]] = defaultdict(lambda: defaultdict(list))
    for run_score in run_scores:
        members[run_score.score.task][axis.level(run_score.score) or ""].append(run_score)
    tasks = {task: _at_one_size(members[task]) for task in tasks_in_order(members, order)}
    for task, levels in tasks.items():
        check_same_rows(task, list(levels.values()))
    return ComparisonGroup(labels, axis.ordered(level for levels in tasks.values() for level in levels), tasks)


def tasks_in_order(tasks: Iterable[str], order: Sequence[str]) -> list[str]:
    """Task names in the given order; others follow in order of appearance, `average` last."""
    names = list(dict.fromkeys(tasks))
    return sorted(names, key=lambda name: (order.index(name) if name in order else len(order), name == "average"))


def _at_one_size(levels: Mapping[str, list[RunScore]]) -> dict[str, SeedScores]:
    """The scores of a task at the largest training set that all levels share, or else at each level's largest."""
    sizes = [
        {rows for run_score in run_scores if (rows := run_score.score.train_rows) is not None}
        for run_scores in levels.values()
    ]
    trained = [level_sizes for level_sizes in sizes if level_sizes]
    shared = set.intersection(*trained) if trained else set()
    chosen = {}
    for level, run_scores in levels.items():
        candidates = [run for run in run_scores if shared and run.score.train_rows == max(shared)] or run_scores
        largest = max(training_size(run_score.score) for run_score in candidates)
        chosen[level] = seed_scores(
            [run_score for run_score in candidates if training_size(run_score.score) == largest]
        )
    return chosen


def training_size(score: Score) -> tuple[int, int]:
    """(training rows, real rows); 0 for a model that is not finetuned."""
    return score.train_rows or 0, score.real_rows or 0


def seed_scores(run_scores: Sequence[RunScore]) -> SeedScores:
    """The scores of one recipe on one task. Raises: UserError if two are of the same seed."""
    by_metric: dict[str, dict[int, RunScore]] = defaultdict(dict)
    for run_score in run_scores:
        earlier = by_metric[run_score.score.metric].setdefault(run_score.score.seed, run_score)
        if earlier is not run_score:
            raise UserError(
                f"scores.jsonl: {cell_in_run(earlier)} and {cell_in_run(run_score)} are different recipes, but would share one "
                "cell of a table. Report them separately: name other runs."
            )
    ordered = {metric: tuple(by_seed[seed] for seed in sorted(by_seed)) for metric, by_seed in by_metric.items()}
    seeds = [tuple(run_score.score.seed for run_score in metric_seeds) for metric_seeds in ordered.values()]
    if any(metric_seeds != seeds[0] for metric_seeds in seeds):
        first = run_scores[0]
        raise UserError(
            f"scores.jsonl: {cell_in_run(first)} lacks a metric of {first.score.task} that other seeds have. Evaluate again."
        )
    return SeedScores(ordered)


SAME_ROWS = ("origin", "rows", "n", "evaluated", "is_fixture", "harness", "task_version")


def check_same_rows(task: str, levels: Sequence[SeedScores]) -> None:
    """Raises: UserError if the scores of one line are not of the same rows."""
    run_scores = [run_score for level in levels for members in level.metrics.values() for run_score in members]
    first = run_scores[0]
    names = SAME_ROWS if first.score.benchmark == SUPERGLUE else (*SAME_ROWS, "shots")
    for second in run_scores[1:]:
        different = [name for name in names if getattr(first.score, name) != getattr(second.score, name)]
        if different:
            scores = (first.score, second.score)
            values = (", ".join(f"{name} {getattr(score, name)}" for name in different) for score in scores)
            raise UserError(
                f"scores.jsonl: {task}: {cell_in_run(first)} was scored on different rows than {cell_in_run(second)}: "
                f"{'; '.join(values)}. One line of a table has one set of rows: evaluate both on the same data, or report them "
                "separately."
            )


def averaged_tasks(group: ComparisonGroup) -> dict[str, tuple[str, ...]]:
    """The averages of a group by name, each with its tasks: all of the group's, and the paper's eight and the leaderboard's eight
    if there are more.

    That of a single task is the mean of its metrics.

    There are none if the group has an average of its own, or if some tasks were scored on the fixture and others on original data.
    """
    if AVERAGE in group.tasks:
        return {}
    averages = {AVERAGE: tuple(group.tasks)}
    for name, tasks in ((PAPER_AVERAGE, PAPER_TASKS), (LEADERBOARD_AVERAGE, LEADERBOARD_TASKS)):
        if set(tasks) < set(group.tasks):
            averages[name] = tuple(task for task in group.tasks if task in tasks)
    return {
        name: tasks
        for name, tasks in averages.items()
        if _metric_count(group, tasks) > 1 and not _mixes_fixture(group, tasks)
    }


def _metric_count(group: ComparisonGroup, tasks: Iterable[str]) -> int:
    """How many numbers an average has: the metrics that count in the scores of these tasks."""
    metrics = {(task, metric) for task in tasks for level in group.tasks[task].values() for metric in level.metrics}
    return sum(metric not in METRICS or METRICS[metric].in_task_score for _, metric in metrics)


def _mixes_fixture(group: ComparisonGroup, tasks: Iterable[str]) -> bool:
    return len({level.first.is_fixture for task in tasks for level in group.tasks[task].values()}) > 1


def cell_in_run(run_score: RunScore) -> str:
    """The cell with the run that it comes from."""
    return f"{run_score.score.cell} ({run_score.root})"


def is_untrained(arm: str) -> bool:
    """Whether models of this arm are used without finetuning; False for an unknown arm."""
    return arm in ARMS and not ARMS[arm].trained


def has_one_cell(scores: SeedScores) -> bool:
    """Whether these are the scores of a model without finetuning, scored once."""
    return is_untrained(scores.first.arm) and len({run_score.score.cell for run_score in scores.scores}) == 1


def common_seeds(levels: Sequence[SeedScores]) -> tuple[int, ...]:
    """The seeds that all levels have. A model without finetuning has no seed and is compared with each."""
    trained = [scores for scores in levels if not has_one_cell(scores)] or list(levels)
    return tuple(seed for seed in trained[0].seeds if all(seed in scores.seeds for scores in trained))


def with_seeds(scores: SeedScores, seeds: Sequence[int]) -> SeedScores:
    """The scores of these seeds; a model without finetuning has the same score for each."""

    def of_seed(run_scores: tuple[RunScore, ...], seed: int) -> RunScore:
        if has_one_cell(scores):
            return run_scores[0]
        return next(run_score for run_score in run_scores if run_score.score.seed == seed)

    return SeedScores({metric: tuple(of_seed(runs, seed) for seed in seeds) for metric, runs in scores.metrics.items()})
