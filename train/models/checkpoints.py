"""Checkpoints of a cell: complete ones are found, torn ones are not, a new one is whole before an old one goes.

models/<cell>/checkpoint-<step>/ holds what the Trainer saves (weights as safetensors, optimizer, schedule, random states)
and, written last, complete.json: the settings and rows that it was trained on and the size of every file.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from targen.runtime.errors import UserError
from targen.runtime.jsonl import Json, read_json, write_text

PREFIX = "checkpoint-"
MARK = "complete.json"


@dataclass(frozen=True)
class Checkpoint:
    """One that was saved to its end."""

    folder: Path
    step: int
    fingerprint: Json
    sharding: str


def complete(folder: Path) -> list[Checkpoint]:
    """The complete checkpoints below models/<cell>/, oldest first; one with a missing or shortened file is none."""
    found = []
    for path in folder.glob(f"{PREFIX}*"):
        if (path / MARK).is_file() and path.name.removeprefix(PREFIX).isdecimal():
            mark = read_json(path / MARK)
            if mark["files"] == _sizes(path):
                step = int(path.name.removeprefix(PREFIX))
                found.append(Checkpoint(path, step, mark["fingerprint"], mark["sharding"]))
    return sorted(found, key=lambda checkpoint: checkpoint.step)


def seal(folder: Path, fingerprint: Json, sharding: str) -> None:
    """Says that the checkpoint is complete, when all of it is on the disk."""
    for path in _files(folder):
        with path.open("rb") as file:
            os.fsync(file.fileno())
    mark = {"fingerprint": fingerprint, "sharding": sharding, "files": _sizes(folder)}
    write_text(folder / MARK, json.dumps(mark, indent=2) + "\n")


def keep(folder: Path, steps: set[int]) -> None:
    """Removes the checkpoints of all other steps, and what is torn; the mark goes first."""
    kept = {checkpoint.folder for checkpoint in complete(folder) if checkpoint.step in steps}
    for path in folder.glob(f"{PREFIX}*"):
        if path not in kept:
            (path / MARK).unlink(missing_ok=True)
            shutil.rmtree(path)


def keep_only_checkpoints(folder: Path, *with_them: str) -> None:
    """Removes what a killed start left: torn checkpoints, and a model that has no done marker.

    `with_them`: what lies beside the checkpoints and belongs to them; it goes when there is none.
    """
    if not folder.is_dir():
        return
    found = complete(folder)
    keep(folder, {checkpoint.step for checkpoint in found})
    for path in folder.iterdir():
        if not path.name.startswith(PREFIX) and not (found and path.name in with_them):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


@contextmanager
def writing(what: Path) -> Iterator[None]:
    """Whatever fails while the body writes `what` becomes one line. Raises: UserError."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as err:  # torch says of a full disk only RuntimeError
        said = " ".join(str(err).split())[:200]
        raise UserError(
            f"run.dir: {what} could not be written ({said}). Make room on the disk; the same command goes on from the "
            "last good checkpoint."
        ) from err


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MARK)


def _sizes(folder: Path) -> dict[str, int]:
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in _files(folder)}
