"""The criteria by which the best rows of a set are kept; see targen/quality/selection.py."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from eval.study.rows.levels import DrawRows, TrainingRows, draw_original, draws, rows_at, sampled_positions
from eval.study.rows.material import ORIGINAL, Material, Pool
from targen.quality.instances import instances_of
from targen.quality.selection import LabelProbability, checker_probabilities, held_out_probabilities, without_lowest
from targen.quality.students import Student

CHECKER_ROWS = 48  # original rows that teach a checker
AT_RANDOM, BY_ITSELF, BY_PVI = "at random", "by the set itself", "by PVI"
BY_ORIGINAL = f"by {CHECKER_ROWS} {ORIGINAL} rows"
CRITERIA = (AT_RANDOM, BY_ITSELF, BY_PVI, BY_ORIGINAL)

Values = Callable[[int, Student], Sequence[float]]  # of the rows that a seed draws, for a student


Result = TypeVar("Result")


def _once(compute: Callable[[int, Student], Result]) -> Callable[[int, Student], Result]:
    """`compute`, called once for each seed and student."""
    results: dict[tuple[int, str], Result] = {}

    def remembered(seed: int, student: Student) -> Result:
        key = seed, student.name
        if key not in results:
            results[key] = compute(seed, student)
        return results[key]

    return remembered


def criteria(material: Material, pool: Pool) -> dict[str, Values]:
    """The criteria by name; without that of original rows if there are too few. Values are computed once for all shares."""

    def at_random(seed: int, _: Student) -> list[float]:
        random = draws(material, seed, "left out at random")
        return [random.random() for _ in sampled_positions(material, pool, material.size, seed)]

    @_once
    def label_probabilities(seed: int, student: Student) -> list[LabelProbability]:
        positions = sampled_positions(material, pool, material.size, seed)
        contexts = [pool.contexts[position] for position in positions]
        return held_out_probabilities(
            material.task, rows_at(pool, positions).rows, contexts, student, draws(material, seed, "folds")
        )

    @_once
    def by_original(seed: int, student: Student) -> list[float]:
        rows = rows_at(pool, sampled_positions(material, pool, material.size, seed)).rows
        checker_rows = draw_original(material, CHECKER_ROWS)(seed, student).rows
        return checker_probabilities(
            instances_of(material.task, checker_rows), instances_of(material.task, rows), student
        )

    values_by_name: dict[str, Values] = {
        AT_RANDOM: at_random,
        BY_ITSELF: lambda seed, student: [row.probability for row in label_probabilities(seed, student)],
        BY_PVI: lambda seed, student: [row.pvi for row in label_probabilities(seed, student)],
    }
    if material.original.size >= CHECKER_ROWS:
        values_by_name[BY_ORIGINAL] = by_original
    return values_by_name


def draw_without_lowest(material: Material, pool: Pool, values: Values, share: float) -> DrawRows:
    """The rows that a seed draws without this share of them, rounded, that have the lowest values."""

    def training_rows(seed: int, student: Student) -> TrainingRows:
        return rows_at(
            pool, without_lowest(sampled_positions(material, pool, material.size, seed), values(seed, student), share)
        )

    return training_rows
