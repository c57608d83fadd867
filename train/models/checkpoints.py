"""Checkpoints of a cell: incomplete ones are ignored, and a new one is complete before an old one is removed.

models/<cell>/checkpoint-<step>/ holds what the Trainer saves (weights as safetensors, optimizer, schedule, RNG states)
and, written last, complete.json: the fingerprint of settings and rows, and the size of every file.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from targen.runtime.errors import UserError, one_line
from targen.runtime.heartbeat import raise_if_lost
from targen.runtime.jsonl import Json, read_json, write_text

PREFIX = "checkpoint-"
MARKER = "complete.json"
SELECTED_ROWS = "selected_rows.jsonl"  # which synthetic rows the cell is trained on


@dataclass(frozen=True)
class Checkpoint:
    """One that was saved completely."""

    folder: Path
    step: int
    fingerprint: Json
    sharding: str


def complete_checkpoints(folder: Path) -> list[Checkpoint]:
    """The complete checkpoints below models/<cell>/, oldest first; one with a missing or shortened file is left out."""
    checkpoints = []
    for path in folder.glob(f"{PREFIX}*"):
        if (path / MARKER).is_file() and path.name.removeprefix(PREFIX).isdecimal():
            marker = read_json(path / MARKER)
            if marker["files"].items() <= _sizes(path).items():  # others are of macOS or Jupyter
                step = int(path.name.removeprefix(PREFIX))
                checkpoints.append(Checkpoint(path, step, marker["fingerprint"], marker["sharding"]))
    return sorted(checkpoints, key=lambda checkpoint: checkpoint.step)


def mark_complete(folder: Path, fingerprint: Json, sharding: str) -> None:
    """Marks the checkpoint as complete, after all its files are on disk."""
    for path in _files(folder):
        with path.open("rb") as file:
            os.fsync(file.fileno())
    marker = {"fingerprint": fingerprint, "sharding": sharding, "files": _sizes(folder)}
    write_text(folder / MARKER, json.dumps(marker, indent=2) + "\n")


def keep_steps(folder: Path, steps: set[int]) -> None:
    """Removes incomplete checkpoints and those of all other steps; the marker goes first."""
    folders = {checkpoint.folder for checkpoint in complete_checkpoints(folder) if checkpoint.step in steps}
    for path in folder.glob(f"{PREFIX}*"):
        if path not in folders:
            (path / MARKER).unlink(missing_ok=True)
            shutil.rmtree(path)


def keep_only_checkpoints(folder: Path, *companions: str) -> None:
    """Removes what a killed start left: incomplete checkpoints, and a model without a done marker. The list of the selected rows stays.

    `companions`: files and folders that belong to the checkpoints; they are kept if there is a checkpoint.
    """
    if not folder.is_dir():
        return
    checkpoints = complete_checkpoints(folder)
    keep_steps(folder, {checkpoint.step for checkpoint in checkpoints})
    for path in folder.iterdir():
        stays = path.name == SELECTED_ROWS or (checkpoints and path.name in companions)
        if not path.name.startswith(PREFIX) and not stays:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


@contextmanager
def reporting_write_errors(path: Path) -> Iterator[None]:
    """Turns failures of the body, which writes `path`, into one line. Raises: UserError, also before it if the run is no longer ours."""
    from safetensors import SafetensorError

    raise_if_lost()
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as err:  # torch reports a full disk as a RuntimeError
        reason = one_line(err, 200)
        raise UserError(
            f"run.dir: {path} could not be written ({reason}). Make room on the disk; rerun the command to resume from the "
            "last good checkpoint."
        ) from err


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MARKER)


def _sizes(folder: Path) -> dict[str, int]:
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in _files(folder)}
