"""The parts that compare sources and numbers of rows: methods, equal cost, quantity, mixing."""

from collections.abc import Iterator

from eval.analysis.results import Missing
from eval.study.rows.levels import METHODS, MIXING, QUANTITY, TOKENS, Level, both, of_original, of_set
from eval.study.rows.material import ORIGINAL, Material
from eval.study.rows.sets import REFERENCE

SIZES = (24, 48, 100, 200, 400)
MIXED = (0, 8, 24, 48, 100)  # original rows beside the synthetic ones
CURVES = (ORIGINAL, REFERENCE, "zero_shot")
BUDGET_ROWS = 100  # of the reference, whose cost is the budget of the part `tokens`


def methods(given: Material) -> Iterator[Level | Missing]:
    """The set of every method beside as many original rows."""
    yield Level(METHODS, ORIGINAL, None, of_original(given, given.size))
    for method, pool in given.sets.items():
        yield Level(METHODS, method, ORIGINAL, of_set(given, pool, given.size))


def tokens(given: Material) -> Iterator[Level | Missing]:
    """Every set cut to the rows that the cost of the reference's first rows buys, at the mean cost of a row of the set."""
    prices = cost_of_rows(given)
    if REFERENCE not in prices:
        yield Missing(TOKENS, f"{given.task.name}: the cost of {REFERENCE} is not known")
        return
    budget = prices[REFERENCE] * min(BUDGET_ROWS, given.size)
    for method, pool in given.sets.items():
        if method not in prices:
            yield Missing(TOKENS, f"{given.task.name}: the cost of {method} is not known")
            continue
        bought = int(budget / prices[method] + 1e-9)
        if bought > pool.size:
            yield Missing(
                TOKENS, f"{given.task.name}: the budget buys {bought} rows of {method}, of which there are {pool.size}"
            )
        reference = None if method == REFERENCE else REFERENCE
        yield Level(TOKENS, method, reference, of_set(given, pool, max(1, min(bought, pool.size))))


def cost_of_rows(given: Material) -> dict[str, float]:
    """Tokens per row by method, or characters where not all sets have counts of tokens; without sets of unknown cost."""
    in_tokens = is_in_tokens(given)
    return {
        method: pool.made.cost.paid(in_tokens) / len(pool.made.rows)
        for method, pool in given.sets.items()
        if pool.made is not None and pool.made.cost is not None
    }


def is_in_tokens(given: Material) -> bool:
    """Whether all sets of a known cost have counts of tokens."""
    costs = [pool.made.cost for pool in given.sets.values() if pool.made is not None and pool.made.cost is not None]
    return all(cost.tokens is not None for cost in costs)


def quantity(given: Material) -> Iterator[Level | Missing]:
    """Original rows and two methods at several sizes."""
    pools = {ORIGINAL: given.original, **given.sets}
    for source in (source for source in CURVES if source in pools):
        pool = pools[source]
        for size in (size for size in SIZES if size <= pool.size):
            if source == ORIGINAL:
                yield Level(QUANTITY, sized(ORIGINAL, size), None, of_original(given, size))
            else:
                reference = sized(ORIGINAL, size) if size <= given.original.size else None
                yield Level(QUANTITY, sized(source, size), reference, of_set(given, pool, size))
        if pool.size < SIZES[-1]:
            sizes = ", ".join(str(size) for size in SIZES if size > pool.size)
            yield Missing(QUANTITY, f"{given.task.name}: {source} has {pool.size} rows, so not {sizes}")


def sized(source: str, size: int) -> str:
    """The name of a level of the part `quantity`."""
    return f"{source} {size}"


def mixing(given: Material) -> Iterator[Level | Missing]:
    """A few original rows alone, and beside the set of the reference."""
    pool = given.reference
    for count in MIXED:
        if count > given.original.size:
            yield Missing(MIXING, f"{given.task.name}: {given.original.size} original rows, expected {count}")
            continue
        alone, few = f"{count} {ORIGINAL}", of_original(given, count)
        if count:
            yield Level(MIXING, alone, None, few)
        if pool is not None:
            made = of_set(given, pool, given.size)
            if count:
                yield Level(MIXING, f"{alone} + {REFERENCE}", alone, both(few, made))
            else:
                yield Level(MIXING, f"{REFERENCE} alone", None, made)
    if pool is None:
        yield Missing(MIXING, f"{given.task.name}: there is no set of {REFERENCE}")
