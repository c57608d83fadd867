"""What a run shows of the prints and warnings of lm-evaluation-harness."""

import contextlib
import io
import logging
import sys
from collections import Counter
from collections.abc import Iterator

from targen.runtime.errors import one_line

log = logging.getLogger(__name__)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hides the harness's progress bars and prints unless stderr is a terminal; warnings and errors are logged as usual."""
    if sys.stderr.isatty():
        yield
        return
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


class _KindsOfWarnings(logging.Handler):
    """Logs the first warning of each line of the harness's code."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.counts: Counter[tuple[str, int]] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        kind = (record.pathname, record.lineno)
        self.counts[kind] += 1
        if self.counts[kind] == 1:
            log.log(record.levelno, "openllm: the harness says: %s", one_line(record.getMessage()))


@contextlib.contextmanager
def warnings_once(what: str) -> Iterator[None]:
    """The harness's warnings about `what`, each kind once and then counted: many come once per document."""
    logger, handler = logging.getLogger("lm_eval"), _KindsOfWarnings()
    propagated, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagated
        if more := handler.counts.total() - len(handler.counts):
            log.warning("openllm: %s: %d more of the harness's warnings were like these", what, more)
