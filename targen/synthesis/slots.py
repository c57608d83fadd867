"""Which rows are to be made: slots, so that balance, resume, growth and order follow from their numbers alone.

A slot is (label cell, index). Nothing about it depends on the size of the set, on other slots or on timing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

from targen.runtime.randomness import rng
from targen.tasks.task import LabelCell, Task

Item = TypeVar("Item")


@dataclass(frozen=True, order=True)
class Slot:
    """One instance to be made. Ordered by index first: slot order deals the label cells in turn."""

    index: int
    cell: int

    def __str__(self) -> str:
        return f"c{self.cell}-{self.index:05d}"


def quotas(cells: Sequence[LabelCell], size: int) -> list[int]:
    """Instances per label cell; `size` counts instances. Labels differ by one at most, and so do the cells of a label."""
    share, rest = divmod(size, len(cells))
    return [share + (cell.number < rest) for cell in cells]


@dataclass(frozen=True)
class Shard:
    """A share of the slots of a run, `index` of `count`."""

    index: int
    count: int


@dataclass(frozen=True)
class SeedGroup:
    """Label cells that share their instance seeds: those whose prompts of step 2 are the same.

    A call for instance seeds serves neighbouring slots of a group, which have different labels, so that no context
    goes with one label only.
    """

    number: int
    cells: tuple[int, ...]


def seed_groups(cells: Sequence[LabelCell], keys: frozenset[str]) -> list[SeedGroup]:
    """The groups of a task whose instance seeds depend on the variant's `keys` (AX-g: the referent)."""
    groups: dict[tuple[tuple[str, str], ...], list[int]] = {}
    for cell in cells:
        groups.setdefault(tuple(pair for pair in cell.variant if pair[0] in keys), []).append(cell.number)
    return [SeedGroup(number, tuple(members)) for number, members in enumerate(groups.values())]


def seed_place(seed: int, task: str, group: SeedGroup, slot: Slot, per_call: int) -> tuple[int, int]:
    """(call, position in its answer) of the instance seed of a slot's first attempt.

    Which label takes the first seed of a call is drawn again for every index.
    """
    order = list(group.cells)
    rng(seed, task, "deal", group.number, slot.index).shuffle(order)
    return divmod(slot.index * len(order) + order.index(slot.cell), per_call)


def shard_of_call(seed: int, task: str, shards: int, groups: int, group: SeedGroup, call: int) -> int:
    """The shard that asks a call for instance seeds, and makes all slots that the call serves.

    With which shard a task begins is drawn, so that small tasks do not all fall to the first ones.
    """
    first = rng(seed, task, "shards").randrange(shards)
    return (call * groups + group.number + first) % shards


def context_of_call(seed: int, task: str, contexts: Sequence[str], groups: int, group: SeedGroup, call: int) -> str:
    """The context of a call for instance seeds: contexts are spread evenly over all calls, in shuffled order."""
    return draw_evenly(seed, task, "contexts", contexts, call * groups + group.number)[0]


def draw_evenly(seed: int, task: str, name: str, items: Sequence[Item], number: int, count: int = 1) -> list[Item]:
    """The draw of that number, of `count` items: draws go through all items in shuffled order, then shuffle again."""
    turn, draw = divmod(number, len(items) // count)
    order = _shuffled(seed, task, name, turn, len(items))
    return [items[position] for position in order[draw * count : (draw + 1) * count]]


@lru_cache(maxsize=256)
def _shuffled(seed: int, task: str, name: str, turn: int, count: int) -> tuple[int, ...]:
    order = list(range(count))
    rng(seed, task, name, turn).shuffle(order)
    return tuple(order)


def draw_items(
    seed: int, task: Task, item_lists: Mapping[str, Sequence[str]], slot: Slot, attempt: int
) -> dict[str, str]:
    """One item of every list, for a prompt. First attempts use all items evenly, later ones draw.

    The labels of an index and variant share an item, so that none goes with one label only. Labels without a
    constraint (COPA's positions) have items of their own: their prompts would be the same.
    """
    if attempt > 0:
        return {name: rng(seed, task.name, slot, attempt, name).choice(items) for name, items in item_lists.items()}
    groups = seed_groups(task.label_cells, frozenset(task.variants))
    group = next(group for group in groups if slot.cell in group.cells)
    sharing = len(group.cells) if any(label.constraint for label in task.labels) else 1
    call, _ = seed_place(seed, task.name, group, slot, sharing)
    number = call * len(groups) + group.number
    return {name: draw_evenly(seed, task.name, name, items, number)[0] for name, items in item_lists.items()}


def interleaved(seed: int, task: str, groups: Sequence[Sequence[Slot]]) -> list[Slot]:
    """The slots of all label cells in the order of their rows: each cell's n-th together, in shuffled order."""
    ordered: list[Slot] = []
    for block in range(max((len(group) for group in groups), default=0)):
        present = [group[block] for group in groups if block < len(group)]
        rng(seed, task, "order", block).shuffle(present)
        ordered += present
    return ordered
