"""Runs the phases of a run as subprocesses, and passes stop requests on to them."""

import os
import subprocess
import sys

from targen.runtime.cli import CHILD, REQUEUE
from targen.runtime.paths import CHECKOUT
from targen.runtime.signals import StopRequest

# By default glibc returns large tensors to the system and allocates them anew at each step: a third of the time on a CPU.
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "1073741824", "MALLOC_TRIM_THRESHOLD_": "2147483648"}


def run_subprocess(command: list[str], environment: dict[str, str], stop: StopRequest) -> int:
    """The exit code; REQUEUE without a start if a stop was already requested. `stop` passes its signals on to the subprocess."""
    if stop.requested:
        return REQUEUE
    stop.subprocess = process = subprocess.Popen(command, env=environment)
    try:
        if stop.requested:  # a signal arrived during the start
            process.terminate()
        return process.wait()
    except KeyboardInterrupt:
        process.wait()  # the terminal interrupts it too
        raise
    finally:
        stop.subprocess = None


def phase_environment() -> dict[str, str]:
    """The environment variables of a phase that is started as a subprocess."""
    return MALLOC | os.environ | python_path() | {CHILD: "1"}


def python_command(verb: str, *arguments: str, python: str = sys.executable) -> list[str]:
    """The command `targen VERB ...` for a process that is started with `python_path()`."""
    return [python, "-m", "targen", verb, *arguments]


def python_path() -> dict[str, str]:
    """Variables by which Python finds this program, and no file of the current folder in its place: train.py, eval.py, ..."""
    given = [folder for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder]
    ours = [] if CHECKOUT is None else [str(CHECKOUT)]  # an installed program is found without
    return {"PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join([*ours, *given])}
