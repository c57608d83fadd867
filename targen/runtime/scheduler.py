"""SLURM's own commands, called as few times as can be; what they say is passed on."""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from targen.runtime.errors import UserError

SECONDS = 60  # that a command may take
GONE = re.compile(r"invalid job id", re.IGNORECASE)
MISSING = (
    "slurm: sbatch is not on the PATH, expected a login node of a SLURM cluster. Load SLURM's module, or see what would be "
    "submitted with --dry-run."
)
LONGEST_ARRAY = 1001  # SLURM's default of MaxArraySize


@dataclass(frozen=True)
class Queued:
    """One job, or one element of an array, that SLURM has not ended."""

    job: str  # of the array
    index: int | None
    state: str  # PENDING, RUNNING ...
    reason: str


def available() -> bool:
    return shutil.which("sbatch") is not None


def submitted(script: str, after: Sequence[tuple[str, str]], hold: bool) -> str:
    """The id of a new job. Raises: UserError with what sbatch said."""
    command = ["sbatch", "--parsable"]
    if after:
        command.append("--dependency=" + ",".join(f"{kind}:{job}" for kind, job in after))
    if hold:
        command.append("--hold")
    try:
        done = _run([*command, script])
    except FileNotFoundError:
        raise UserError(MISSING) from None
    if done.returncode:
        raise UserError(f"slurm: sbatch refused {script} ({_said(done)}). Nothing is submitted. Correct cluster.*.")
    return done.stdout.strip().partition(";")[0]


def release(jobs: Sequence[str]) -> None:
    """Raises: UserError when held jobs could not be let go."""
    done = _run(["scontrol", "release", ",".join(jobs)])
    if done.returncode:
        raise UserError(
            f"slurm: the jobs {', '.join(jobs)} are submitted and held, and could not be released ({_said(done)}). Run: "
            f"scontrol release {','.join(jobs)}"
        )


def cancel(jobs: Sequence[str]) -> None:
    if jobs:
        _run(["scancel", *jobs])


def requeue(job: str) -> str | None:
    """Puts a running job back into the queue; what was said where it could not be."""
    try:
        done = _run(["scontrol", "requeue", job])
    except FileNotFoundError:
        return "scontrol is not on the PATH"
    return _said(done) if done.returncode else None


def queue() -> list[Queued] | None:
    """All jobs of this user that SLURM has not ended; None where SLURM cannot be asked."""
    user = ["--user", str(os.getuid())]
    try:
        done = _run(["squeue", "--noheader", "--array", *user, "--states=all", "--format=%F|%K|%T|%r"])
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    if done.returncode:
        return None
    found = []
    for line in done.stdout.splitlines():
        job, index, state, reason = line.strip().split("|", 3)
        found.append(Queued(job, int(index) if index.isdecimal() else None, state, reason))
    return found


def is_over(job: str, restart: int) -> bool:
    """Whether the given start of a job is known to have ended; False where SLURM cannot be asked."""
    try:
        done = _run(["scontrol", "show", "job", "--oneliner", job])
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return False
    if done.returncode:
        return GONE.search(done.stderr) is not None  # ended so long ago that SLURM has forgotten it
    state, restarts = re.search(r"JobState=(\w+)", done.stdout), re.search(r"Restarts=(\d+)", done.stdout)
    if state is None or restarts is None:
        return False
    return state[1] not in ("RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING") or int(restarts[1]) > restart


def longest_array() -> int:
    """MaxArraySize of the cluster. Raises: UserError where SLURM is not there or does not answer."""
    return int(found[1]) if (found := re.search(r"MaxArraySize\s*=\s*(\d+)", _config())) else LONGEST_ARRAY


def hosts() -> list[str]:
    """The hosts of the cluster's nodes."""
    return sorted(set(re.findall(r"NodeHostName=(\S+)", _run(["scontrol", "show", "node", "--oneliner"]).stdout)))


def _config() -> str:
    try:
        done = _run(["scontrol", "show", "config"])
    except FileNotFoundError:
        raise UserError(MISSING) from None
    except subprocess.TimeoutExpired:
        raise UserError(f"slurm: scontrol did not answer in {SECONDS} s. Try again when SLURM is up.") from None
    if done.returncode:
        raise UserError(f"slurm: scontrol does not answer ({_said(done)}). Try again when SLURM is up.")
    return done.stdout


def _run(command: list[str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)


def _said(done: "subprocess.CompletedProcess[str]") -> str:
    """SLURM's words on one line."""
    return " ".join((done.stderr or done.stdout).split())[:300] or f"exit code {done.returncode}"
