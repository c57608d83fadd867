"""A request to stop, as a scheduler makes it: SIGTERM or SIGUSR1. Training saves at its next step and ends."""

import signal
from types import TracebackType
from typing import Any

from targen.runtime.signals import STOP_SIGNALS


class Stopped(Exception):
    """The run was asked to stop, and has saved what it had; the same command goes on."""


class StopRequest:
    """Whether one came while the body ran."""

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopRequest":
        self._before = {number: signal.signal(number, self._take) for number in STOP_SIGNALS}
        return self

    def _take(self, *_: object) -> None:
        self.requested = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
