"""Contamination: rows that repeat the original splits, by runs of words or as near-duplicates, with the pairs.

What counts is what generation counts: a run of eight words in one text, or a trigram similarity of 0.8 (targen).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eval.analysis.intervals import shares
from eval.analysis.results import Found, Measure, Missing
from eval.analysis.sets import Pair, present, shown
from targen.config.groups.analysis import Analysis
from targen.data.contamination import RUN, EvaluationRows, evaluation_rows
from targen.data.original import Split
from targen.runtime.jsonl import Json
from targen.tasks.task import Row, Task
from targen.text.normalise import units
from targen.text.similarity import candidate_pairs, signature, similarity

PART = "contamination"
SIMILAR = 0.8


@dataclass(frozen=True)
class Repeated:
    """A row of a set (its place) and the row of a split (its place) that it repeats; `similarity` of near-duplicates."""

    place: int
    other: int
    similarity: float | None


def contamination(pair: Pair, settings: Analysis) -> Found:
    """Of each set the share of rows that repeat each split; the rows of `a` are only held against splits they are not of."""
    if not pair.splits:
        return Found(missing=(Missing(PART, "no original split is at hand. Name one: data.source=local data.dir=..."),))
    rows = pair.samples()  # of which shares are taken; which rows repeat something is said of all synthetic ones
    measures: list[Measure] = []
    pairs: list[Json] = []
    repeats: dict[str, list[Json]] = {side: [] for side in rows}
    for name, split in pair.splits:
        ready = evaluation_rows(pair.task, split)
        owners = [place for place, row in enumerate(split.rows) for _ in pair.task.examples(row)]
        runs, near = {}, {}
        for side, own in rows.items():
            if side == "a" and _is_of(pair, split):
                continue
            every = pair.b.rows if side == "b" else own
            found = [*_runs(pair.task, ready, owners, every), *_near(pair.task, ready, owners, every)]
            by_run = {id(every[one.place]) for one in found if one.similarity is None}
            alike = {id(every[one.place]) for one in found if one.similarity is not None}
            runs[side] = present(pair.task, [id(row) in by_run for row in own])
            near[side] = present(pair.task, [id(row) in alike for row in own])
            repeats[side] += [_repeat(name, one, every, split) for one in found]
            pairs += [_pair(pair.task, side, name, one, every, split) for one in _strongest(found, settings.top)]
        against = f"against {name}: {split.origin}, {len(split.rows)} rows"
        measures += [
            shares(PART, f"{name}_runs", f"shares {RUN} words in a row with {name}", runs, against),
            shares(PART, f"{name}_near", f"nearly repeats a row of {name}", near, against),
        ]
    absent = [name for name in ("train", "val", "test") if name not in dict(pair.splits)]
    official = [name for name in absent if pair.task.sizes[name]]
    missing = [Missing(f"{PART}.{name}", f"the original {name} split is not at hand") for name in official]
    return Found(tuple(measures), {"pairs": pairs, "repeats": repeats}, tuple(missing))


def _is_of(pair: Pair, split: Split) -> bool:
    return pair.a is not None and (split.rows is pair.a.rows or split.rows == pair.a.rows)


def _runs(task: Task, ready: EvaluationRows, owners: Sequence[int], rows: Sequence[Row]) -> list[Repeated]:
    found = []
    for place, row in enumerate(rows):
        if (example := ready.shared_run(task.view(row))) is not None:
            found.append(Repeated(place, owners[example], None))
    return found


def _near(task: Task, ready: EvaluationRows, owners: Sequence[int], rows: Sequence[Row]) -> list[Repeated]:
    """Of each row the most similar one of the split, where that is a near-duplicate."""
    own = [" ".join(task.view(row).values()) for row in rows]
    count = len(ready.texts)
    # a text without words has the signature of zeros
    found = [bytes(one.tobytes()) if one.any() else b"" for one in np.ascontiguousarray(ready.signatures)]
    best: dict[int, Repeated] = {}
    for later, earlier in candidate_pairs([*found, *(signature(text) for text in own)], SIMILAR):
        if earlier < count <= later:
            place = later - count
            share = similarity(own[place], ready.texts[earlier])
            if share >= SIMILAR and (place not in best or share > (best[place].similarity or 0.0)):
                best[place] = Repeated(place, owners[earlier], share)
    return [best[place] for place in sorted(best)]


def _strongest(found: Sequence[Repeated], count: int) -> list[Repeated]:
    return sorted(found, key=lambda one: (-(one.similarity or 0.0), one.place))[:count]


def _pair(task: Task, side: str, name: str, one: Repeated, rows: Sequence[Row], split: Split) -> Json:
    row, other = rows[one.place], split.rows[one.other]
    return {
        "side": side,
        "split": name,
        "how": "run of words" if one.similarity is None else "near-duplicate",
        "similarity": one.similarity and round(one.similarity, 4),
        "run": _common_run(task, row, other) if one.similarity is None else None,
        "row": shown(task, row),
        "original": shown(task, other),
    }


def _repeat(name: str, one: Repeated, rows: Sequence[Row], split: Split) -> Json:
    similarity = one.similarity and round(one.similarity, 4)
    return {
        "idx": rows[one.place]["idx"],
        "split": name,
        "original": split.rows[one.other]["idx"],
        "similarity": similarity,
    }


def _common_run(task: Task, one: Row, other: Row) -> str:
    """The longest run of words that two rows share in a text."""
    best: list[str] = []
    theirs = [units(text) for text in task.view(other).values()]
    for text in task.view(one).values():
        own = units(text)
        for words in theirs:
            best = max(best, _longest(own, words), key=len)
    return re.sub(r"\s+", " ", " ".join(best))


def _longest(one: Sequence[str], other: Sequence[str]) -> list[str]:
    """The longest run of words that stands in both."""
    length = end = 0
    before = [0] * (len(other) + 1)
    for place, word in enumerate(one, start=1):
        now = [0] * (len(other) + 1)
        for at, theirs in enumerate(other, start=1):
            if word == theirs:
                now[at] = before[at - 1] + 1
                if now[at] > length:
                    length, end = now[at], place
        before = now
    return list(one[end - length : end])
