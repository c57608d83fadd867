"""The criteria by which the best rows of a set are kept; see targen/quality/selection.py."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from eval.study.rows.levels import Taught, Teach, at, drawn, draws, of_original
from eval.study.rows.material import ORIGINAL, Material, Pool
from targen.quality.instances import instances_of
from targen.quality.selection import HeldOut, by_checker, held_out, without_lowest
from targen.quality.students import Student

CHECKER_ROWS = 48  # original rows that teach a checker
AT_RANDOM, BY_ITSELF, BY_PVI = "at random", "by the set itself", "by PVI"
BY_ORIGINAL = f"by {CHECKER_ROWS} {ORIGINAL} rows"
CRITERIA = (AT_RANDOM, BY_ITSELF, BY_PVI, BY_ORIGINAL)

Values = Callable[[int, Student], Sequence[float]]  # of the rows that a seed draws, for a student


Found = TypeVar("Found")


def _once(compute: Callable[[int, Student], Found]) -> Callable[[int, Student], Found]:
    """The same, computed once for each seed and student."""
    found: dict[tuple[int, str], Found] = {}

    def remembered(seed: int, student: Student) -> Found:
        key = seed, student.name
        if key not in found:
            found[key] = compute(seed, student)
        return found[key]

    return remembered


def criteria(given: Material, pool: Pool) -> dict[str, Values]:
    """The criteria by name; without that of original rows if there are too few. Values are computed once for all shares."""

    def at_random(seed: int, _: Student) -> list[float]:
        random = draws(given, seed, "left out at random")
        return [random.random() for _ in drawn(given, pool, given.size, seed)]

    @_once
    def held(seed: int, student: Student) -> list[HeldOut]:
        places = drawn(given, pool, given.size, seed)
        contexts = [pool.contexts[place] for place in places]
        return held_out(given.task, at(pool, places).rows, contexts, student, draws(given, seed, "folds"))

    @_once
    def checked(seed: int, student: Student) -> list[float]:
        rows = at(pool, drawn(given, pool, given.size, seed)).rows
        taught = of_original(given, CHECKER_ROWS)(seed, student).rows
        return by_checker(instances_of(given.task, taught), instances_of(given.task, rows), student)

    found: dict[str, Values] = {
        AT_RANDOM: at_random,
        BY_ITSELF: lambda seed, student: [one.probability for one in held(seed, student)],
        BY_PVI: lambda seed, student: [one.pvi for one in held(seed, student)],
    }
    if given.original.size >= CHECKER_ROWS:
        found[BY_ORIGINAL] = checked
    return found


def without(given: Material, pool: Pool, values: Values, share: float) -> Teach:
    """The rows that a seed draws without this share of them, rounded, that have the lowest values."""

    def taught(seed: int, student: Student) -> Taught:
        return at(pool, without_lowest(drawn(given, pool, given.size, seed), values(seed, student), share))

    return taught
