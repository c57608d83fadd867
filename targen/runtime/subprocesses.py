"""Subprocesses: the phases of a run, which hear of a request to stop from their parent."""

import os
import subprocess

from targen.runtime.cli import CHILD, REQUEUE
from targen.runtime.paths import PROJECT
from targen.runtime.signals import StopRequest

# By default glibc returns every large tensor to the system and takes it back at the next step: a third of the time on a CPU.
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "1073741824", "MALLOC_TRIM_THRESHOLD_": "2147483648"}


def run_subprocess(command: list[str], environment: dict[str, str], stop: StopRequest) -> int:
    """The exit code; REQUEUE at once if a stop was requested before. Signals of `stop` are passed on to the subprocess."""
    if stop.requested:
        return REQUEUE
    stop.subprocess = process = subprocess.Popen(command, env=environment)
    try:
        if stop.requested:  # a signal that came while it was started
            process.terminate()
        return process.wait()
    except KeyboardInterrupt:
        process.wait()  # the terminal has interrupted it too
        raise
    finally:
        stop.subprocess = None


def phase_environment() -> dict[str, str]:
    """The environment variables of a phase that is started as a subprocess."""
    python_path = [folder for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder]
    return MALLOC | os.environ | {CHILD: "1", "PYTHONPATH": os.pathsep.join([str(PROJECT), *python_path])}
