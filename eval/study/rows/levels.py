"""A level of a part: which rows a student is taught, by seed; and the draws that all parts share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from eval.study.rows.draws import balanced, natural
from eval.study.rows.material import ORIGINAL, Material, Pool
from targen.quality.students import Student
from targen.runtime.randomness import rng
from targen.tasks.task import Row

METHODS, TOKENS, QUANTITY, MIXING = "methods", "tokens", "quantity", "mixing"
QUALITY, SELECTION, DIVERSITY = "quality", "selection", "diversity"
SHARES, NATURAL = "shares", "natural"
PARTS = {  # of students: name, title
    METHODS: "Methods, at equal numbers of rows",
    TOKENS: "Methods, at equal cost",
    QUANTITY: "Number of rows",
    MIXING: "Original rows beside synthetic ones",
    QUALITY: "Quality of the labels",
    SELECTION: "Leaving rows out",
    DIVERSITY: "Diversity of the rows",
    SHARES: "Shares of the labels: synthetic and original rows",
    NATURAL: "Shares of the labels: natural and balanced",
}


@dataclass(frozen=True)
class Taught:
    """The rows that a student is taught, and how many of them come from each source."""

    rows: tuple[Row, ...]
    sources: dict[str, int]

    def __add__(self, other: "Taught") -> "Taught":
        return Taught(self.rows + other.rows, self.sources | other.sources)


Teach = Callable[[int, Student], Taught]  # seed, student


@dataclass(frozen=True)
class Level:
    """One level of a part, and the level it is compared with, if any."""

    part: str
    name: str
    reference: str | None
    taught: Teach


def draws(material: Material, seed: int, *purpose: object) -> Random:
    """The random stream of one purpose."""
    return rng(material.seed, material.task.name, "study", seed, *purpose)


def of_original(material: Material, count: int) -> Teach:
    """Original rows, in the shares that chance gives."""

    def taught(seed: int, _: Student) -> Taught:
        rows = natural(material.original.rows, count, draws(material, seed, ORIGINAL))
        return Taught(tuple(rows), {ORIGINAL: len(rows)})

    return taught


def of_set(material: Material, pool: Pool, count: int) -> Teach:
    """Rows of a synthetic set, each label in proportion."""
    return lambda seed, _: rows_at(pool, sample(material, pool, count, seed))


def joined(first: Teach, second: Teach) -> Teach:
    """The rows of both, those of `first` first."""
    return lambda seed, student: first(seed, student) + second(seed, student)


def sample(material: Material, pool: Pool, count: int, seed: int) -> list[int]:
    """The positions of the rows of a set that a seed draws, each label in proportion."""
    return balanced(pool.labels, count, draws(material, seed, pool.source))


def rows_at(pool: Pool, positions: Sequence[int]) -> Taught:
    """The rows of a set at these positions."""
    return Taught(tuple(pool.rows[position] for position in positions), {pool.source: len(positions)})
