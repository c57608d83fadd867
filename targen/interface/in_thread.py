"""Work in a thread of its own: a notebook has an event loop running, and a second one cannot run in its thread."""

import signal
from collections.abc import Callable
from contextvars import copy_context
from threading import Event, Thread

from targen.runtime.errors import UserError, disk_error
from targen.runtime.signals import Stopped, StopRequest


def run_in_thread(work: Callable[[], None]) -> None:
    """Runs `work` and waits for it. An interrupt stops it at its next safe point; a second one stops the waiting.

    Raises: what `work` raised; UserError also for a disk that failed; KeyboardInterrupt.
    """
    stop, raised = StopRequest(), list[BaseException]()
    ended = Event()  # not Thread.join, which considers a thread ended once it was interrupted

    def body() -> None:
        try:
            with stop:
                work()
        except BaseException as err:
            raised.append(err)
        finally:
            ended.set()

    Thread(target=copy_context().run, args=(body,), name="targen", daemon=True).start()
    try:
        ended.wait()
    except KeyboardInterrupt:
        stop.note(signal.SIGINT)
        ended.wait()
        raise KeyboardInterrupt("Progress is saved; call again to resume.") from None
    for err in raised:
        if isinstance(err, Stopped):
            raise KeyboardInterrupt("Progress is saved; call again to resume.") from None
        error = disk_error(err) if isinstance(err, OSError) else None
        if error is not None or isinstance(err, UserError):
            raise UserError(str(error or err)) from None
        raise err
