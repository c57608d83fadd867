"""Who holds a lock, and whether that process is still at work."""

import json
import os
import platform
import secrets
import time
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

from targen.runtime import scheduler
from targen.runtime.errors import UserError
from targen.runtime.heartbeat import SECONDS_BETWEEN_BEATS
from targen.runtime.jsonl import Json

SECONDS_OF_SILENCE = 60.0
SECONDS_TO_SIGN = 10.0  # a lock that has no name after this time was left by a process that died, or by a full disk
# Pids and start times can be compared within one PID namespace of one boot. The host is asked for, too, because copies of
# a virtual machine agree in the rest. None of these may be unknown.
NAMESPACE = ("boot", "pid_namespace", "host")


class HolderState(Enum):
    """What is known of the holder of a lock."""

    AT_WORK = auto()
    GONE = auto()
    UNKNOWN = auto()  # it may be at work in another container or on another machine; its next heartbeat decides


@dataclass
class _Sight:
    """Observations of one lock. Times are in seconds of our own clock: clocks of machines differ and are set."""

    holder: Json
    beat: int  # modification time of the file: when it last changed does not matter, only that it does
    last_look: float
    is_beating: bool = False
    silence: float = 0.0
    job_is_over: bool | None = None  # None: SLURM was not asked yet


class LockWatch:
    """Watches locks of other processes for as long as this object lives."""

    def __init__(self) -> None:
        self._sights: dict[Path, _Sight] = {}

    def state(self, path: Path) -> HolderState:
        """Whether the holder of a lock is at work, as far as known; GONE also if there is no such lock.

        Raises: UserError if the lock cannot be read.
        """
        lock = _read_lock(path)
        if lock is None:
            return HolderState.GONE
        sight = self._update(path, *lock)
        if (local_state := _local_state(sight.holder)) is not HolderState.UNKNOWN:
            return local_state
        if sight.job_is_over is None:
            sight.job_is_over = _job_is_over(sight.holder)
        if sight.job_is_over:
            return HolderState.GONE
        if sight.holder and "beats" not in sight.holder:
            return HolderState.AT_WORK  # of a version without heartbeats: nothing more will be known
        if sight.silence >= longest_silence(sight.holder):
            return HolderState.GONE
        return HolderState.AT_WORK if sight.is_beating else HolderState.UNKNOWN

    def _update(self, path: Path, beat: int, holder: Json) -> _Sight:
        now, sight = time.monotonic(), self._sights.get(path)
        if sight is None or sight.holder != holder:
            sight = self._sights[path] = _Sight(holder, beat, now)
        # Bounded, because a time in which this process was suspended itself says nothing about the other one.
        sight.silence += min(now - sight.last_look, SECONDS_BETWEEN_BEATS)
        sight.last_look = now
        if sight.beat != beat:
            sight.beat, sight.is_beating, sight.silence = beat, True, 0.0
        return sight


def our_name() -> Json:
    """What this process writes into a lock; different for each lock."""
    pid = os.getpid()
    name: Json = {"host": platform.node(), "pid": pid, "started": _process_status(pid)[1], **_our_namespace()}
    if job := os.environ.get("SLURM_JOB_ID"):
        name |= {"slurm_job": job, "slurm_restart": scheduler.our_restart()}
    return name | {"beats": SECONDS_BETWEEN_BEATS, "id": secrets.token_hex(8)}


def longest_silence(holder: Json) -> float:
    """Seconds without a heartbeat after which a holder that cannot be seen from here is gone."""
    return SECONDS_OF_SILENCE if holder else SECONDS_TO_SIGN


def holder_of(path: Path) -> Json:
    """The name in a lock; empty if it has none or is gone. Raises: UserError if it cannot be read."""
    lock = _read_lock(path)
    return lock[1] if lock is not None else {}


def _read_lock(path: Path) -> tuple[int, Json] | None:
    """Modification time and name; None if there is no such lock."""
    try:
        with path.open("rb") as file:  # NFS asks the server when a file is opened; a stat may be answered from a cache
            beat, content = os.fstat(file.fileno()).st_mtime_ns, file.read()
    except FileNotFoundError:
        return None
    except OSError as err:
        raise UserError(
            f"run.dir: {path} cannot be read ({err.strerror}). A process may hold it: wait for it, or choose a different run.dir."
        ) from None
    try:
        holder = json.loads(content)
    except ValueError:
        holder = {}
    return beat, holder if isinstance(holder, dict) else {}


def _our_namespace() -> Json:
    """The boot and the PID namespace of this process; None where the system does not show them."""
    namespace: Json = dict.fromkeys(("boot", "pid_namespace"))
    try:
        if os.readlink("/proc/self") == str(os.getpid()):  # else /proc shows another namespace
            namespace["pid_namespace"] = os.readlink("/proc/self/ns/pid")
        namespace["boot"] = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        pass
    return namespace


def _local_state(holder: Json) -> HolderState:
    """GONE also if the pid is in use again or the process is a zombie; UNKNOWN for a process that cannot be seen from here."""
    own_name = {"host": platform.node(), **_our_namespace()}
    comparable = NAMESPACE if "beats" in holder else ("host",)  # all that earlier versions wrote
    if any(holder.get(key) is None or holder[key] != own_name[key] for key in comparable):
        return HolderState.UNKNOWN
    pid = holder.get("pid")
    if not isinstance(pid, int) or pid <= 0:
        return HolderState.UNKNOWN
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return HolderState.GONE
    except OSError:
        pass  # it is another user's
    status, started = _process_status(pid)
    if started is None:
        return HolderState.UNKNOWN  # /proc may hide it
    return HolderState.AT_WORK if started == holder.get("started") and status not in ("Z", "X") else HolderState.GONE


def _process_status(pid: int) -> tuple[str, float | None]:
    """Status and start time of a process, in ticks since boot; None where /proc does not show it."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return fields[0], float(fields[19])
    except (OSError, IndexError, ValueError):
        return "", None


def _job_is_over(holder: Json) -> bool:
    """Whether the holder's SLURM job is known to have ended, or was requeued and is our own."""
    job, restart = holder.get("slurm_job"), holder.get("slurm_restart")
    if not (isinstance(job, str) and job.isdecimal() and isinstance(restart, int)):
        return False
    if job == os.environ.get("SLURM_JOB_ID"):
        return restart < scheduler.our_restart() and holder.get("host") != platform.node()
    return scheduler.is_over(job, restart)
