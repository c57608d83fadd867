"""One process at a time works on a run: a lock that needs no flock, which many cluster file systems lack."""

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
SECONDS_TO_SIGN = 10.0  # a lock without a name is older only if its maker died in between
SECONDS_BETWEEN_CHECKS = 0.2
SECONDS_BETWEEN_LINES = 30.0
LONGEST_WAIT = 3600.0  # seconds for a lock that is waited for
SECONDS_TO_END = (
    180.0  # that an earlier start of our own SLURM job may need, where its node was given up while it lived
)


@contextmanager
def locked(folder: Path, name: str = WHOLE, wait: bool = False) -> Iterator[None]:
    """Holds `<folder>/<name>.lock` while the body runs: the whole run, a shard (`shard-...`) or a cell (`cell-...`) of it.

    The file is created exclusively, which is atomic also on NFS. What a killed process of this machine left is taken
    over, and so is what a SLURM job left that has ended. Raises: UserError when another process holds it, or one of another
    machine may; with `wait`, only after long.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, ours = folder / f"{name}.lock", _ours()
    _take_or_wait(path, ours, LONGEST_WAIT if wait else SECONDS_TO_END if ours.get("slurm_restart") else 0.0)
    try:
        for holder in _in_the_way(
            folder, name
        ):  # looked for after taking, so that of two that come together one sees the other
            _refuse_if_alive(holder)
        yield
    finally:
        if _holder(path) == ours:
            path.unlink(missing_ok=True)


def lock_of(cell: str | None) -> str:
    """The name of the lock of who works on one cell of the grid, or on all."""
    return WHOLE if cell is None else f"cell-{cell}"


def refuse_if_locked(folder: Path) -> None:
    """Raises: UserError when a process works on the whole run."""
    _refuse_if_alive(folder / f"{WHOLE}.lock")


def _take_or_wait(path: Path, ours: Json, longest: float) -> None:
    start = said = time.monotonic()
    while (holder := _take(path, ours)) is not None:
        now = time.monotonic()
        if now - start >= longest:
            raise UserError(_in_use(path, holder))
        if now - said > SECONDS_BETWEEN_LINES:
            said = now
            log.info("run.dir: waits for %s", _in_use(path, holder).removeprefix("run.dir: "))
        raise_if_stopped()
        time.sleep(SECONDS_BETWEEN_CHECKS)


def _take(path: Path, ours: Json) -> Json | None:
    """Creates the lock; None when it is ours, else who holds it."""
    if _create(path, ours):
        return None
    if not _is_dead(path):
        return _holder(path)
    guard = path.with_suffix(".takeover")  # of those who see a dead holder, one may remove what he left
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


def _in_the_way(folder: Path, name: str) -> list[Path]:
    """A whole run and its parts exclude each other, and so do shards of different counts."""
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
    who = f"process {holder['pid']} on {holder.get('host')}" if "pid" in holder else "a process that has not signed yet"
    return (
        f"run.dir: {path.parent} is in use by {who} ({path.name}). Wait for it, or take another run.dir; if that process is "
        f"gone, remove {path}."
    )


def _create(path: Path, ours: Json) -> bool:
    """Whether the lock could be created, with our name in it."""
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
    """Whether the holder is of a start of our own SLURM job that ended when the job was requeued, on whatever node."""
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
    """Whether the holder is known to be gone: a process of this machine that is no more, or whose number is another's now;
    one of an earlier start of our own SLURM job on another machine; one of a SLURM job that has ended.
    """
    holder = _holder(path)
    if not holder:
        try:
            return time.time() - path.stat().st_mtime > SECONDS_TO_SIGN
        except OSError:
            return True  # it is gone itself
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
    """When a process of this machine began; None where there is none. On Linux in ticks, which no change of the clock moves."""
    try:
        return float(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        pass
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return None
