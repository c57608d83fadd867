"""A scheduler's request to stop (SIGTERM or SIGUSR1): recorded at once, obeyed at the next safe point."""

import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from types import FrameType, TracebackType
from typing import Any

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
SECONDS_BETWEEN_CHECKS = 0.5  # while waiting, how often to check for a stop request
SECONDS_TO_SPREAD = 3.0  # from the first to the last process of a job that gets a stop signal


class Stopped(Exception):
    """The process ends early, at a safe point: its progress is saved."""


class StopRequest:
    """Records stop signals while the body runs, and restores the previous handlers afterwards.

    In a thread other than the main one, which cannot set handlers, it waits for whoever calls `note`. The handler only
    records the signal and passes it on to the running subprocesses. It does not raise: an event loop would take the
    exception for its own, and training must save a checkpoint first.
    """

    def __init__(self) -> None:
        self.signals: list[signal.Signals] = []  # in order of arrival
        self.subprocesses: list[subprocess.Popen[bytes]] = []
        self._previous: dict[signal.Signals, Any] = {}
        self._token: Token[tuple[StopRequest, ...]] | None = None

    @property
    def requested(self) -> bool:
        """Whether a signal asked this process to stop."""
        return bool(self.signals)

    def note(self, number: int, frame: FrameType | None = None) -> None:  # noqa: ARG002
        """The signal handler."""
        self.signals.append(signal.Signals(number))
        for process in list(self.subprocesses):
            process.send_signal(number)

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self.note) for number in STOP_SIGNALS}
        self._token = _active.set((*_active.get(), self))
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._token is not None
        _active.reset(self._token)
        for number, handler in self._previous.items():
            signal.signal(number, handler)


_active: ContextVar[tuple[StopRequest, ...]] = ContextVar("_active", default=())  # those of this thread


@contextmanager
def interrupts_wait() -> Iterator[None]:
    """Ctrl-C during the body comes at its end, a second one at once.

    For an event loop, whose callbacks would each report a KeyboardInterrupt.
    """
    handler = signal.getsignal(signal.SIGINT)
    if not callable(handler) or threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[tuple[int, FrameType | None]] = []

    def keep(number: int, frame: FrameType | None) -> None:
        waiting.append((number, frame))
        if len(waiting) > 1:
            handler(number, frame)

    signal.signal(signal.SIGINT, keep)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if waiting:
            handler(*waiting[0])


def raise_if_stopped() -> None:
    """Call this only at safe points. Raises: Stopped if a signal arrived within the body of a StopRequest."""
    for request in _active.get():
        if request.requested:
            raise Stopped(request.signals[0].name)


def raise_if_being_stopped() -> None:
    """For a process of ours that ended: a scheduler signals all processes of a job, and this one may get its signal last.

    Raises: Stopped if a signal arrives within SECONDS_TO_SPREAD.
    """
    end = time.monotonic() + SECONDS_TO_SPREAD
    while time.monotonic() < end:
        raise_if_stopped()
        time.sleep(SECONDS_BETWEEN_CHECKS / 10)
    raise_if_stopped()
