"""Inference batches: items of similar length together, within the limits of batch size and CPU cache."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

from targen.runtime.errors import UserError

log = logging.getLogger(__name__)
Item = TypeVar("Item")
Value = TypeVar("Value")

# Tokens of a batch on a CPU: larger ones leave its caches. Measured on one core with MiniLM: 64 x 140 tokens take 1.9 times
# as long per row.
CPU_TOKENS = 1024
ON_CPU, ON_GPU = 64, 256  # sequences of a batch, unless eval.batch_size is set


@dataclass(frozen=True)
class ItemSize:
    """What an item adds to a batch: `rows` of `length` tokens, and `sequences`, which the batch size limits."""

    length: int
    rows: int
    sequences: int


def length_batches(sizes: Sequence[ItemSize], batch_size: int, device: torch.device) -> Iterator[list[int]]:
    """Indices of the items, longest first, at most `batch_size` sequences together; on a CPU fewer of long ones."""
    batch: list[int] = []
    rows = sequences = 0
    for index in sorted(range(len(sizes)), key=lambda index: (-sizes[index].length, index)):
        size = sizes[index]
        tokens = (rows + size.rows) * sizes[batch[0]].length if batch else 0
        if batch and (sequences + size.sequences > batch_size or (device.type == "cpu" and tokens > CPU_TOKENS)):
            yield batch
            batch, rows, sequences = [], 0, 0
        batch.append(index)
        rows, sequences = rows + size.rows, sequences + size.sequences
    if batch:
        yield batch


def in_batches(
    predict: Callable[[Sequence[Item], int], Iterable[tuple[int, Value]]], items: Sequence[Item], batch_size: int | None
) -> list[Value]:
    """What `predict` yields for each item by its index, in their order.

    Without a `batch_size`, one that does not fit into a GPU is halved, and values that were computed stay. Raises: UserError if
    a given `batch_size` does not fit.
    """
    size = batch_size or (ON_GPU if torch.cuda.is_available() else ON_CPU)
    values: dict[int, Value] = {}
    while len(values) < len(items):
        remaining = [index for index in range(len(items)) if index not in values]
        try:
            for index, value in predict([items[index] for index in remaining], size):
                values[remaining[index]] = value
            continue
        except torch.OutOfMemoryError:
            if batch_size is not None or size == 1:
                raise UserError(
                    f"eval.batch_size: got {size}, and a batch does not fit into the memory of the device. Set it smaller, or "
                    "train.max_length lower."
                ) from None
        torch.cuda.empty_cache()  # outside of the handler, whose traceback holds tensors
        size //= 2
        log.info("%d sequences at once do not fit into the memory of the device: going on with %d", 2 * size, size)
    return [values[index] for index in range(len(items))]
