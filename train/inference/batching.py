"""Batches of what a model is asked: like lengths together, no more than should go through at once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

CPU_TOKENS = 1024  # at once on a CPU, whose caches a larger batch leaves: on one core MiniLM takes 1.9 times as long with 64 x 140


@dataclass(frozen=True)
class Size:
    """What an item adds to a batch: `rows` of `length` tokens, and `sequences` of which a batch has only so many."""

    length: int
    rows: int
    sequences: int


def batches(sizes: Sequence[Size], most: int, device: torch.device) -> Iterator[list[int]]:
    """Places of the items, long ones first, at most so many sequences together; on a CPU fewer of long ones."""
    batch: list[int] = []
    rows = sequences = 0
    for place in sorted(range(len(sizes)), key=lambda place: (-sizes[place].length, place)):
        one = sizes[place]
        tokens = (rows + one.rows) * sizes[batch[0]].length if batch else 0
        if batch and (sequences + one.sequences > most or (device.type == "cpu" and tokens > CPU_TOKENS)):
            yield batch
            batch, rows, sequences = [], 0, 0
        batch.append(place)
        rows, sequences = rows + one.rows, sequences + one.sequences
    if batch:
        yield batch
