"""The paper's comparisons from our scores: one line for each task and metric, one value for each level, and the averages."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from eval.scoring.metrics import METRICS, metric_title
from eval.scoring.runs import RunScore
from eval.scoring.scores import Score
from eval.statistics.axes import AXES, ComparisonAxis
from eval.statistics.comparison_groups import (
    ComparisonGroup,
    SeedScores,
    averaged_tasks,
    comparison_groups,
    tasks_in_order,
)
from eval.statistics.comparisons import AVERAGE, AVERAGES, LEADERBOARD_AVERAGE, PAPER_AVERAGE, Comparison, Estimate
from eval.statistics.significance import ScoreStatistics
from eval.tables.published import Number, published_columns, published_difference, published_score
from eval.tables.sentences import NOT_RUN, evaluated_on
from targen.tasks.registry import PAPER_TASKS
from targen.tasks.task import Task


@dataclass(frozen=True)
class Line:
    """One metric of one task, or an average: the levels' values, their comparisons with the reference, and published numbers."""

    group: ComparisonGroup
    task: str
    title: str
    metric: str
    majority: float | None
    levels: Mapping[str, Estimate]
    scores: Mapping[str, SeedScores]  # by level; empty for an average
    comparisons: Mapping[str, Comparison]  # by level
    published: Mapping[str, Number]  # by level, or by `level - reference` for a difference
    evaluated_on: str
    train_rows: Mapping[str, str]  # by level, of the levels that were finetuned: `250`, or `24 to 250` over tasks

    @property
    def is_average(self) -> bool:
        """Whether it is over tasks, and not the harness's own average of an OpenLLM suite."""
        return self.task in AVERAGES and not self.scores

    @property
    def fixture_mark(self) -> str:
        """The mark of a score on a fixture; empty for other rows."""
        return next((scores.first.fixture_mark for scores in self.scores.values()), "")


@dataclass(frozen=True)
class ComparisonTable:
    """A table before it is laid out; figures, sentences and the page are made from it as well."""

    axis: ComparisonAxis
    groups: tuple[ComparisonGroup, ...]
    lines: tuple[Line, ...]

    @property
    def levels(self) -> tuple[str, ...]:
        """The columns: the levels that were run, in the order of the axis."""
        return self.axis.ordered(level for group in self.groups for level in group.levels)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """(level, reference) of every comparison."""
        comparisons = [comparison for line in self.lines for comparison in line.comparisons.values()]
        return list(dict.fromkeys((comparison.level, comparison.reference) for comparison in comparisons))

    @property
    def fixture_tasks(self) -> dict[str, list[str]]:
        """The titles of tasks that were scored on a fixture, sorted, by their mark."""
        marked = sorted({(line.fixture_mark, line.title) for line in self.lines if line.fixture_mark})
        return {mark: [title for title_mark, title in marked if title_mark == mark] for mark, _ in marked}


def comparison_tables(
    run_scores: Sequence[RunScore], tasks: Mapping[str, Task], statistics: ScoreStatistics
) -> list[ComparisonTable]:
    """Every table that has content. `tasks` are those of the runs, in order; tasks without scores have a line too."""
    tables = []
    for axis in AXES:
        groups = tuple(comparison_groups(axis, run_scores, tasks))
        if groups:
            lines = tuple(line for group in groups for line in _lines(axis, group, tasks, statistics))
            tables.append(ComparisonTable(axis, groups, lines))
    return tables


def _lines(
    axis: ComparisonAxis, group: ComparisonGroup, tasks: Mapping[str, Task], statistics: ScoreStatistics
) -> Iterator[Line]:
    comparisons = statistics.comparisons(axis, group)
    for task in tasks_in_order([*(tasks if axis.all_tasks else ()), *group.tasks], list(tasks)):
        levels = group.tasks.get(task, {})
        estimates = {level: statistics.estimates(scores) for level, scores in levels.items()}
        for metric in _metrics(task, levels, tasks):
            scores = {level: level_scores for level, level_scores in levels.items() if metric in level_scores.metrics}
            yield Line(
                group=group,
                task=task,
                title=tasks[task].folder if task in tasks else task,
                metric=metric_title(metric),
                majority=_majority(scores, metric),
                levels={level: estimates[level][metric] for level in scores},
                scores=scores,
                comparisons={
                    comparison.level: comparison
                    for comparison in comparisons
                    if (comparison.task, comparison.metric) == (task, metric)
                },
                published=_published(axis, {level: level_scores.first for level, level_scores in scores.items()}, task),
                evaluated_on=next((evaluated_on(level_scores.first) for level_scores in scores.values()), NOT_RUN),
                train_rows=_train_rows({level: [level_scores] for level, level_scores in scores.items()}),
            )
    for average, averaged in averaged_tasks(group).items():
        yield _average_line(axis, group, average, averaged, comparisons, statistics)


def _metrics(task: str, levels: Mapping[str, SeedScores], tasks: Mapping[str, Task]) -> list[str]:
    """The metrics that any level has, in the task's order; all of the task's if no level was run."""
    specified = tasks[task].metrics if task in tasks else []
    if not levels:
        return list(specified)
    scored = dict.fromkeys(metric for scores in levels.values() for metric in scores.metrics)
    return [*(metric for metric in specified if metric in scored), *(m for m in scored if m not in specified)]


def _average_line(
    axis: ComparisonAxis,
    group: ComparisonGroup,
    name: str,
    task_names: Sequence[str],
    comparisons: Sequence[Comparison],
    statistics: ScoreStatistics,
) -> Line:
    """The line of an average over tasks, for the levels that were run on all of them."""
    tasks = [group.tasks[task] for task in task_names]
    complete = {
        level: [levels[level] for levels in tasks] for level in group.levels if all(level in levels for levels in tasks)
    }
    estimates = {level: estimate for level, scores in complete.items() if (estimate := statistics.average(scores))}
    is_of_paper = set(task_names) == set(PAPER_TASKS) and is_as_in_paper(group)
    first_scores = {level: scores[0].first for level, scores in complete.items()}
    return Line(
        group=group,
        task=name,
        title=_average_title(name, task_names, tasks),
        metric="task score",
        majority=None,
        levels=estimates,
        scores={},
        comparisons={comparison.level: comparison for comparison in comparisons if comparison.task == name},
        published=_published(axis, first_scores, AVERAGE) if is_of_paper else {},
        evaluated_on="; ".join(dict.fromkeys(scores.first.origin for levels in tasks for scores in levels.values())),
        train_rows=_train_rows(complete),
    )


def _average_title(name: str, task_names: Sequence[str], tasks: Sequence[Mapping[str, SeedScores]]) -> str:
    """`average of 8 tasks`, or the metrics of a single one: `mean of accuracy and macro-F1`."""
    if len(task_names) > 1:
        owner = {PAPER_AVERAGE: " of the paper", LEADERBOARD_AVERAGE: " of the leaderboard"}.get(name, "")
        return f"average of {'the ' * bool(owner)}{len(task_names)} tasks{owner}"
    metrics = dict.fromkeys(metric for scores in tasks[0].values() for metric in scores.metrics)
    titles = [metric_title(metric) for metric in metrics if metric not in METRICS or METRICS[metric].in_task_score]
    return f"mean of {' and '.join(titles)}"


def is_as_in_paper(group: ComparisonGroup) -> bool:
    """Whether the group has the paper's eight tasks, scored on SuperGLUE, so that the paper's numbers may stand beside it."""
    levels = [scores.first for task in PAPER_TASKS for scores in group.tasks.get(task, {}).values()]
    return set(PAPER_TASKS) <= set(group.tasks) and all(score.is_superglue for score in levels)


def _train_rows(levels: Mapping[str, Sequence[SeedScores]]) -> dict[str, str]:
    """The number of training rows of each level, or its range over tasks."""
    texts = {}
    for level, level_scores in levels.items():
        sizes = sorted({rows for scores in level_scores if (rows := scores.first.train_rows) is not None})
        if sizes:
            texts[level] = " to ".join(f"{rows:,}" for rows in dict.fromkeys((sizes[0], sizes[-1])))
    return texts


def _majority(levels: Mapping[str, SeedScores], metric: str) -> float | None:
    return next((scores.metrics[metric][0].score.majority for scores in levels.values()), None)


def _published(axis: ComparisonAxis, levels: Mapping[str, Score], task: str) -> dict[str, Number]:
    """Numbers that were published for the same model, instructions and arm, by level and by difference."""
    numbers: dict[str, Number | None] = {}
    for level, score in levels.items():
        numbers[level] = published_score(score, task)
        for reference, reference_score in levels.items():
            numbers[f"{level} - {reference}"] = published_difference(score, task, reference_score.arm)
    columns = published_columns(axis.name)
    return {name: number for name, number in numbers.items() if number is not None and name in columns}
