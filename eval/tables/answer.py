"""The answer of a run in plain sentences: what the models score, against what, and whether chance explains the difference."""

from collections.abc import Mapping, Sequence
from statistics import fmean

from eval.scoring.metrics import METRICS, task_score
from eval.statistics.comparisons import Comparison, Estimate
from eval.tables.comparison_tables import ComparisonTable, Line
from eval.tables.sentences import p_text, percent
from targen.config.arms import ARMS
from targen.runtime.jsonl import Json

MOST = 6  # sentences


def answer_sentences(table: ComparisonTable | None) -> list[str]:
    """A sentence for each arm that is compared, synthetic rows first; for the reference alone where nothing else was run."""
    groups = _lines_by_group(table) if table is not None else []
    sentences = [sentence for lines in groups for sentence in _group_sentences(lines)]
    more = len(sentences) - MOST
    return [*sentences[:MOST], *([f"{more} more comparisons are in the tables."] if more > 0 else [])]


def _lines_by_group(table: ComparisonTable) -> list[list[Line]]:
    lines = [[line for line in table.lines if line.group is group and line.levels] for group in table.groups]
    return [group_lines for group_lines in lines if group_lines]


def _group_sentences(lines: Sequence[Line]) -> list[str]:
    """The sentences of the average, or of each task where there is none."""
    average = next((line for line in lines if line.is_average), None)
    tasks = [line for line in lines if not line.is_average]
    if average is None:
        first_lines = {line.task: line for line in reversed(tasks)}  # a task's first metric
        return [
            sentence
            for line in reversed(first_lines.values())
            for sentence in _line_sentences(line, [line], f" {line.metric} on {line.title}")
        ]
    count = len({line.task for line in tasks})
    return _line_sentences(average, tasks, f" on average over {count} tasks" if count > 1 else f" ({average.title})")


def _line_sentences(line: Line, tasks: Sequence[Line], what: str) -> list[str]:
    compared_levels = [level for level in line.levels if level in line.comparisons]
    levels = sorted(compared_levels or line.levels, key=lambda level: level != "synthetic")
    sentences = [_sentence(line, tasks, level, what) for level in levels]
    estimate = line.levels[levels[0]]
    seeds = f"; means of {estimate.seeds} seeds" if estimate.seeds > 1 else ""
    return [*sentences, f"Scored on {estimate.n} rows: {line.evaluated_on}{seeds}."]


def _sentence(line: Line, tasks: Sequence[Line], level: str, what: str) -> str:
    estimate, model = line.levels[level], dict(line.group.labels).get("model", "the model")
    scored = f"{model} scores {_score_text(estimate)}{what}"
    start = f"{_training_text(tasks, level)}, {scored}" if ARMS[_arm(level)].trained else f"Not finetuned, {scored}"
    comparison = line.comparisons.get(level)
    if comparison is not None:
        return f"{start}, {_difference_text(comparison)}"
    majority = _majority(tasks)
    return f"{start}{_baseline_text(estimate, majority) if majority is not None else ''}."


def _score_text(estimate: Estimate) -> str:
    bounds = "" if estimate.bounds is None else f" ({percent(estimate.bounds[0])} to {percent(estimate.bounds[1])})"
    return percent(estimate.value) + bounds


def _arm(level: str) -> str:
    arm = level.partition(",")[0]
    return arm if arm in ARMS else "synthetic"


def _training_text(tasks: Sequence[Line], level: str) -> str:
    """`Trained on 24 synthetic rows per task`."""
    sizes = {
        line.task: rows
        for line in tasks
        if level in line.scores and (rows := line.scores[level].first.train_rows) is not None
    }
    counts = sorted(set(sizes.values()))
    count = "" if not counts else f"{counts[0]} " if len(counts) == 1 else f"{counts[0]} to {counts[-1]} "
    return f"Trained on {count}{ARMS[_arm(level)].title} rows" + " per task" * (len(sizes) > 1)


def _difference_text(comparison: Comparison) -> str:
    points = 100 * comparison.difference
    reference = (
        f"{ARMS[_arm(comparison.reference)].title} rows"
        if ARMS[_arm(comparison.reference)].trained
        else "the model as it is"
    )
    how = f"{abs(points):.1f} points {'above' if points > 0 else 'below'}" if round(abs(points), 1) else "as much as"
    bounds = comparison.bounds
    interval = "" if bounds is None else f" ({100 * bounds[0]:+.1f} to {100 * bounds[1]:+.1f})"
    return f"{how} {reference}{interval}: {_verdict(comparison)}."


def _verdict(comparison: Comparison) -> str:
    """By the p-value alone, as in the tables and on the page; an interval that seems to contradict it is explained."""
    if comparison.corrected is None:
        return "not tested, because the predictions are missing"
    p = f"p {p_text(comparison.corrected)}"
    if comparison.is_significant:
        says = f"chance hardly explains so large a difference ({p})"
        return f"{says}, although the interval includes 0" if comparison.disagrees else says
    says = f"the difference is not significant at this size ({p})"
    return f"{says}, although the interval excludes 0" if comparison.disagrees else says


def _majority(tasks: Sequence[Line]) -> float | None:
    """What always giving the most frequent label scores, on average over the tasks; None if it is unknown for one."""
    by_task: dict[str, dict[str, float]] = {}
    for line in tasks:
        if line.majority is None:
            return None
        names = {metric.title: name for name, metric in METRICS.items()}
        by_task.setdefault(line.task, {})[names.get(line.metric, line.metric)] = line.majority
    return fmean(task_score(values) for values in by_task.values())


def _baseline_text(estimate: Estimate, majority: float) -> str:
    """How a score compares with the majority baseline, where no other arm was run."""
    baseline = f"{percent(majority)}, the score of always predicting the most frequent answer"
    if estimate.bounds is None:
        return f"; beside it, {baseline}"
    low, high = estimate.bounds
    if low > majority:
        return f": above {baseline}"
    return f": below {baseline}" if high < majority else f": at this size not distinguishable from {baseline}"


def learnability_sentences(measured: Mapping[str, Json]) -> list[str]:
    """What small students learn from the rows about their own labels, a sentence for each task; `measured` is by title."""
    sentences = []
    for title, result in measured.items():
        if "students" not in result:
            sentences.append(f"{title}: what the rows teach was not measured ({result['not_measured']}).")
            continue
        metric = result["metric"]
        scores = {name: student[metric] for name, student in result["students"].items()}
        name, best = max(scores.items(), key=lambda item: item[1]["value"])
        score = f"{percent(best['value'])} ({percent(best['low'])} to {percent(best['high'])})"
        verdict = (
            "the rows teach their labels" if result["above_chance"] else "a model may learn nothing from these rows"
        )
        sentences.append(
            f"{title}: a small student ({name.replace('_', ' ')}) that is taught by some of the synthetic rows scores {score} on the others, "
            f"chance {percent(result['chance'][metric])}: {verdict}."
        )
    return sentences
