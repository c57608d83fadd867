"""The parts that change how frequent the labels are: equally frequent, or in the shares of the original rows."""

from collections import Counter
from collections.abc import Iterator, Mapping

from eval.analysis.results import Missing
from eval.study.rows.amounts import CURVES
from eval.study.rows.draws import in_shares, quotas
from eval.study.rows.levels import NATURAL, SHARES, Level, Teach, at, draws
from eval.study.rows.material import ORIGINAL, Material, Pool

MOST_ROWS = 100
EQUAL, AS_ORIGINAL = "balanced", "natural"


def shares(given: Material) -> Iterator[Level | Missing]:
    """Original rows and two methods, each balanced and in natural shares: synthetic rows against original ones of the same shares."""
    pools = {ORIGINAL: given.original, **given.sets}
    pools = {source: pools[source] for source in CURVES if source in pools}
    weights = {EQUAL: {label.name: 1 for label in given.task.labels}, AS_ORIGINAL: natural_shares(given)}
    if len(set(weights[AS_ORIGINAL].values())) == 1:
        yield Missing(SHARES, f"{given.task.name}: its labels are equally frequent in the original rows")
        return
    count = largest(pools, weights)
    taught = {
        (source, kind): _in_shares(given, pools[source], weights[kind], count) for source in pools for kind in weights
    }
    for (source, kind), teach in taught.items():
        reference = None if source == ORIGINAL else shared(ORIGINAL, kind)
        yield Level(SHARES, shared(source, kind), reference, teach)
    for (source, kind), teach in taught.items():
        yield Level(NATURAL, shared(source, kind), None if kind == EQUAL else shared(source, EQUAL), teach)


def shared(source: str, kind: str) -> str:
    """The name of a level."""
    return f"{source}, {kind}"


def natural_shares(given: Material) -> dict[str, int]:
    """The published number of original training rows of each label, or that of the train split at hand."""
    return dict(given.task.label_counts) or dict(Counter(given.original.labels))


def largest(pools: Mapping[str, Pool], weights: Mapping[str, Mapping[str, int]]) -> int:
    """The most rows, `MOST_ROWS` at most, that every pool has in every one of the shares."""
    counts = [Counter(pool.labels) for pool in pools.values()]
    for count in range(MOST_ROWS, 1, -1):
        wanted = [quotas(of_kind, count) for of_kind in weights.values()]
        if all(number <= have[name] for have in counts for each in wanted for name, number in each.items()):
            return count
    return 1


def _in_shares(given: Material, pool: Pool, weights: Mapping[str, int], count: int) -> Teach:
    return lambda seed, _: at(pool, in_shares(pool.labels, weights, count, draws(given, seed, SHARES, pool.source)))
