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
    """Instances per label cell; `size` counts instances. Labels differ by one at most, and so do a label's variants."""
    share, rest = divmod(size, len(cells))
    return [share + (cell.number < rest) for cell in cells]


def unit_context(seed: int, task: str, contexts: Sequence[str], cells: int, slot: Slot, unit: int) -> str:
    """The context of the `unit`-th call for instance seeds of a label cell: contexts are dealt out evenly, shuffled."""
    number = unit * cells + slot.cell
    turn, place = divmod(number, len(contexts))
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
