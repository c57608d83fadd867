"""Which rows a seed draws. A smaller draw of the same seed is a part of a larger one, so that curves compare sizes."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from random import Random
from typing import TypeVar

from targen.tasks.task import Row, Task
from train.grid.rows import apportion

Item = TypeVar("Item")


def random_items(items: Sequence[Item], count: int, draws: Random) -> list[Item]:
    """`count` items, in the shares that chance gives."""
    order = list(range(len(items)))
    draws.shuffle(order)
    return [items[index] for index in sorted(order[:count])]


def stratified_indices(labels: Sequence[str], count: int, draws: Random) -> list[int]:
    """The indices of `count` items, each label in proportion by largest remainder; all if there are fewer."""
    return indices_in_shares(labels, Counter(labels), min(count, len(labels)), draws)


def indices_in_shares(labels: Sequence[str], weights: Mapping[str, int], count: int, draws: Random) -> list[int]:
    """The indices of `count` items whose labels are in proportion to the weights; of a label all if there are fewer."""
    by_label: dict[str, list[int]] = defaultdict(list)
    for index, label in enumerate(labels):
        by_label[label].append(index)
    for name in sorted(by_label):
        draws.shuffle(by_label[name])
    quota_of_label = quotas(weights, count)
    return sorted(index for name, quota in quota_of_label.items() for index in by_label[name][:quota])


def quotas(weights: Mapping[str, int], count: int) -> dict[str, int]:
    """`count` divided in proportion to the weights by largest remainder, by name."""
    names = sorted(weights)
    return dict(zip(names, apportion([weights[name] for name in names], count), strict=True))


def with_broken_labels(task: Task, rows: Sequence[Row], share: float, draws: Random) -> list[Row]:
    """The rows, of which this share, rounded, got another label. Those of a smaller share are among those of a larger one."""
    order = list(range(len(rows)))
    draws.shuffle(order)
    names = [label.name for label in task.labels]
    others = [draws.choice([name for name in names if name != task.gold_option(row)]) for row in rows]
    broken = set(order[: round(share * len(rows))])
    return [task.relabel(row, others[index]) if index in broken else row for index, row in enumerate(rows)]
