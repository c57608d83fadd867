"""The signs of life of a process that holds a lock, and how it notices that another one took the lock over meanwhile."""

import os
import threading
import time
from pathlib import Path
from types import TracebackType

from targen.runtime.errors import UserError

SECONDS_BETWEEN_BEATS = 5.0


class Heartbeat:
    """While the body runs, a thread gives the lock a new modification time every SECONDS_BETWEEN_BEATS.

    It first reads the lock. If that no longer has our `content`, the lock is lost: another process took it over while this
    one was suspended, or somebody removed it.
    """

    def __init__(self, path: Path, content: bytes) -> None:
        self._path, self._content = path, content
        self._lost, self._ended = False, threading.Event()
        self._last = 0.0  # time of the last beat

    def __enter__(self) -> None:
        _running.append(self)
        threading.Thread(target=self._beat_until_ended, name=f"heartbeat {self._path.name}", daemon=True).start()

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _running.remove(self)
        self._ended.set()

    def check(self) -> None:
        """Raises: UserError if the lock is lost. Reads it if a beat is overdue, as it is for a process that was suspended."""
        # The wall clock: the others stand still while the machine sleeps. A clock that is set costs one more reading.
        if abs(time.time() - self._last) > 2 * SECONDS_BETWEEN_BEATS:
            self._beat()
        if self._lost:
            raise UserError(
                f"run.dir: {self._path.parent} is no longer held by this process, which was suspended or lost its disk for a "
                f"while: another one took {self._path.name} over, or it was removed. This one ends and writes nothing more; "
                "what it saved is kept. Rerun the command if no other process works on the run."
            )

    def _beat_until_ended(self) -> None:
        while not self._ended.wait(SECONDS_BETWEEN_BEATS):
            self._beat()

    def _beat(self) -> None:
        try:
            if self._path.read_bytes() == self._content:
                os.utime(self._path)
                self._last = time.time()
            else:
                self._lost = True
        except FileNotFoundError:
            self._lost = True
        except OSError:  # the disk is away or read-only: nothing can be written, and the next beat tries again
            pass


_running: list[Heartbeat] = []
os.register_at_fork(after_in_child=_running.clear)  # the lock is that of the parent, whose thread a fork does not have


def raise_if_lost() -> None:
    """Call this before anything is written or paid for. Raises: UserError if a lock of this process was taken over."""
    for heartbeat in _running:
        heartbeat.check()
