"""A lock that lets one process at a time work on a run. It does without flock, which many cluster file systems lack."""

import json
import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from targen.runtime.errors import UserError
from targen.runtime.heartbeat import Heartbeat
from targen.runtime.lock.holder import HolderState, LockWatch, holder_of, longest_silence, our_name
from targen.runtime.signals import raise_if_stopped

log = logging.getLogger(__name__)
WHOLE = "run"
SECONDS_BETWEEN_CHECKS = 0.2
SECONDS_BETWEEN_LINES = 30.0
LONGEST_WAIT = 3600.0  # seconds to wait for a lock
# An earlier start of this SLURM job may still be ending, if SLURM gave up its node while the process was alive.
SECONDS_TO_END = 180.0


@contextmanager
def hold_lock(folder: Path, name: str = WHOLE, wait: bool = False) -> Iterator[None]:
    """Holds `<folder>/<name>.lock` while the body runs: the whole run, a shard (`shard-...`) or a cell (`cell-...`) of it.

    The file is created exclusively, which is atomic even on NFS, and its holder touches it every few seconds. The lock of a
    process that can be seen from here is taken over once that process is gone; that of another container or machine after
    `longest_silence` without a heartbeat, or at once if its SLURM job has ended. `raise_if_lost` tells a holder that its
    lock was taken over. Raises: UserError if another process is at work; with `wait`, only after LONGEST_WAIT seconds.
    """
    path, holder, watch = folder / f"{name}.lock", our_name(), LockWatch()
    content = json.dumps(holder).encode()
    longest = LONGEST_WAIT if wait else SECONDS_TO_END if holder.get("slurm_restart") else 0.0
    try:
        with _in_one_line(path):
            folder.mkdir(parents=True, exist_ok=True)
            while not _create(path, content):
                _clear([path], watch, longest)
        with Heartbeat(path, content):
            with _in_one_line(path):
                # After taking: of two that start at once, one sees the other.
                _clear(_conflicting_locks(folder, name), watch)
            yield
    finally:
        with suppress(OSError):  # on a disk that became read-only it stays, and its holder will be gone
            if path.read_bytes() == content:
                path.unlink()


def lock_of(cell: str | None) -> str:
    """The name of the lock for one cell of the grid, or for the whole run."""
    return WHOLE if cell is None else f"cell-{cell}"


def refuse_if_locked(folder: Path) -> None:
    """Checks the lock of the whole run. Raises: UserError if a process that is at work holds it."""
    with _in_one_line(folder):
        _clear([folder / f"{WHOLE}.lock"], LockWatch())


def _clear(paths: Sequence[Path], watch: LockWatch, longest: float = 0.0) -> None:
    """Returns when none of these locks is left: they are released, or removed because their holders are gone.

    Raises: UserError after `longest` seconds if one of the holders is at work; as long as that is unknown, it waits.
    """
    start = time.monotonic()
    logged_at = start - SECONDS_BETWEEN_LINES
    while occupied := [path for path in paths if not _is_free(path, watch)]:
        now, states = time.monotonic(), [watch.state(path) for path in occupied]
        at_work = [path for path, state in zip(occupied, states, strict=True) if state is HolderState.AT_WORK]
        if at_work and now - start >= longest:
            raise UserError(_in_use_message(at_work[0]))
        if HolderState.UNKNOWN in states and now - logged_at >= SECONDS_BETWEEN_LINES:
            logged_at = now
            log.info(_waiting_message(occupied[states.index(HolderState.UNKNOWN)]))
        elif at_work and now - max(logged_at, start) >= SECONDS_BETWEEN_LINES:
            logged_at = now
            log.info("run.dir: waiting: %s", _in_use_message(at_work[0]).removeprefix("run.dir: "))
        raise_if_stopped()
        time.sleep(SECONDS_BETWEEN_CHECKS)


def _is_free(path: Path, watch: LockWatch) -> bool:
    """Whether there is no such lock; removes one whose holder is gone, unless another process is about to."""
    if not path.exists():
        return True
    if watch.state(path) is not HolderState.GONE:
        return False
    guard = path.with_suffix(".takeover")  # of all that see a holder gone, one removes its lock, not one just taken
    if not _create(guard, b""):
        if watch.state(guard) is HolderState.GONE:
            guard.unlink(missing_ok=True)
        return False
    try:
        if watch.state(path) is not HolderState.GONE:
            return False
        log.info("run.dir: %s is gone: its lock is removed (%s)", _holder_name(path), path)
        path.unlink(missing_ok=True)
        return True
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


def _in_use_message(path: Path) -> str:
    remedy = (
        "Wait for it, end it, or choose a different run.dir."
        if "beats" in holder_of(path)
        else f"Wait for it, or choose a different run.dir. If that process is gone, remove {path}."
    )
    return f"run.dir: {path.parent} is in use by {_holder_name(path)} ({path.name}). {remedy}"


def _waiting_message(path: Path) -> str:
    return (
        f"run.dir: {path} is held by {_holder_name(path)}, which cannot be seen from here: waiting for a sign of life, and for "
        f"{longest_silence(holder_of(path)):.0f} s at most if there is none"
    )


def _holder_name(path: Path) -> str:
    holder = holder_of(path)
    if "pid" not in holder:
        return "a process that has not written its name"
    return f"process {holder['pid']} on {holder.get('host')}"


def _create(path: Path, content: bytes) -> bool:
    """Creates a lock; False if it already exists. Of one that cannot be written, nothing is left."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        return False
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return True


@contextmanager
def _in_one_line(path: Path) -> Iterator[None]:
    """Turns failures of the body, which makes or removes locks, into one line. Raises: UserError."""
    try:
        yield
    except OSError as err:
        raise UserError(
            f"run.dir: {path} cannot be written ({err.strerror}). Free some space or repair it and rerun the command, or "
            "choose a different run.dir."
        ) from None
