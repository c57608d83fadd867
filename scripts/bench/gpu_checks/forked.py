"""Checks in forks of a process that has imported torch and transformers, which takes most of the time of tiny shapes.

On a CPU alone: what a process has touched of CUDA does not survive a fork.
"""

import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory


class Forked:
    """A fork that does some work, with the part of Popen's interface that gpu.py uses."""

    def __init__(self, work: Callable[[], int]) -> None:
        self._folder = TemporaryDirectory()
        self._files = [Path(self._folder.name) / name for name in ("out", "err")]
        self.args = "fork"
        self.returncode: int | None = None
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid:
            return
        os.setsid()
        for stream, path in enumerate(self._files, 1):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
        code = 1
        try:
            code = work()
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """What it wrote, once it has ended. Raises: subprocess.TimeoutExpired."""
        ends = time.monotonic() + (float("inf") if timeout is None else timeout)
        while self.returncode is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            if ended:
                self.returncode = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > ends:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            else:
                time.sleep(0.05)
        out, err = (path.read_text(encoding="utf-8") if path.is_file() else "" for path in self._files)
        self._folder.cleanup()
        return out, err
