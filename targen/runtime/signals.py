"""A request to stop, as a scheduler makes it by a signal: noted at once, followed where nothing is half done."""

import signal

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
SECONDS_BETWEEN_LOOKS = 0.5  # of whoever waits, for a request
_told: list[str] = []


class ToldToStop(Exception):
    """The process is to end; what it has done is on disk."""


def listen() -> None:
    """From now on a signal is noted. Raising in the handler would not do: an event loop takes it for a fault of its own."""
    for number in STOP_SIGNALS:
        signal.signal(number, lambda number, _: _told.append(signal.Signals(number).name))


def stop_if_told() -> None:
    """Raises: ToldToStop when a signal came since `listen`."""
    if _told:
        raise ToldToStop(_told[0])
