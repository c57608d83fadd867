"""Contamination: rows that repeat rows of the original splits, by runs of words or as near-duplicates.

The criteria are those of generation: a run of eight words in one text, or a trigram similarity of 0.8.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

import numpy as np

from eval.analysis.intervals import share_measure
from eval.analysis.results import AnalysisResult, Measure, Missing, not_measured
from eval.analysis.sets import SetPair, flag_counts, row_json
from targen.config.groups.analysis import Analysis
from targen.data.contamination import RUN, EvaluationRows, evaluation_rows
from targen.data.original import Split
from targen.runtime.jsonl import Json
from targen.tasks.task import Example, Row, Task
from targen.text.normalise import units
from targen.text.similarity import candidate_pairs, signature, similarity

PART = "contamination"
SIMILAR = 0.8


@dataclass(frozen=True)
class Repeat:
    """A row of a set and the example of a split that it repeats, by number; `similarity` is None for a run of words."""

    index: int
    example: int
    similarity: float | None


def contamination(pair: SetPair, settings: Analysis) -> AnalysisResult:
    """The share of rows of each set that repeat each split; `a` is not compared with the split it comes from."""
    if not pair.splits:
        return not_measured(PART, pair.why_alone)
    samples = pair.samples()  # shares are of the samples; repeats are listed for all synthetic rows
    measures: list[Measure] = []
    pairs: list[Json] = []
    repeats: dict[str, list[Json]] = {side: [] for side in samples}
    for name, split in pair.splits:
        split_rows = evaluation_rows(pair.task, split)
        originals = [(row, example) for row in split.rows for example in pair.task.examples(row)]
        runs, near = {}, {}
        for side, sample in samples.items():
            if side == "a" and _is_source_of_a(pair, split):
                continue
            rows = pair.b.rows if side == "b" else sample
            side_repeats = [*_runs(pair.task, split_rows, rows), *_near(pair.task, split_rows, rows)]
            with_run = {id(rows[repeat.index]) for repeat in side_repeats if repeat.similarity is None}
            similar = {id(rows[repeat.index]) for repeat in side_repeats if repeat.similarity is not None}
            runs[side] = flag_counts(pair.task, [id(row) in with_run for row in sample])
            near[side] = flag_counts(pair.task, [id(row) in similar for row in sample])
            repeats[side] += [_repeat_json(name, repeat, rows, originals[repeat.example][0]) for repeat in side_repeats]
            strongest = _strongest(side_repeats, settings.top)
            pairs += [
                _pair_json(pair.task, side, name, repeat, rows[repeat.index], *originals[repeat.example])
                for repeat in strongest
            ]
        note = f"against {name}: {split.origin}, {len(split.rows)} rows"
        measures += [
            share_measure(PART, f"{name}_runs", f"shares {RUN} words in a row with {name}", runs, note),
            share_measure(PART, f"{name}_near", f"near-duplicate of a row of {name}", near, note),
        ]
    absent = [name for name in ("train", "val", "test") if name not in dict(pair.splits)]
    official = [name for name in absent if pair.task.sizes.get(name)]
    missing = [Missing(f"{PART}.{name}", f"the original {name} split is not available") for name in official]
    return AnalysisResult(tuple(measures), {"pairs": pairs, "repeats": repeats}, tuple(missing))


def _is_source_of_a(pair: SetPair, split: Split) -> bool:
    return pair.a is not None and (split.rows is pair.a.rows or split.rows == pair.a.rows)


def _runs(task: Task, split_rows: EvaluationRows, rows: Sequence[Row]) -> list[Repeat]:
    repeats = []
    for index, row in enumerate(rows):
        if (example := split_rows.shared_run(task.view(row))) is not None:
            repeats.append(Repeat(index, example, None))
    return repeats


def _near(task: Task, split_rows: EvaluationRows, rows: Sequence[Row]) -> list[Repeat]:
    """For each row, the most similar example of the split if it is a near-duplicate."""
    row_texts = [" ".join(task.view(row).values()) for row in rows]
    count = len(split_rows.texts)
    # a text without words has a signature of zeros
    signatures = np.ascontiguousarray(split_rows.signatures)
    split_signatures = [bytes(values.tobytes()) if values.any() else b"" for values in signatures]
    best: dict[int, Repeat] = {}
    for later, earlier in candidate_pairs([*split_signatures, *(signature(text) for text in row_texts)], SIMILAR):
        if earlier < count <= later:
            index = later - count
            share = similarity(row_texts[index], split_rows.texts[earlier])
            if share >= SIMILAR and (index not in best or share > (best[index].similarity or 0.0)):
                best[index] = Repeat(index, earlier, share)
    return [best[index] for index in sorted(best)]


def _strongest(repeats: Sequence[Repeat], count: int) -> list[Repeat]:
    return sorted(repeats, key=lambda repeat: (-(repeat.similarity or 0.0), repeat.index))[:count]


def _pair_json(task: Task, side: str, name: str, repeat: Repeat, row: Row, original: Row, example: Example) -> Json:
    return {
        "side": side,
        "split": name,
        "how": "run of words" if repeat.similarity is None else "near-duplicate",
        "similarity": repeat.similarity and round(repeat.similarity, 4),
        "run": _common_run(task, row, example) if repeat.similarity is None else None,
        "row": row_json(task, row),
        "original": row_json(task, original, example),
    }


def _repeat_json(name: str, repeat: Repeat, rows: Sequence[Row], original: Row) -> Json:
    similarity = repeat.similarity and round(repeat.similarity, 4)
    return {"idx": rows[repeat.index]["idx"], "split": name, "original": original["idx"], "similarity": similarity}


def _common_run(task: Task, row: Row, original: Example) -> str:
    """The longest run of words that a text of each has."""
    best: list[str] = []
    original_words = [units(text) for text in original.fields.values()]
    for own_words in map(units, task.view(row).values()):
        for words in original_words:
            run = SequenceMatcher(None, own_words, words, autojunk=False).find_longest_match()
            best = max(best, own_words[run.a : run.a + run.size], key=len)
    return re.sub(r"\s+", " ", " ".join(best))
