"""The parts that compare sources and numbers of rows: methods, equal cost, quantity, mixing."""

from collections.abc import Iterator

from eval.analysis.results import Missing
from eval.study.rows.levels import METHODS, MIXING, QUANTITY, TOKENS, Level, draw_both, draw_original, draw_set
from eval.study.rows.material import ORIGINAL, Material
from eval.study.rows.sets import REFERENCE

SIZES = (24, 48, 100, 200, 400)
MIXED = (0, 8, 24, 48, 100)  # original rows beside the synthetic ones
CURVES = (ORIGINAL, REFERENCE, "zero_shot")
BUDGET_ROWS = 100  # of the reference, whose cost is the budget of the part `tokens`


def methods(material: Material) -> Iterator[Level | Missing]:
    """The set of every method beside as many original rows."""
    yield Level(METHODS, ORIGINAL, None, draw_original(material, material.size))
    for method, pool in material.sets.items():
        yield Level(METHODS, method, ORIGINAL, draw_set(material, pool, material.size))


def tokens(material: Material) -> Iterator[Level | Missing]:
    """Every set cut to the cost of BUDGET_ROWS rows of the reference, at the mean cost of a row of the set."""
    prices = cost_of_rows(material)
    if REFERENCE not in prices:
        yield Missing(TOKENS, f"{material.task.name}: the cost of {REFERENCE} is not known")
        return
    budget = prices[REFERENCE] * min(BUDGET_ROWS, material.size)
    for method, pool in material.sets.items():
        if method not in prices:
            yield Missing(TOKENS, f"{material.task.name}: the cost of {method} is not known")
            continue
        count = int(budget / prices[method] + 1e-9)
        if count > pool.size:
            why = f"the budget buys {count} rows of {method}, of which there are {pool.size}"
            yield Missing(TOKENS, f"{material.task.name}: {why}")
        reference = None if method == REFERENCE else REFERENCE
        yield Level(TOKENS, method, reference, draw_set(material, pool, max(1, min(count, pool.size))))


def cost_of_rows(material: Material) -> dict[str, float]:
    """Tokens per row by method, or characters where not all sets have counts of tokens; without sets of unknown cost."""
    in_tokens = is_in_tokens(material)
    return {
        method: pool.synthetic_set.cost.paid(in_tokens) / len(pool.synthetic_set.rows)
        for method, pool in material.sets.items()
        if pool.synthetic_set is not None and pool.synthetic_set.cost is not None
    }


def is_in_tokens(material: Material) -> bool:
    """Whether all sets of a known cost have counts of tokens."""
    costs = [
        pool.synthetic_set.cost
        for pool in material.sets.values()
        if pool.synthetic_set is not None and pool.synthetic_set.cost is not None
    ]
    return all(cost.tokens is not None for cost in costs)


def quantity(material: Material) -> Iterator[Level | Missing]:
    """Original rows and two methods at several sizes."""
    pools = {ORIGINAL: material.original, **material.sets}
    for source in (source for source in CURVES if source in pools):
        pool = pools[source]
        for size in (size for size in SIZES if size <= pool.size):
            if source == ORIGINAL:
                yield Level(QUANTITY, size_level(ORIGINAL, size), None, draw_original(material, size))
            else:
                reference = size_level(ORIGINAL, size) if size <= material.original.size else None
                yield Level(QUANTITY, size_level(source, size), reference, draw_set(material, pool, size))
        if pool.size < SIZES[-1]:
            sizes = ", ".join(str(size) for size in SIZES if size > pool.size)
            yield Missing(QUANTITY, f"{material.task.name}: {source} has {pool.size} rows, so not {sizes}")


def size_level(source: str, size: int) -> str:
    """The name of a level of the part `quantity`."""
    return f"{source} {size}"


def mixing(material: Material) -> Iterator[Level | Missing]:
    """A few original rows alone, and beside the set of the reference."""
    pool = material.reference
    for count in MIXED:
        if count > material.original.size:
            yield Missing(MIXING, f"{material.task.name}: {material.original.size} original rows, expected {count}")
            continue
        name, original = f"{count} {ORIGINAL}", draw_original(material, count)
        if count:
            yield Level(MIXING, name, None, original)
        if pool is not None:
            synthetic = draw_set(material, pool, material.size)
            if count:
                yield Level(MIXING, f"{name} + {REFERENCE}", name, draw_both(original, synthetic))
            else:
                yield Level(MIXING, f"{REFERENCE} alone", None, synthetic)
    if pool is None:
        yield Missing(MIXING, f"{material.task.name}: there is no set of {REFERENCE}")
