"""A batch of predictions that does not fit into a GPU is halved, and values that were computed are kept."""

from collections.abc import Iterator, Sequence

import pytest
import torch

from targen.runtime.errors import UserError
from train.inference.batching import ON_CPU, in_batches


class Device:
    """Doubles numbers, with room for so many at once."""

    def __init__(self, room: int) -> None:
        self.room, self.sizes = room, list[int]()

    def predict(self, items: Sequence[int], size: int) -> Iterator[tuple[int, int]]:
        for start in range(0, len(items), size):
            self.sizes.append(size)
            if len(items[start : start + size]) > self.room:
                raise torch.OutOfMemoryError
            yield from ((index, 2 * items[index]) for index in range(start, min(start + size, len(items))))


def test_batches_are_halved_until_they_fit_and_nothing_is_done_twice() -> None:
    device = Device(20)
    assert in_batches(device.predict, range(100), None) == [2 * number for number in range(100)]
    assert device.sizes == [ON_CPU, ON_CPU // 2, *[ON_CPU // 4] * 7]


def test_a_size_that_is_set_is_kept_or_refused() -> None:
    device = Device(8)
    assert in_batches(device.predict, range(20), 8) == [2 * number for number in range(20)]
    with pytest.raises(UserError, match=r"eval\.batch_size: got 9, and a batch does not fit"):
        in_batches(device.predict, range(20), 9)
