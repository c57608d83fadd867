"""A request to stop that comes at a step of training."""

from targen.runtime.signals import StopRequest


class StopAfter(StopRequest):
    """It is asked for once before the cell, then after each step."""

    def __init__(self, step: int) -> None:
        self._left = step + 1
        super().__init__()

    @property
    def requested(self) -> bool:
        self._left -= 1
        return self._left <= 0
