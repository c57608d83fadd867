"""The order of training examples: batches of similar length, drawn from the cell's seed, split over processes and memory.

A batch is the same for any number of processes and any amount of memory, so the trained weights are too.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from random import Random

from targen.runtime.randomness import rng

MOST_BATCHES_SORTED = 50


@dataclass(frozen=True)
class Batching:
    """`batch_size` examples an optimizer step, at most `micro_batch_size` at once on each of `processes`."""

    batch_size: int
    micro_batch_size: int
    processes: int = 1
    by_length: bool = True

    @property
    def micro_batches(self) -> int:
        """Micro-batches of a whole batch, one after the other in every process."""
        return -(-self.batch_size // (self.processes * self.micro_batch_size))

    def steps(self, examples: int) -> int:
        """Optimizer steps of an epoch."""
        return -(-examples // self.batch_size)


def epoch_batches(lengths: Sequence[int], batching: Batching, draws: Random) -> list[list[int]]:
    """The batches of an epoch as indices; the incomplete one is last, the longest example is in the first complete one.

    The incomplete batch is drawn from all examples. The others are sorted by length within blocks of at most 50 batches,
    and the batches are shuffled, so that different examples meet in every epoch.
    Source: get_length_grouped_indices of transformers, with the batches shuffled.
    """
    size, order = batching.batch_size, list(range(len(lengths)))
    draws.shuffle(order)
    complete = len(order) // size * size
    rest, order = order[complete:], order[:complete]
    if batching.by_length:
        block = size * max(1, min(len(order) // (size * 4), MOST_BATCHES_SORTED))
        order = [
            index
            for start in range(0, len(order), block)
            for index in sorted(order[start : start + block], key=lambda index: -lengths[index])
        ]
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    if batching.by_length and batches:
        draws.shuffle(batches)
        longest = max(range(len(batches)), key=lambda number: max(lengths[index] for index in batches[number]))
        batches[0], batches[longest] = batches[longest], batches[0]  # what does not fit into memory fails at once
    return [*batches, *([rest] if rest else [])]


def micro_batches(batch: Sequence[int], lengths: Sequence[int], batching: Batching) -> list[list[list[int]]]:
    """`[micro-batch][process]` -> indices: runs of similar length whose sizes differ by at most one.

    A process without an example of its own gets ~index of one: it goes through the model and counts nothing, since all
    processes must take every step together.
    """
    ordered = sorted(batch, key=lambda index: (-lengths[index], index))
    count = -(-len(ordered) // (batching.processes * batching.micro_batch_size)) * batching.processes
    cuts = [number * len(ordered) // count for number in range(count + 1)]
    runs = [ordered[start:end] or [~ordered[-1]] for start, end in pairwise(cuts)]
    return [runs[start : start + batching.processes] for start in range(0, count, batching.processes)]


class MicroBatchSampler:
    """The micro-batches of one process: a batch sampler whose order depends only on the seed, its name and the epoch."""

    def __init__(self, lengths: Sequence[int], batching: Batching, seed: int, name: str, process: int = 0) -> None:
        self._lengths, self._batching, self._process = lengths, batching, process
        self._seed, self._name, self._epoch = seed, name, 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses the order of an epoch; the Trainer calls it before each."""
        self._epoch = epoch

    def __len__(self) -> int:
        complete, rest = divmod(len(self._lengths), self._batching.batch_size)
        examples_at_once = self._batching.processes * self._batching.micro_batch_size
        return complete * self._batching.micro_batches + -(-rest // examples_at_once)

    def __iter__(self) -> Iterator[list[int]]:
        draws = rng(self._seed, self._name, "order", self._epoch)
        for batch in epoch_batches(self._lengths, self._batching, draws):
            for by_process in micro_batches(batch, self._lengths, self._batching):
                yield by_process[self._process]
