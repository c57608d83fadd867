"""Subjectivity: how far the labels of a task are a matter of opinion, as the generator rates it and as its corrections differ.

Source of the question: Z. Li et al., Synthetic data generation with large language models for text classification: potential
and limitations, arXiv 2310.07849, who asked people. Both measures here are ours: docs/analysis.md.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from eval.analysis.intervals import Estimate, measure, ratio
from eval.analysis.llm_measures.questions import Load, Questions, answer_object
from eval.analysis.results import AnalysisResult, Measure, Missing
from eval.analysis.sets import SetPair, group_by_instance, row_json
from targen.config.groups.analysis import Analysis
from targen.runtime.jsonl import Json
from targen.synthesis.engine import Workflow
from targen.tasks.task import Row

PART = "subjectivity"
RATING, SPREAD = "subjectivity", "vote_spread"


@dataclass(frozen=True)
class RatedRow:
    """A row with the generator's rating of 1 to 5, and its reason; no rating if the answer cannot be read."""

    row: Row
    rating: int | None
    reason: str = ""


Ratings = Mapping[str, list[RatedRow]]  # by set


def load(pair: SetPair, settings: Analysis) -> Load:
    """One call for each sampled row."""
    rows = sum(len(rows) for rows in pair.samples(settings.subjectivity_rows).values())
    return Load(rows, rows)


def ratings(questions: Questions, pair: SetPair, settings: Analysis) -> Workflow[Ratings]:
    """Asks for a rating of every sampled row of each set, without its label."""
    samples = pair.samples(settings.subjectivity_rows)
    remaining = iter((yield [_rating(questions, row) for rows in samples.values() for row in rows]))
    return {side: [next(remaining) for _ in rows] for side, rows in samples.items()}


def _rating(questions: Questions, row: Row) -> Workflow[RatedRow]:
    task = questions.task
    labels = ", ".join(label.name for label in task.classes) or "a text"
    instance = task.instance.format(**task.view(row))
    about = {"title": task.title, "description": task.description}
    answer = yield from answer_object(questions.request("subjectivity", instance=instance, labels=labels, **about))
    return RatedRow(row, int(answer["rating"]), answer["reason"].strip()) if answer is not None else RatedRow(row, None)


def subjectivity(pair: SetPair, settings: Analysis, by_side: Ratings) -> AnalysisResult:
    """The mean rating of each set, the spread of the corrections of the synthetic one, and both of every row."""
    votes = _votes(pair)
    unreadable = {side: sum(rated.rating is None for rated in rated_rows) for side, rated_rows in by_side.items()}
    missing = [
        Missing(f"{PART}.{side}", f"{count} of {len(by_side[side])} ratings cannot be read")
        for side, count in unreadable.items()
        if count
    ]
    measures: list[Measure] = []
    means = {side: _mean([rated.rating for rated in rated_rows], pair, side) for side, rated_rows in by_side.items()}
    if any(means.values()):
        note = "the generator's rating of rows without their labels; 1: all agree, 5: a matter of taste"
        measures.append(measure(PART, RATING, "how far labels are a matter of opinion", "1 to 5", means, note))
    if votes:
        spread = _mean([spread_of(counts) for counts in votes.values()], pair, "votes")
        note = "mean over rows of the share of self-corrections that are not for the most frequent label"
        measures.append(measure(PART, SPREAD, "corrections that differ", "share", {"b": spread}, note))
    else:
        why = "there are no votes on the rows. To get some, make them with synth.self_correct=vote"
        missing.append(Missing(f"{PART}.votes", why))
    details: Json = {side: _details(pair, rated_rows, settings.top) for side, rated_rows in by_side.items()}
    details["votes"] = [{"idx": idx, "spread": spread_of(counts)} for idx, counts in votes.items()]
    return AnalysisResult(tuple(measures), {PART: details}, tuple(missing))


def _mean(values: Sequence[float | None], pair: SetPair, purpose: str) -> Estimate | None:
    """The mean, with its bootstrap over instances."""
    groups = [[value for value in group if value is not None] for group in group_by_instance(values, pair.task)]
    sums = np.array([sum(group) for group in groups if group], dtype=np.float64)
    sizes = np.array([len(group) for group in groups if group], dtype=np.float64)
    return ratio(sums, sizes, pair.draws(PART, purpose)) if len(sums) else None


def _votes(pair: SetPair) -> dict[int, dict[str, int]]:
    """How many corrections gave each label, by the row's idx; empty if self-correction was no vote."""
    return {story["idx"]: story["votes"] for story in pair.b.stories if story.get("votes")}


def spread_of(votes: Mapping[str, int]) -> float:
    """The share of votes that are not for the most frequent label: 0 if all agree."""
    return 1 - max(votes.values()) / sum(votes.values())


def _details(pair: SetPair, rated_rows: Sequence[RatedRow], top: int) -> Json:
    readable = [rated for rated in rated_rows if rated.rating is not None]
    top_rows = sorted(readable, key=lambda rated: (-(rated.rating or 0), rated.row["idx"]))[:top]
    return {
        "counts": {str(rating): count for rating, count in sorted(Counter(rated.rating for rated in readable).items())},
        "rows": [{"idx": rated.row["idx"], "rating": rated.rating, "reason": rated.reason} for rated in readable],
        "most": [{"rating": row.rating, "reason": row.reason, **row_json(pair.task, row.row)} for row in top_rows],
    }
