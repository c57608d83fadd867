"""The parts that change how frequent the labels are: equally frequent, or in the shares of the original rows."""

from collections import Counter
from collections.abc import Iterator, Mapping

from eval.analysis.results import Missing
from eval.study.rows.amounts import CURVES
from eval.study.rows.draws import indices_in_shares, quotas
from eval.study.rows.levels import NATURAL, SHARES, DrawRows, Level, draws, rows_at
from eval.study.rows.material import ORIGINAL, Material, Pool

MOST_ROWS = 100
EQUAL, AS_ORIGINAL = "balanced", "natural"


def shares(material: Material) -> Iterator[Level | Missing]:
    """Original rows and two methods, each balanced and in natural shares: synthetic rows against original ones of the same shares."""
    pools = {ORIGINAL: material.original, **material.sets}
    pools = {source: pools[source] for source in CURVES if source in pools}
    weights = {EQUAL: {label.name: 1 for label in material.task.labels}, AS_ORIGINAL: natural_shares(material)}
    if len(set(weights[AS_ORIGINAL].values())) == 1:
        yield Missing(SHARES, f"{material.task.name}: its labels are equally frequent in the original rows")
        return
    count = largest(pools, weights)
    names = [(source, kind) for source in pools for kind in weights]
    by_name = {(source, kind): _in_shares(material, pools[source], weights[kind], count) for source, kind in names}
    for (source, kind), draw_rows in by_name.items():
        reference = None if source == ORIGINAL else shares_level(ORIGINAL, kind)
        yield Level(SHARES, shares_level(source, kind), reference, draw_rows)
    for (source, kind), draw_rows in by_name.items():
        yield Level(
            NATURAL, shares_level(source, kind), None if kind == EQUAL else shares_level(source, EQUAL), draw_rows
        )


def shares_level(source: str, kind: str) -> str:
    """The name of a level."""
    return f"{source}, {kind}"


def natural_shares(material: Material) -> dict[str, int]:
    """The published number of original training rows of each label, or that of the train split at hand."""
    return dict(material.task.label_counts) or dict(Counter(material.original.labels))


def largest(pools: Mapping[str, Pool], weights: Mapping[str, Mapping[str, int]]) -> int:
    """The most rows, `MOST_ROWS` at most, that every pool has in every one of the shares."""
    counts = [Counter(pool.labels) for pool in pools.values()]
    for count in range(MOST_ROWS, 1, -1):
        needed = [item for kind_weights in weights.values() for item in quotas(kind_weights, count).items()]
        if all(number <= available[name] for available in counts for name, number in needed):
            return count
    return 1


def _in_shares(material: Material, pool: Pool, weights: Mapping[str, int], count: int) -> DrawRows:
    return lambda seed, _: rows_at(
        pool, indices_in_shares(pool.labels, weights, count, draws(material, seed, SHARES, pool.source))
    )
