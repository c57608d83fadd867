"""Which rows of several tasks make up an epoch of one model.

Every row is in every epoch. Where a task is to be drawn more often than its size says, its rows come again: whole passes,
then a drawn rest. So nothing is learnt from less than there is, and an epoch is longer the more equal the tasks are.
Source of the three kinds: T5, arXiv 1910.10683, section 3.5.2.
"""

from collections.abc import Sequence
from typing import Literal

from targen.synthesis.slots import rng

Mixture = Literal["proportional", "temperature", "equal"]


def epoch(
    names: Sequence[str], sizes: Sequence[int], mixture: Mixture, temperature: float, seed: int
) -> list[tuple[str, int]]:
    """(task, place of a row in its task) of all examples of an epoch, task by task; the trainer shuffles them."""
    counts = epoch_counts(sizes, mixture, temperature)
    found = []
    for name, size, count in zip(names, sizes, counts, strict=True):
        passes, rest = divmod(count, size)
        again = sorted(rng(seed, name, "mixture").sample(range(size), rest))
        found += [(name, place) for place in [*(list(range(size)) * passes), *again]]
    return found


def epoch_counts(sizes: Sequence[int], mixture: Mixture, temperature: float) -> list[int]:
    """Examples of each task in an epoch: shares size^(1/T), so scaled that no task has fewer than its size."""
    exponent = {"proportional": 1.0, "temperature": 1 / temperature, "equal": 0.0}[mixture]
    wanted = [size**exponent for size in sizes]
    scale = max(size / want for size, want in zip(sizes, wanted, strict=True))
    return [round(want * scale) for want in wanted]
