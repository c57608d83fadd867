"""The parts that change what is in the rows of the reference: their labels, which of them are kept, how diverse they are."""

from collections.abc import Iterator, Mapping, Sequence

from eval.analysis.results import Missing
from eval.study.rows.draws import random_items, with_broken_labels
from eval.study.rows.levels import (
    DIVERSITY,
    QUALITY,
    SELECTION,
    DrawRows,
    Level,
    TrainingRows,
    draw_set,
    draws,
    rows_at,
    sampled_positions,
)
from eval.study.rows.material import Material, Pool
from eval.study.rows.selection import (
    AT_RANDOM,
    BY_ITSELF,
    BY_ORIGINAL,
    CHECKER_ROWS,
    Values,
    criteria,
    draw_without_lowest,
)
from eval.study.rows.sets import REFERENCE
from targen.quality.students import Student

BROKEN = (0.1, 0.2, 0.3)
LEFT_OUT_SHARE = 0.25
KEPT = (0.9, 0.75, 0.5, 0.25)
ALL_ROWS = "all rows"
CONTEXTS = (5, 10, 20, 40)
CORRECTED, UNCORRECTED = "labels after self-correction", "labels before self-correction"


def quality(material: Material) -> Iterator[Level | Missing]:
    """Self-correction, broken labels, and rows left out by a checker; and the part `selection`, which has more shares and criteria."""
    pool = material.reference
    if pool is None:
        yield Missing(QUALITY, f"{material.task.name}: there is no set of {REFERENCE}")
        return
    yield Level(QUALITY, UNCORRECTED, None, _uncorrected(material, pool))
    yield Level(QUALITY, CORRECTED, UNCORRECTED, draw_set(material, pool, material.size))
    for share in BROKEN:
        yield Level(QUALITY, f"{share:.0%} of labels broken", CORRECTED, _broken(material, pool, share))
    by_name = criteria(material, pool)
    prefix = f"{LEFT_OUT_SHARE:.0%} left out"
    for name in (name for name in (AT_RANDOM, BY_ITSELF, BY_ORIGINAL) if name in by_name):
        reference = CORRECTED if name == AT_RANDOM else f"{prefix} {AT_RANDOM}"
        yield Level(
            QUALITY, f"{prefix} {name}", reference, draw_without_lowest(material, pool, by_name[name], LEFT_OUT_SHARE)
        )
    if BY_ORIGINAL not in by_name:
        yield Missing(QUALITY, f"{material.task.name}: {material.original.size} original rows, expected {CHECKER_ROWS}")
    yield from _selection(material, pool, by_name)


def _selection(material: Material, pool: Pool, by_name: Mapping[str, Values]) -> Iterator[Level]:
    """All rows, and the best of them by each criterion, at several shares."""
    yield Level(SELECTION, ALL_ROWS, None, draw_set(material, pool, material.size))
    for share in KEPT:
        for name, values in by_name.items():
            reference = ALL_ROWS if name == AT_RANDOM else selection_level(share, AT_RANDOM)
            yield Level(
                SELECTION,
                selection_level(share, name),
                reference,
                draw_without_lowest(material, pool, values, 1 - share),
            )


def selection_level(share: float, name: str) -> str:
    """The name of a level of the part `selection`."""
    return f"{share:.0%} kept {name}"


def _uncorrected(material: Material, pool: Pool) -> DrawRows:
    def training_rows(seed: int, _: Student) -> TrainingRows:
        positions = sampled_positions(material, pool, material.size, seed)
        rows = tuple(material.task.relabel(pool.rows[position], pool.labels_before[position]) for position in positions)
        return TrainingRows(rows, {pool.source: len(rows)})

    return training_rows


def _broken(material: Material, pool: Pool, share: float) -> DrawRows:
    def training_rows(seed: int, _: Student) -> TrainingRows:
        rows = rows_at(pool, sampled_positions(material, pool, material.size, seed)).rows
        broken = with_broken_labels(material.task, rows, share, draws(material, seed, "broken labels"))
        return TrainingRows(tuple(broken), {pool.source: len(broken)})

    return training_rows


def diversity(material: Material) -> Iterator[Level | Missing]:
    """Equally many rows from few and from many contexts, and rows that are there twice."""
    pool = material.reference
    if pool is None:
        yield Missing(DIVERSITY, f"{material.task.name}: there is no set of {REFERENCE}")
        return
    contexts = sorted(set(pool.contexts) - {""})
    numbers = [number for number in CONTEXTS if number <= len(contexts)]
    if len(numbers) > 1:
        for number in numbers:
            reference = None if number == numbers[-1] else _contexts_level(numbers[-1])
            draw_rows = _from_contexts(material, pool, contexts, number, numbers[0])
            yield Level(DIVERSITY, _contexts_level(number), reference, draw_rows)
    else:
        yield Missing(DIVERSITY, f"{material.task.name}: {len(contexts)} contexts, expected {CONTEXTS[1]}")
    half = material.size // 4
    distinct = f"{2 * half} distinct rows"
    yield Level(DIVERSITY, distinct, None, draw_set(material, pool, 2 * half))
    yield Level(DIVERSITY, f"{half} rows, each twice", distinct, _twice(material, pool, half))


def _contexts_level(number: int) -> str:
    return f"{number} contexts"


def _from_contexts(material: Material, pool: Pool, contexts: Sequence[str], number: int, fewest: int) -> DrawRows:
    """As many rows of each label as the seed's first `fewest` contexts have of the rarest label, one at least."""
    names = [label.name for label in material.task.labels]

    def training_rows(seed: int, _: Student) -> TrainingRows:
        order = list(contexts)
        draws(material, seed, "contexts").shuffle(order)
        count = max(1, min(len(_positions(pool, order[:fewest], name)) for name in names))
        positions: list[int] = []
        for name in names:
            rows = _positions(pool, order[:number], name)
            positions += random_items(rows, count, draws(material, seed, "rows of contexts", name))
        return rows_at(pool, sorted(positions))

    return training_rows


def _positions(pool: Pool, contexts: Sequence[str], label: str) -> list[int]:
    """The positions of the rows that have this label and one of these contexts."""
    chosen = set(contexts)
    pairs = zip(pool.contexts, pool.labels, strict=True)
    return [index for index, pair in enumerate(pairs) if pair[0] in chosen and pair[1] == label]


def _twice(material: Material, pool: Pool, count: int) -> DrawRows:
    return lambda seed, _: rows_at(pool, sampled_positions(material, pool, count, seed) * 2)
