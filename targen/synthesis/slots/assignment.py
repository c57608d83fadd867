"""The rows to make, as slots: balance, resuming, growth and order follow from their numbers alone.

A slot is (label cell, index). Nothing about it depends on the size of the set, on other slots or on timing.

Slots of an index are dealt to as many neighbouring contexts as there are label cells, each to one. A context's further
instance seeds serve the label cells in turn. So no context goes with one label, the position of a seed in its call says
nothing of the label, and small sets use as many contexts as large ones.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, TypeVar

from targen.runtime.randomness import rng
from targen.tasks.task import LabelCell, Task

Item = TypeVar("Item")


class Slot(NamedTuple):
    """One instance to be made. Ordered by index first, so that slot order has all label cells in turn.

    A tuple, as SeedGroup, because many dicts have it as their key.
    """

    index: int  # type: ignore[assignment]  # nobody looks for values in a slot
    cell: int

    def __str__(self) -> str:
        return f"c{self.cell}-{self.index:05d}"


def cell_weights(cells: Sequence[LabelCell], shares: Mapping[str, float] | None) -> list[float]:
    """The share of each label cell, up to a factor. `shares`: of the labels; None: all labels alike."""
    if shares is None:
        return [1.0] * len(cells)
    per_label = Counter(cell.label for cell in cells)
    return [shares[cell.label] / per_label[cell.label] if cell.label is not None else 1.0 for cell in cells]


def quotas(weights: Sequence[float], size: int) -> list[int]:
    """Instances per label cell, by largest remainder; `size` counts instances. Equal weights: cells differ by one at most."""
    exact = [size * weight / math.fsum(weights) for weight in weights]
    counts = [math.floor(round(share, 9)) for share in exact]
    by_remainder = sorted(range(len(weights)), key=lambda cell: (round(counts[cell] - exact[cell], 9), cell))
    for cell in by_remainder[: size - sum(counts)]:
        counts[cell] += 1
    return counts


def nth_slot(seed: int, task: str, weights: Sequence[float], cell: int, number: int) -> Slot:
    """The `number`-th slot of a label cell, from 0.

    A rare label skips indices, so that it is spread over the same contexts as the others.
    """
    stride = max(weights) / weights[cell]
    first, end = math.ceil(number * stride), math.ceil((number + 1) * stride)
    return Slot(first if end - first == 1 else rng(seed, task, "spread", cell, number).randrange(first, end), cell)


@dataclass(frozen=True)
class Shard:
    """A share of the slots of a run, `index` of `count`."""

    index: int
    count: int


class SeedGroup(NamedTuple):
    """Label cells that share their instance seeds: those whose prompts of step 2 are the same."""

    number: int
    cells: tuple[int, ...]


def seed_groups(cells: Sequence[LabelCell], keys: frozenset[str]) -> list[SeedGroup]:
    """The groups of a task whose instance seeds depend on the crossed variants `keys`."""
    groups: dict[tuple[tuple[str, str], ...], list[int]] = {}
    for cell in cells:
        groups.setdefault(tuple(pair for pair in cell.variant if pair[0] in keys), []).append(cell.number)
    return [SeedGroup(number, tuple(members)) for number, members in enumerate(groups.values())]


@dataclass(frozen=True)
class Deal:
    """How the slots of a group are dealt to calls for instance seeds, each of which has one context."""

    seed: int
    task: str
    group: SeedGroup
    contexts: int
    per_call: int

    @property
    def _rounds(self) -> int:
        """Indices that are dealt before a context is used again."""
        return max(1, self.contexts // len(self.group.cells))

    def _order(self, round_: int) -> tuple[int, ...]:
        """The cells in the order in which they take the first instance seeds of the calls of a round."""
        return _cells_in_order(self.seed, self.task, self.group, round_)

    def call_and_position(self, slot: Slot) -> tuple[int, int]:
        """(call, position in its answer) of the instance seed of a slot's first attempt."""
        turn, within = divmod(slot.index, self._rounds * self.per_call)
        position, round_ = divmod(within, self._rounds)
        round_ += turn * self._rounds
        cells = len(self.group.cells)
        return round_ * cells + (self._order(round_).index(slot.cell) + position) % cells, position

    def slots(self, call: int) -> list[Slot]:
        """The slots that a call serves, in the order of its answer."""
        cells = len(self.group.cells)
        round_, turn_in_round = divmod(call, cells)
        turn, within = divmod(round_, self._rounds)
        order = self._order(round_)
        first = turn * self._rounds * self.per_call + within
        return [
            Slot(first + position * self._rounds, order[(turn_in_round - position) % cells])
            for position in range(self.per_call)
        ]


def shard_of_call(seed: int, task: str, shards: int, groups: int, group: SeedGroup, call: int) -> int:
    """The shard that makes a call for instance seeds, and all slots that the call serves.

    The shard with which a task begins is drawn, so that small tasks do not all fall to the first ones.
    """
    first = rng(seed, task, "shards").randrange(shards)
    return (call * groups + group.number + first) % shards


def context_of_call(seed: int, task: str, contexts: Sequence[str], call: int) -> str:
    """The context of a call for instance seeds: all in shuffled order, then shuffled again; the same for all groups."""
    return draw_evenly(seed, task, "contexts", contexts, call)[0]


def drawn_variants(seed: int, task: Task, slot: Slot) -> dict[str, str]:
    """The values of the variants that are drawn for a slot: within a label cell in exact proportion to their weights."""
    return {
        name: draw_evenly(seed, task.name, f"variant {name} {slot.cell}", deck, slot.index)[0]
        for name, deck in task.drawn_variants(task.label_cells[slot.cell].label).items()
    }


def draw_evenly(seed: int, task: str, name: str, items: Sequence[Item], number: int, count: int = 1) -> list[Item]:
    """The `number`-th draw of `count` items: draws go through all items in shuffled order, then shuffle again."""
    turn, draw = divmod(number, len(items) // count)
    order = _shuffled_positions(seed, task, name, turn, len(items))
    return [items[position] for position in order[draw * count : (draw + 1) * count]]


@lru_cache(maxsize=16_384)
def _shuffled_positions(seed: int, task: str, name: str, turn: int, count: int) -> tuple[int, ...]:
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
    groups = seed_groups(task.label_cells, frozenset(task.crossed_variants))
    group = next(group for group in groups if slot.cell in group.cells)
    shared = any(label.constraint for label in task.labels)
    number = (slot.index if shared else number_in_group(seed, task.name, group, slot)) * len(groups) + group.number
    return {name: draw_evenly(seed, task.name, name, items, number)[0] for name, items in item_lists.items()}


def number_in_group(seed: int, task: str, group: SeedGroup, slot: Slot) -> int:
    """The number of a slot among all of its group: cells in shuffled order within an index."""
    order = _cells_in_order(seed, task, group, slot.index)
    return slot.index * len(order) + order.index(slot.cell)


@lru_cache(maxsize=16_384)
def _cells_in_order(seed: int, task: str, group: SeedGroup, number: int) -> tuple[int, ...]:
    """The label cells of a group in the `number`-th shuffled order."""
    order = list(group.cells)
    rng(seed, task, "deal", group.number, number).shuffle(order)
    return tuple(order)


def interleaved(seed: int, task: str, groups: Sequence[Sequence[Slot]]) -> list[Slot]:
    """The slots of all label cells in the order of their rows: each cell's n-th together, in shuffled order."""
    ordered: list[Slot] = []
    for block in range(max((len(group) for group in groups), default=0)):
        present = [group[block] for group in groups if block < len(group)]
        rng(seed, task, "order", block).shuffle(present)
        ordered += present
    return ordered
