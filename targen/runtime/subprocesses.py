"""Processes of this one: run one after the other, told what a scheduler tells their parent."""

import os
import signal
import subprocess

from targen.runtime.cli import CHILD, REQUEUE
from targen.runtime.paths import PROJECT
from targen.runtime.signals import STOP_SIGNALS

# glibc returns every large tensor to the system and takes it back at the next step, a third of the time on a CPU.
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "1073741824", "MALLOC_TRIM_THRESHOLD_": "2147483648"}


class Children:
    """Runs one process after the other, and passes a scheduler's signals on to the one that runs."""

    def __init__(self) -> None:
        self.told: set[int] = set()  # signals
        self._running: subprocess.Popen[bytes] | None = None
        for number in STOP_SIGNALS:
            signal.signal(number, self._pass_on)

    @property
    def told_to_stop(self) -> bool:
        return bool(self.told)

    def run(self, command: list[str], environment: dict[str, str]) -> int:
        """The exit code; REQUEUE at once when a signal came before."""
        if self.told_to_stop:
            return REQUEUE
        self._running = subprocess.Popen(command, env=environment)
        if self.told_to_stop:  # a signal that came while it was started
            self._running.terminate()
        try:
            return self._running.wait()
        except KeyboardInterrupt:
            self._running.wait()  # the terminal has told it too
            raise

    def _pass_on(self, number: int, *_: object) -> None:
        self.told.add(number)
        if self._running is not None:
            self._running.send_signal(number)


def environment() -> dict[str, str]:
    """The environment of a phase."""
    path = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    return MALLOC | os.environ | {CHILD: "1", "PYTHONPATH": os.pathsep.join([str(PROJECT), *path])}
