"""Measures of the sets themselves, and how they go with what students learn from the sets.

Measures and scores are centred within each task, so that a task's difficulty does not count. Spearman's rank correlation is over
all sets; its interval is a bootstrap over the sets of each task.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from eval.analysis.measures.fidelity import fidelity
from eval.analysis.measures.lexical import lexical
from eval.analysis.measures.semantic import row_text, vendi
from eval.analysis.results import AnalysisResult, Missing
from eval.analysis.sets import DataSet, SetPair, row_units
from eval.statistics.comparisons import Interval
from eval.statistics.resampling import Floats, generator, interval
from eval.study.cells import rows_key
from eval.study.rows.levels import METHODS, at, drawn, of_original
from eval.study.rows.material import Material, Pool
from eval.study.statistics import MAIN, Scored
from targen.config.settings import Settings
from targen.quality.students import LinearOnEncoder, Student
from targen.runtime.jsonl import AppendLog, read_jsonl
from targen.runtime.signals import raise_if_stopped

PART = "measures"
REPLICATES = 20  # of intervals that are not used
RESAMPLES = 2000
FEWEST_SETS = 5


@dataclass(frozen=True)
class Case:
    """A set to be measured, as `b` of a pair with as many original rows; and the shortest set of its task."""

    settings: Settings
    pair: SetPair
    shortest: DataSet
    students: Sequence[Student]


@dataclass(frozen=True)
class Measure:
    """A measure of a set. `of` gives its value by name, and may give those of others too; "name.student" for each student."""

    title: str
    needs_original: bool
    of: Callable[[Case], Mapping[str, float]]


def _of_words(case: Case) -> dict[str, float]:
    """Lexical measures, at as many words as the shortest set of the task has, for longer texts repeat more words."""
    few = replace(case.settings.analysis, replicates=REPLICATES)
    return _of_b(lexical(replace(case.pair, a=case.shortest), few), "words_per_row", "distinct_2", "self_bleu")


def _of_embeddings(case: Case) -> dict[str, float]:
    texts = [row_text(case.pair.task, row) for row in case.pair.b.rows]
    encoders = [one for one in case.students if isinstance(one, LinearOnEncoder)]
    return {"vendi": vendi(encoders[-1].embed(texts))} if encoders else {}


def _of_students(case: Case) -> dict[str, float]:
    """The scores of students of the set; those on original questions are of side `a`."""
    result, values = fidelity(case.settings, case.pair), dict[str, float]()
    for student in case.students:
        name = student.name.replace(" ", "_")
        values |= _of_b(result, f"told_apart.{name}", f"own_accuracy.{name}")
        for measure in result.measures:
            if measure.name == f"transfer_accuracy.{name}" and measure.a is not None:
                values[measure.name] = measure.a.value
    return values


def _of_b(result: AnalysisResult, *names: str) -> dict[str, float]:
    return {
        measure.name: measure.b.value for measure in result.measures if measure.name in names and measure.b is not None
    }


MEASURES = {  # a further one is a line here
    "words_per_row": Measure("words per row", False, _of_words),
    "distinct_2": Measure("distinct-2", False, _of_words),
    "self_bleu": Measure("Self-BLEU", False, _of_words),
    "vendi": Measure("Vendi score", False, _of_embeddings),
    "told_apart": Measure("two-sample test: rows told apart from original ones", True, _of_students),
    "transfer_accuracy": Measure("transfer: accuracy on original training rows", True, _of_students),
    "own_accuracy": Measure("learnability: cross-validated accuracy on the set itself", False, _of_students),
}


@dataclass(frozen=True)
class Measured:
    """The measures of one set by name; those of students have the student's name behind a dot."""

    task: str
    method: str
    values: Mapping[str, float]


@dataclass(frozen=True)
class Correlation:
    """Of one measure with the score of one student."""

    measure: str
    student: str
    value: float
    bounds: Interval
    sets: int
    tasks: int


def measured_sets(
    path: Path, settings: Settings, materials: Sequence[Material], students: Sequence[Student]
) -> list[Measured]:
    """The measures of every set, at as many rows as are compared; they are kept in a file, so that none is computed twice."""
    log = AppendLog(path)
    try:
        known = {str(record["key"]): dict(record["values"]) for _, record in read_jsonl(path)}
        found = []
        for given in materials:
            sets = {method: _drawn(settings, given, pool) for method, pool in given.sets.items()}
            shortest = min(sets.values(), key=lambda one: _words(given, one), default=None)
            for method, one in sets.items():
                raise_if_stopped()
                original = of_original(given, given.size)(settings.seeds[0], students[0]).rows
                hashes = [
                    rows_key(given.task, rows) for rows in (one.rows, original, shortest.rows if shortest else ())
                ]
                names = [given.task.name, method, *hashes, *(student.name for student in students)]
                key = hashlib.sha256(json.dumps(names).encode()).hexdigest()[:24]
                values = known.get(key, {})
                assert shortest is not None
                pair = SetPair(given.task, DataSet("original", "train", original), one, settings.seed, None)
                if new := _new_values(Case(settings, pair, shortest, students), values):
                    values = {**values, **new}
                    log.append({"key": key, "task": given.task.name, "method": method, "values": values})
                    known[key] = values
                found.append(Measured(given.task.name, method, values))
    finally:
        log.close()
    return found


def _drawn(settings: Settings, given: Material, pool: Pool) -> DataSet:
    rows = at(pool, drawn(given, pool, given.size, settings.seeds[0])).rows
    return DataSet(pool.source, pool.source, rows, pool.made.folder if pool.made is not None else None)


def _words(given: Material, data_set: DataSet) -> int:
    return sum(len(text) for row in row_units(given.task, data_set.rows) for text in row)


def _new_values(case: Case, known: Mapping[str, float]) -> dict[str, float]:
    """What the functions of the measures return that have no value yet; a function of several measures is called once."""
    there = {name.partition(".")[0] for name in known}
    lacking = dict.fromkeys(measure.of for name, measure in MEASURES.items() if name not in there)
    return {name: round(value, 6) for of in lacking for name, value in of(case).items()}


def correlations(
    measured: Sequence[Measured], found: Sequence[Scored], students: Sequence[Student]
) -> tuple[list[Correlation], list[Missing]]:
    """Every measure with the accuracy of every student; that of a student's own measure with that student's alone."""
    scores = {(one.task, one.level, one.student): one.estimates[MAIN].value for one in found if one.part == METHODS}
    result, missing = [], list[Missing]()
    for student in students:
        suffix = student.name.replace(" ", "_")
        for measure in MEASURES:
            by_task: dict[str, list[tuple[float, float]]] = defaultdict(list)
            for one in measured:
                value = one.values.get(measure, one.values.get(f"{measure}.{suffix}"))
                score = scores.get((one.task, one.method, student.name))
                if value is not None and score is not None:
                    by_task[one.task].append((value, score))
            pairs = [np.array(of_task) for of_task in by_task.values() if len(of_task) > 1]
            sets = sum(map(len, pairs))
            if sets < FEWEST_SETS:
                missing.append(
                    Missing(PART, f"{measure}, {student.name}: {sets} sets, expected at least {FEWEST_SETS}")
                )
                continue
            draws = generator("study", "correlation", measure, student.name, sets)
            bounds = interval(_resampled(pairs, draws))
            result.append(Correlation(measure, student.name, spearman(pairs), bounds, sets, len(pairs)))
    return result, missing


def spearman(pairs: Sequence[Floats]) -> float:
    """Spearman's rank correlation of (measure, score) pairs of several tasks, (sets, 2) each, after centring; 0 if one is constant."""
    return float(_spearman([of_task[None] for of_task in pairs])[0])


def _spearman(pairs: Sequence[Floats]) -> Floats:
    """The same of every resample, (resamples, sets, 2) for each task."""
    from scipy.stats import rankdata

    centred = np.concatenate([of_task - of_task.mean(axis=1, keepdims=True) for of_task in pairs], axis=1).round(12)
    ranks = rankdata(centred, axis=1)
    deviations = ranks - ranks.mean(axis=1, keepdims=True)
    spread = np.sqrt(np.prod(np.square(deviations).sum(axis=1), axis=1))
    together: Floats = deviations.prod(axis=2).sum(axis=1)
    return together / np.where(spread == 0, 1.0, spread)


def _resampled(pairs: Sequence[Floats], draws: np.random.Generator) -> Floats:
    drawn = [[of_task[draws.integers(0, len(of_task), len(of_task))] for of_task in pairs] for _ in range(RESAMPLES)]
    return _spearman([np.stack(of_task) for of_task in zip(*drawn, strict=True)])
