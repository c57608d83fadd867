"""A lock that lets one process at a time work on a run. It does without flock, which many cluster file systems lack."""

import json
import logging
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from targen.runtime import scheduler
from targen.runtime.errors import UserError
from targen.runtime.jsonl import Json
from targen.runtime.signals import raise_if_stopped

log = logging.getLogger(__name__)
WHOLE = "run"
SECONDS_TO_SIGN = 10.0  # after this time a lock without a holder's name was left by a process that died
SECONDS_BETWEEN_CHECKS = 0.2
SECONDS_BETWEEN_LINES = 30.0
LONGEST_WAIT = 3600.0  # seconds to wait for a lock
# An earlier start of this SLURM job may still be ending, if SLURM gave up its node while the process was alive.
SECONDS_TO_END = 180.0


@contextmanager
def locked(folder: Path, name: str = WHOLE, wait: bool = False) -> Iterator[None]:
    """Holds `<folder>/<name>.lock` while the body runs: the whole run, a shard (`shard-...`) or a cell (`cell-...`) of it.

    The file is created exclusively, which is atomic even on NFS. The lock of a dead process of this machine is taken over,
    and so is that of a SLURM job that has ended. Raises: UserError if another process holds the lock, or may hold it on
    another machine; with `wait`, only after LONGEST_WAIT seconds.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, ours = folder / f"{name}.lock", _ours()
    _take_or_wait(path, ours, LONGEST_WAIT if wait else SECONDS_TO_END if ours.get("slurm_restart") else 0.0)
    try:
        for conflicting in _conflicting_locks(folder, name):  # checked after taking: of two at once, one sees the other
            _refuse_if_alive(conflicting)
        yield
    finally:
        if _holder(path) == ours:
            path.unlink(missing_ok=True)


def lock_of(cell: str | None) -> str:
    """The name of the lock for one cell of the grid, or for the whole run."""
    return WHOLE if cell is None else f"cell-{cell}"


def refuse_if_locked(folder: Path) -> None:
    """Checks the lock of the whole run. Raises: UserError if a process holds it."""
    _refuse_if_alive(folder / f"{WHOLE}.lock")


def _take_or_wait(path: Path, ours: Json, longest: float) -> None:
    start = last_line = time.monotonic()
    while (holder := _take(path, ours)) is not None:
        now = time.monotonic()
        if now - start >= longest:
            raise UserError(_in_use(path, holder))
        if now - last_line > SECONDS_BETWEEN_LINES:
            last_line = now
            log.info("run.dir: waiting: %s", _in_use(path, holder).removeprefix("run.dir: "))
        raise_if_stopped()
        time.sleep(SECONDS_BETWEEN_CHECKS)


def _take(path: Path, ours: Json) -> Json | None:
    """Tries to create the lock: None if it is ours now, else its holder."""
    if _create(path, ours):
        return None
    if not _is_dead(path):
        return _holder(path)
    guard = path.with_suffix(".takeover")  # of all that see a dead holder, only one may remove its lock
    if not _create(guard, ours):
        if _is_dead(guard):
            guard.unlink(missing_ok=True)
        return _holder(path)
    try:
        if _is_dead(path):
            path.unlink(missing_ok=True)
        return None if _create(path, ours) else _holder(path)
    finally:
        guard.unlink(missing_ok=True)


def _conflicting_locks(folder: Path, name: str) -> list[Path]:
    """Locks that must not be held beside this one: a run excludes its parts, and shards exclude shards of other counts."""
    shards = sorted(folder.glob("shard-*.lock"))
    if name == WHOLE:
        return [*shards, *sorted(folder.glob("cell-*.lock"))]
    if name.startswith("cell-"):
        return [folder / f"{WHOLE}.lock"]
    if not name.startswith("shard-"):
        return []
    count = name.rpartition("-")[2]
    return [folder / f"{WHOLE}.lock", *(path for path in shards if path.stem.rpartition("-")[2] != count)]


def _refuse_if_alive(path: Path) -> None:
    holder = _holder(path)
    if path.exists() and not _is_dead(path):
        raise UserError(_in_use(path, holder))


def _in_use(path: Path, holder: Json) -> str:
    who = (
        f"process {holder['pid']} on {holder.get('host')}"
        if "pid" in holder
        else "a process that has not written its name yet"
    )
    return (
        f"run.dir: {path.parent} is in use by {who} ({path.name}). Wait for it, or choose a different run.dir. If that "
        f"process is gone, remove {path}."
    )


def _create(path: Path, ours: Json) -> bool:
    """Creates the lock with our name in it; False if it already exists."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "w") as file:
        json.dump(ours, file)
    return True


def _ours() -> Json:
    name: Json = {"host": platform.node(), "pid": os.getpid(), "started": _started(os.getpid())}
    if job := os.environ.get("SLURM_JOB_ID"):
        name |= {"slurm_job": job, "slurm_restart": int(os.environ.get("SLURM_RESTART_COUNT") or 0)}
    return name


def _is_earlier_life(holder: Json) -> bool:
    """Whether the holder is an earlier start of our own SLURM job, which ended when the job was requeued, on any node."""
    ours = _ours()
    same = ours.get("slurm_job") is not None and holder.get("slurm_job") == ours["slurm_job"]
    return same and int(holder.get("slurm_restart", 0)) < ours["slurm_restart"]


def _holder(path: Path) -> Json:
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return holder if isinstance(holder, dict) else {}


def _is_dead(path: Path) -> bool:
    """Whether the holder is known to be gone.

    That is: a process of this machine that has ended, even if its pid is in use again; an earlier start of our own SLURM
    job on another machine; a process of a SLURM job that has ended.
    """
    holder = _holder(path)
    if not holder:
        try:
            return time.time() - path.stat().st_mtime > SECONDS_TO_SIGN
        except OSError:
            return True  # the lock is gone itself
    pid = holder.get("pid")
    if holder.get("host") == platform.node():
        return isinstance(pid, int) and _started(pid) != holder.get("started")
    if _is_earlier_life(holder):
        return True
    job, restart = holder.get("slurm_job"), holder.get("slurm_restart")
    if not (isinstance(job, str) and job.isdecimal() and isinstance(restart, int)):
        return False
    return job != _ours().get("slurm_job") and scheduler.is_over(job, restart)


def _started(pid: int) -> float | None:
    """Start time of a process of this machine; None if there is none. On Linux in ticks since boot: clock changes do not move it."""
    try:
        return float(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        pass
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return None
