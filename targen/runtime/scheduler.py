"""Calls SLURM's commands, as rarely as possible, and passes on their error messages."""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from targen.runtime.errors import UserError, one_line

TIMEOUT = 60  # seconds that a command may take
UNKNOWN_JOB = re.compile(r"invalid job id", re.IGNORECASE)
MISSING = (
    "slurm: sbatch is not on the PATH, expected a login node of a SLURM cluster. Load SLURM's module, or use --dry-run "
    "to see what would be submitted."
)
LONGEST_ARRAY = 1001  # SLURM's default of MaxArraySize


@dataclass(frozen=True)
class QueuedJob:
    """One job, or one task of an array, from squeue. `id` is that of the whole array; a single job has no index."""

    id: str
    index: int | None
    state: str  # PENDING, RUNNING ...
    reason: str


def available() -> bool:
    """Whether SLURM's commands are on the PATH."""
    return shutil.which("sbatch") is not None


def submit(script: str, after: Sequence[tuple[str, str]], hold: bool) -> str:
    """Submits a job and returns its id. `after`: dependencies, as (type such as afterok, job id).

    Raises: UserError with the message of sbatch.
    """
    command = ["sbatch", "--parsable"]
    if after:
        command.append("--dependency=" + ",".join(f"{dependency}:{job}" for dependency, job in after))
    if hold:
        command.append("--hold")
    try:
        result = _run([*command, script])
    except FileNotFoundError:
        raise UserError(MISSING) from None
    if result.returncode:
        raise UserError(
            f"slurm: sbatch refused {script} ({_message(result)}). Nothing was submitted. Correct cluster.*."
        )
    return result.stdout.strip().partition(";")[0]


def release(jobs: Sequence[str]) -> None:
    """Lets held jobs run. Raises: UserError if SLURM refuses."""
    result = _run(["scontrol", "release", ",".join(jobs)])
    if result.returncode:
        raise UserError(
            f"slurm: the jobs {', '.join(jobs)} were submitted on hold and could not be released ({_message(result)}). Run: "
            f"scontrol release {','.join(jobs)}"
        )


def cancel(jobs: Sequence[str]) -> None:
    """Cancels the jobs."""
    if jobs:
        _run(["scancel", *jobs])


def requeue(job: str) -> str | None:
    """Puts a running job back into the queue. None, or SLURM's message if it refuses."""
    try:
        result = _run(["scontrol", "requeue", job])
    except FileNotFoundError:
        return "scontrol is not on the PATH"
    return _message(result) if result.returncode else None


def queue() -> list[QueuedJob] | None:
    """The jobs of this user that squeue lists; None if SLURM cannot be asked."""
    user = ["--user", str(os.getuid())]
    try:
        result = _run(["squeue", "--noheader", "--array", *user, "--states=all", "--format=%F|%K|%T|%r"])
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    if result.returncode:
        return None
    jobs = []
    for line in result.stdout.splitlines():
        id, index, state, reason = line.strip().split("|", 3)
        jobs.append(QueuedJob(id, int(index) if index.isdecimal() else None, state, reason))
    return jobs


def is_over(job: str, restart: int) -> bool:
    """Whether this start of a job is known to have ended; False if SLURM cannot be asked."""
    try:
        result = _run(["scontrol", "show", "job", "--oneliner", job])
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return False
    if result.returncode:
        return UNKNOWN_JOB.search(result.stderr) is not None  # ended so long ago that SLURM has forgotten it
    state, restarts = re.search(r"JobState=(\w+)", result.stdout), re.search(r"Restarts=(\d+)", result.stdout)
    if state is None or restarts is None:
        return False
    return state[1] not in ("RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING") or int(restarts[1]) > restart


def our_restart() -> int:
    """How often SLURM has started the job of this process again."""
    return int(os.environ.get("SLURM_RESTART_COUNT") or 0)


def longest_array() -> int:
    """MaxArraySize of the cluster. Raises: UserError if SLURM is missing or does not answer."""
    match = re.search(r"MaxArraySize\s*=\s*(\d+)", _config())
    return int(match[1]) if match else LONGEST_ARRAY


def hosts() -> list[str]:
    """The hosts of the cluster's nodes."""
    return sorted(set(re.findall(r"NodeHostName=(\S+)", _run(["scontrol", "show", "node", "--oneliner"]).stdout)))


def _config() -> str:
    try:
        result = _run(["scontrol", "show", "config"])
    except FileNotFoundError:
        raise UserError(MISSING) from None
    except subprocess.TimeoutExpired:
        raise UserError(f"slurm: scontrol did not answer in {TIMEOUT} s. Try again when SLURM is up.") from None
    if result.returncode:
        raise UserError(f"slurm: scontrol does not answer ({_message(result)}). Try again when SLURM is up.")
    return result.stdout


def _run(command: list[str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)


def _message(result: "subprocess.CompletedProcess[str]") -> str:
    """SLURM's message on one line."""
    return one_line(result.stderr or result.stdout, 300) or f"exit code {result.returncode}"
