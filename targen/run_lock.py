"""One process at a time works on a run: a lock that needs no flock, which many cluster file systems lack."""

import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from targen.errors import UserError
from targen.jsonl import Json

NAME = "run.lock"
SECONDS_TO_SIGN = 10.0  # a lock without a name is older only if its maker died in between


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds `<folder>/run.lock` while the body runs.

    The file is created exclusively, which is atomic also on NFS. What a killed process of this machine left is taken
    over. Raises: UserError when another process holds it, or one of another machine may.
    """
    path = folder / NAME
    folder.mkdir(parents=True, exist_ok=True)
    if not _create(path):
        holder = _holder(path)
        if not _is_dead(holder, path):
            raise UserError(
                f"run.dir: {folder} is in use by process {holder.get('pid')} on {holder.get('host')}. Wait for it, or take "
                f"another run.dir; if that process is gone, remove {path}."
            )
        path.unlink(missing_ok=True)
        if not _create(path):
            raise UserError(
                f"run.dir: {folder} was taken by another process just now. Wait for it, or take another run.dir."
            )
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _create(path: Path) -> bool:
    """Whether the lock could be created, with our name in it."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        return False
    name = {"host": platform.node(), "pid": os.getpid(), "started": _started(os.getpid())}
    with os.fdopen(descriptor, "w") as file:
        json.dump(name, file)
    return True


def _holder(path: Path) -> Json:
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return holder if isinstance(holder, dict) else {}


def _is_dead(holder: Json, path: Path) -> bool:
    """Whether the holder is known to be gone: a process of this machine that is no more, or whose number is another's now."""
    if not holder:
        return path.exists() and time.time() - path.stat().st_mtime > SECONDS_TO_SIGN
    pid = holder.get("pid")
    return holder.get("host") == platform.node() and isinstance(pid, int) and _started(pid) != holder.get("started")


def _started(pid: int) -> float | None:
    """When a process of this machine began, in seconds since the epoch; None where there is none."""
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return None
