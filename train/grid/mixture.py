"""The examples of several tasks that make up an epoch of one model.

Every example is in every epoch. A task that is to be sampled more often than its size says has its examples repeated:
whole passes, then a drawn rest. So no example is left out, and the more equal the tasks, the longer the epoch.
Source of the three kinds of mixture: T5, arXiv 1910.10683, section 3.5.2.
"""

from collections.abc import Sequence
from typing import Literal

from targen.runtime.randomness import rng

Mixture = Literal["proportional", "temperature", "equal"]


def epoch_examples(
    names: Sequence[str], sizes: Sequence[int], mixture: Mixture, temperature: float, seed: int
) -> list[tuple[str, int]]:
    """(task, index in its examples) of all examples of an epoch, task by task; the trainer shuffles them."""
    counts = epoch_counts(sizes, mixture, temperature)
    examples = []
    for name, size, count in zip(names, sizes, counts, strict=True):
        passes, rest = divmod(count, size)
        extra = sorted(rng(seed, name, "mixture").sample(range(size), rest))
        examples += [(name, index) for index in [*(list(range(size)) * passes), *extra]]
    return examples


def epoch_counts(sizes: Sequence[int], mixture: Mixture, temperature: float) -> list[int]:
    """Examples of each task in an epoch: shares size^(1/T), scaled so that no task has fewer than its size."""
    exponent = {"proportional": 1.0, "temperature": 1 / temperature, "equal": 0.0}[mixture]
    shares = [size**exponent for size in sizes]
    scale = max(size / share for size, share in zip(sizes, shares, strict=True))
    return [round(share * scale) for share in shares]
