"""A level of a part: which rows a student is taught, by seed; and the draws that all parts share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from eval.study.rows.draws import random_items, stratified_indices
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
class TrainingRows:
    """The rows that a student is taught, and how many of them come from each source."""

    rows: tuple[Row, ...]
    sources: dict[str, int]

    def __add__(self, other: "TrainingRows") -> "TrainingRows":
        return TrainingRows(self.rows + other.rows, self.sources | other.sources)


DrawRows = Callable[[int, Student], TrainingRows]  # seed, student


@dataclass(frozen=True)
class Level:
    """One level of a part, and the level it is compared with, if any."""

    part: str
    name: str
    reference: str | None
    training_rows: DrawRows


def draws(material: Material, seed: int, *purpose: object) -> Random:
    """The random stream of one purpose."""
    return rng(material.seed, material.task.name, "study", seed, *purpose)


def draw_original(material: Material, count: int) -> DrawRows:
    """Original rows, in the shares that chance gives."""

    def training_rows(seed: int, _: Student) -> TrainingRows:
        rows = random_items(material.original.rows, count, draws(material, seed, ORIGINAL))
        return TrainingRows(tuple(rows), {ORIGINAL: len(rows)})

    return training_rows


def draw_set(material: Material, pool: Pool, count: int) -> DrawRows:
    """Rows of a synthetic set, each label in proportion."""
    return lambda seed, _: rows_at(pool, sampled_positions(material, pool, count, seed))


def draw_both(first: DrawRows, second: DrawRows) -> DrawRows:
    """The rows of both, those of `first` first."""
    return lambda seed, student: first(seed, student) + second(seed, student)


def sampled_positions(material: Material, pool: Pool, count: int, seed: int) -> list[int]:
    """The positions of the rows of a set that a seed draws, each label in proportion."""
    return stratified_indices(pool.labels, count, draws(material, seed, pool.source))


def rows_at(pool: Pool, positions: Sequence[int]) -> TrainingRows:
    """The rows of a set at these positions."""
    return TrainingRows(tuple(pool.rows[position] for position in positions), {pool.source: len(positions)})
