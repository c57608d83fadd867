"""Measures of the sets themselves, and how they correlate with what students learn from the sets.

Measures and scores are centred within each task, which removes the task's difficulty. Spearman's rank correlation is over all
sets; its interval is a bootstrap over the sets of each task.
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
from eval.study.rows.levels import METHODS, draw_original, rows_at, sampled_positions
from eval.study.rows.material import Material, Pool
from eval.study.statistics import MAIN, LevelResult
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
    """A measure of a set. `compute` returns its value by name, and may return others too; "name.student" for each student."""

    title: str
    needs_original: bool
    compute: Callable[[Case], Mapping[str, float]]


def _lexical_values(case: Case) -> dict[str, float]:
    """Lexical measures, at as many words as the task's shortest set has: longer texts repeat more words."""
    settings = replace(case.settings.analysis, replicates=REPLICATES)
    result = lexical(replace(case.pair, a=case.shortest), settings)
    return _values_of_b(result, "words_per_row", "distinct_2", "self_bleu")


def _embedding_values(case: Case) -> dict[str, float]:
    texts = [row_text(case.pair.task, row) for row in case.pair.b.rows]
    encoders = [student for student in case.students if isinstance(student, LinearOnEncoder)]
    return {"vendi": vendi(encoders[-1].embed(texts))} if encoders else {}


def _student_values(case: Case) -> dict[str, float]:
    """The scores of students of the set; those on original questions are of side `a`."""
    result, values = fidelity(case.settings, case.pair), dict[str, float]()
    for student in case.students:
        name = student.name.replace(" ", "_")
        values |= _values_of_b(result, f"told_apart.{name}", f"own_accuracy.{name}")
        for measure in result.measures:
            if measure.name == f"transfer_accuracy.{name}" and measure.a is not None:
                values[measure.name] = measure.a.value
    return values


def _values_of_b(result: AnalysisResult, *names: str) -> dict[str, float]:
    return {
        measure.name: measure.b.value for measure in result.measures if measure.name in names and measure.b is not None
    }


MEASURES = {  # a further one is a line here
    "words_per_row": Measure("words per row", False, _lexical_values),
    "distinct_2": Measure("distinct-2", False, _lexical_values),
    "self_bleu": Measure("Self-BLEU", False, _lexical_values),
    "vendi": Measure("Vendi score", False, _embedding_values),
    "told_apart": Measure("two-sample test: rows told apart from original ones", True, _student_values),
    "transfer_accuracy": Measure("transfer: accuracy on original training rows", True, _student_values),
    "own_accuracy": Measure("learnability: cross-validated accuracy on the set itself", False, _student_values),
}


@dataclass(frozen=True)
class SetMeasures:
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
) -> list[SetMeasures]:
    """The measures of every set, at the size at which sets are compared; logged to `path`, so that none is computed twice."""
    log = AppendLog(path)
    try:
        recorded = {str(record["key"]): dict(record["values"]) for _, record in read_jsonl(path)}
        result = []
        for material in materials:
            sets = {method: _drawn_set(settings, material, pool) for method, pool in material.sets.items()}
            shortest = min(sets.values(), key=lambda data_set: _word_count(material, data_set), default=None)
            for method, data_set in sets.items():
                raise_if_stopped()
                original = draw_original(material, material.size)(settings.seeds[0], students[0]).rows
                rows_of_sets = (data_set.rows, original, shortest.rows if shortest else ())
                hashes = [rows_key(material.task, rows) for rows in rows_of_sets]
                names = [material.task.name, method, *hashes, *(student.name for student in students)]
                key = hashlib.sha256(json.dumps(names).encode()).hexdigest()[:24]
                values = recorded.get(key, {})
                assert shortest is not None
                pair = SetPair(material.task, DataSet("original", "train", original), data_set, settings.seed, None)
                if new := _new_values(Case(settings, pair, shortest, students), values):
                    values = {**values, **new}
                    log.append({"key": key, "task": material.task.name, "method": method, "values": values})
                    recorded[key] = values
                result.append(SetMeasures(material.task.name, method, values))
    finally:
        log.close()
    return result


def _drawn_set(settings: Settings, material: Material, pool: Pool) -> DataSet:
    rows = rows_at(pool, sampled_positions(material, pool, material.size, settings.seeds[0])).rows
    return DataSet(
        pool.source, pool.source, rows, pool.synthetic_set.folder if pool.synthetic_set is not None else None
    )


def _word_count(material: Material, data_set: DataSet) -> int:
    return sum(len(text) for row in row_units(material.task, data_set.rows) for text in row)


def _new_values(case: Case, values: Mapping[str, float]) -> dict[str, float]:
    """The values of measures that have none yet; a function shared by several measures is called once."""
    measured = {name.partition(".")[0] for name in values}
    functions = dict.fromkeys(measure.compute for name, measure in MEASURES.items() if name not in measured)
    return {name: round(value, 6) for compute in functions for name, value in compute(case).items()}


def correlations(
    set_measures: Sequence[SetMeasures], results: Sequence[LevelResult], students: Sequence[Student]
) -> tuple[list[Correlation], list[Missing]]:
    """Every measure with the accuracy of every student; a measure of one student with that student's accuracy alone."""
    members = [result for result in results if result.part == METHODS]
    scores = {(result.task, result.level, result.student): result.estimates[MAIN].value for result in members}
    rank_correlations, missing = [], list[Missing]()
    for student in students:
        suffix = student.name.replace(" ", "_")
        for measure in MEASURES:
            by_task: dict[str, list[tuple[float, float]]] = defaultdict(list)
            for measures in set_measures:
                value = measures.values.get(measure, measures.values.get(f"{measure}.{suffix}"))
                score = scores.get((measures.task, measures.method, student.name))
                if value is not None and score is not None:
                    by_task[measures.task].append((value, score))
            pairs = [np.array(task_pairs) for task_pairs in by_task.values() if len(task_pairs) > 1]
            sets = sum(map(len, pairs))
            if sets < FEWEST_SETS:
                missing.append(
                    Missing(PART, f"{measure}, {student.name}: {sets} sets, expected at least {FEWEST_SETS}")
                )
                continue
            draws = generator("study", "correlation", measure, student.name, sets)
            bounds = interval(_resampled(pairs, draws))
            rank_correlations.append(Correlation(measure, student.name, spearman(pairs), bounds, sets, len(pairs)))
    return rank_correlations, missing


def spearman(pairs: Sequence[Floats]) -> float:
    """Spearman's rank correlation of (measure, score) pairs of several tasks, (sets, 2) each, after centring; 0 if one is constant."""
    return float(_spearman([task_pairs[None] for task_pairs in pairs])[0])


def _spearman(pairs: Sequence[Floats]) -> Floats:
    """As `spearman`, for every resample: (resamples, sets, 2) for each task."""
    from scipy.stats import rankdata

    centred = [task_pairs - task_pairs.mean(axis=1, keepdims=True) for task_pairs in pairs]
    ranks = rankdata(np.concatenate(centred, axis=1).round(12), axis=1)
    deviations = ranks - ranks.mean(axis=1, keepdims=True)
    spread = np.sqrt(np.prod(np.square(deviations).sum(axis=1), axis=1))
    products: Floats = deviations.prod(axis=2).sum(axis=1)
    return products / np.where(spread == 0, 1.0, spread)


def _resampled(pairs: Sequence[Floats], draws: np.random.Generator) -> Floats:
    resamples = [[sets[draws.integers(0, len(sets), len(sets))] for sets in pairs] for _ in range(RESAMPLES)]
    return _spearman([np.stack(task_pairs) for task_pairs in zip(*resamples, strict=True)])
