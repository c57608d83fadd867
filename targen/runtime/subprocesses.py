"""Runs the phases of a run as subprocesses, and passes stop requests on to them."""

import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path

from targen.runtime.cli import CHILD, REQUEUE
from targen.runtime.paths import CHECKOUT
from targen.runtime.signals import StopRequest

# By default glibc returns large tensors to the system and allocates them anew at each step: a third of the time on a CPU.
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "1073741824", "MALLOC_TRIM_THRESHOLD_": "2147483648"}
LAST_BYTES = 20_000  # of a log


def run_subprocess(
    command: list[str], environment: Mapping[str, str], stop: StopRequest, log: Path | None = None
) -> int:
    """The exit code; REQUEUE without a start if a stop was already requested. `stop` passes its signals on to the subprocess.

    Its output is appended to `log`, or goes to this process's own streams.
    """
    if stop.requested:
        return REQUEUE
    with log.open("ab") if log is not None else nullcontext() as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
        stop.subprocesses.append(process)
        try:
            if stop.requested:  # a signal arrived during the start
                process.terminate()
            return process.wait()
        except KeyboardInterrupt:
            process.wait()  # the terminal interrupts it too
            raise
        finally:
            stop.subprocesses.remove(process)


def own_devices(slot: int, gpus: int) -> dict[str, str]:
    """The variables by which the process with this number, of several on a node, sees its own GPUs and no others, and has a
    folder of its own for what vLLM compiles: engines that compile the same model would write the same files."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    cache = Path(os.environ.get("VLLM_CACHE_ROOT") or f"{home}/vllm").expanduser()  # vLLM's own default
    variables = {"VLLM_CACHE_ROOT": str(cache / str(slot))}
    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    visible = visible or [str(number) for number in range((slot + 1) * gpus)]
    devices = visible[slot * gpus : (slot + 1) * gpus]
    return variables | ({"CUDA_VISIBLE_DEVICES": ",".join(devices)} if gpus else {})


def last_error(log: Path) -> str | None:
    """The last line of a log that reports an error, else its last line; None if there is no log."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - LAST_BYTES))
            stripped = [line.strip() for line in file.read().decode("utf-8", errors="replace").splitlines()]
    except OSError:
        return None
    lines = [line for line in stripped if line and not line.startswith("slurm: ")]
    errors = [line for line in lines if line.startswith(("error:", "slurmstepd")) or "Error: " in line[:60]]
    return next(reversed(errors or lines), None)


def phase_environment() -> dict[str, str]:
    """The environment variables of a phase that is started as a subprocess."""
    return MALLOC | os.environ | python_path() | {CHILD: "1"}


def python_command(verb: str, *arguments: str, python: str = sys.executable) -> list[str]:
    """The command `targen VERB ...` for a process that is started with `python_path()`."""
    return [python, "-m", "targen", verb, *arguments]


def python_path() -> dict[str, str]:
    """Variables by which Python finds this program, and no file of the current folder in its place: train.py, eval.py, ..."""
    user_folders = [folder for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder]
    checkout = [] if CHECKOUT is None else [str(CHECKOUT)]  # an installed program is found without
    return {"PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join([*checkout, *user_folders])}
