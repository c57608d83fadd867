"""Which rows are to be made: slots, so that balance, resume, growth and order follow from their numbers alone.

A slot is (label cell, index). Nothing about it depends on the size of the set, on other slots or on timing.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from targen.task import LabelCell


@dataclass(frozen=True, order=True)
class Slot:
    """One instance to be made. Ordered by index first: slot order deals the label cells in turn."""

    index: int
    cell: int

    def __str__(self) -> str:
        return f"c{self.cell}-{self.index:05d}"


def rng(seed: int, *names: object) -> Random:
    """A generator of its own for every named purpose; equal on every machine."""
    text = "/".join(str(name) for name in (seed, *names))
    return Random(int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big"))


def quotas(cells: Sequence[LabelCell], size: int) -> list[int]:
    """Instances per label cell; `size` counts instances. Labels differ by one at most, and so do the cells of a label."""
    share, rest = divmod(size, len(cells))
    return [share + (cell.number < rest) for cell in cells]


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

    Which label takes the first seed of a call is drawn anew for every index.
    """
    order = list(group.cells)
    rng(seed, task, "deal", group.number, slot.index).shuffle(order)
    return divmod(slot.index * len(order) + order.index(slot.cell), per_call)


def context_of_call(seed: int, task: str, contexts: Sequence[str], groups: int, group: SeedGroup, call: int) -> str:
    """The context of a call for instance seeds: contexts are dealt out evenly over all calls, in shuffled order."""
    turn, place = divmod(call * groups + group.number, len(contexts))
    order = list(contexts)
    rng(seed, task, "contexts", turn).shuffle(order)
    return order[place]


def interleaved(seed: int, task: str, groups: Sequence[Sequence[Slot]]) -> list[Slot]:
    """The slots of all label cells in the order of their rows: each cell's n-th together, in shuffled order."""
    ordered: list[Slot] = []
    for block in range(max((len(group) for group in groups), default=0)):
        present = [group[block] for group in groups if block < len(group)]
        rng(seed, task, "order", block).shuffle(present)
        ordered += present
    return ordered
