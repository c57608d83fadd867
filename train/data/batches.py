"""The order of the examples: batches of like length, drawn from the cell's seed, cut into parts for processes and memory.

A batch is the same whatever the number of processes and whatever fits into memory at once, so the weights are too.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from random import Random

from targen.synthesis.slots import rng

MOST_BATCHES_SORTED = 50


@dataclass(frozen=True)
class Batching:
    """How the examples of an epoch are dealt out: `batch_size` a step, `at_once` in the memory of each of `processes`."""

    batch_size: int
    at_once: int
    processes: int = 1
    by_length: bool = True

    @property
    def parts(self) -> int:
        """Parts of a whole batch, one after the other in every process."""
        return -(-self.batch_size // (self.processes * self.at_once))

    def steps(self, examples: int) -> int:
        """Optimizer steps of an epoch."""
        return -(-examples // self.batch_size)


def epoch_batches(lengths: Sequence[int], batching: Batching, drawn: Random) -> list[list[int]]:
    """The batches of an epoch as indices, the short one last; the longest example is in the first whole one.

    What does not fill a batch is drawn from all examples. The others are sorted by length within blocks of at most 50
    batches, and the batches shuffled, so that what goes together still changes from epoch to epoch.
    Source: get_length_grouped_indices of transformers, with the blocks' batches shuffled.
    """
    size, order = batching.batch_size, list(range(len(lengths)))
    drawn.shuffle(order)
    whole = len(order) // size * size
    rest, order = order[whole:], order[:whole]
    if batching.by_length:
        block = size * max(1, min(len(order) // (size * 4), MOST_BATCHES_SORTED))
        order = [
            index
            for start in range(0, len(order), block)
            for index in sorted(order[start : start + block], key=lambda index: -lengths[index])
        ]
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    if batching.by_length and batches:
        drawn.shuffle(batches)
        longest = max(range(len(batches)), key=lambda number: max(lengths[index] for index in batches[number]))
        batches[0], batches[longest] = batches[longest], batches[0]  # what does not fit fails at once
    return [*batches, *([rest] if rest else [])]


def batch_parts(batch: Sequence[int], lengths: Sequence[int], batching: Batching) -> list[list[list[int]]]:
    """`[part][process]` -> indices: runs of like length whose sizes differ by one at most.

    A process that is left without an example gets ~index of one: it goes through the model and counts nothing, since
    all processes must take each step together.
    """
    ordered = sorted(batch, key=lambda index: (-lengths[index], index))
    count = -(-len(ordered) // (batching.processes * batching.at_once)) * batching.processes
    cuts = [number * len(ordered) // count for number in range(count + 1)]
    runs = [ordered[start:end] or [~ordered[-1]] for start, end in pairwise(cuts)]
    return [runs[start : start + batching.processes] for start in range(0, count, batching.processes)]


class Parts:
    """The parts that one process trains on: a batch sampler whose order hangs on the seed, its name and the epoch alone."""

    def __init__(self, lengths: Sequence[int], batching: Batching, seed: int, name: str, process: int = 0) -> None:
        self._lengths, self._batching, self._process = lengths, batching, process
        self._seed, self._name, self._epoch = seed, name, 0

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def __len__(self) -> int:
        whole, rest = divmod(len(self._lengths), self._batching.batch_size)
        return whole * self._batching.parts + -(-rest // (self._batching.processes * self._batching.at_once))

    def __iter__(self) -> Iterator[list[int]]:
        drawn = rng(self._seed, self._name, "order", self._epoch)
        for batch in epoch_batches(self._lengths, self._batching, drawn):
            for part in batch_parts(batch, self._lengths, self._batching):
                yield part[self._process]
