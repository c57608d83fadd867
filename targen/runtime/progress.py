"""Progress display: a bar in a terminal or a notebook, plain lines in a log."""

import logging
import sys
import time
from contextlib import ExitStack
from types import TracebackType

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

log = logging.getLogger(__name__)
SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Counts the finished units of one phase, and shows count and rate."""

    def __init__(self, phase: str, unit: str, total: int | None = None) -> None:
        self._phase, self._unit, self._total = phase, unit, total
        self._bar = tqdm(total=total, desc=phase, unit=f" {unit}") if _shows_bars() else None
        self._lines = ExitStack()  # prints log lines above the bar
        self._count, self._start = 0, time.monotonic()
        self._logged_at = self._start

    def __enter__(self) -> "Progress":
        if self._bar is not None:
            self._lines.enter_context(logging_redirect_tqdm())
        return self

    def advance(self, now_at: str) -> None:
        """Counts one more finished unit; `now_at` names it."""
        self._count += 1
        if self._bar is not None:
            self._bar.set_postfix_str(now_at, refresh=False)
            self._bar.update()
        elif time.monotonic() - self._logged_at > SECONDS_BETWEEN_LINES:
            self._logged_at = time.monotonic()
            self._log_count()

    def _log_count(self) -> None:
        seconds = time.monotonic() - self._start
        of = f" of {self._total}" if self._total else ""
        rate = self._count / seconds if seconds > 0 else 0.0
        log.info("%s: %d%s %s in %.0f s (%.1f/s)", self._phase, self._count, of, self._unit, seconds, rate)

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lines.close()
        if self._bar is not None:
            self._bar.close()
        elif self._total != 0:
            self._log_count()


def _shows_bars() -> bool:
    """Whether standard error is a terminal, or the output of a notebook's cell."""
    return sys.stderr.isatty() or type(sys.stderr).__module__.startswith("ipykernel.")
