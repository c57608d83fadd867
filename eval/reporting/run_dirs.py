"""The runs that a report is to cover: `run.dir=a run.dir=b` or `run.dir='outputs/*'`, with report.* keys only.

Hydra refuses the same key twice and cannot read `[` in a pattern, so these arguments are read before it.
"""

import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from glob import glob, has_magic
from pathlib import Path

from targen.runtime.errors import UserError, did_you_mean
from targen.runtime.paths import RunPaths

log = logging.getLogger(__name__)
KEYS = ("report.dir", "report.title", "report.note")
DEFAULT_FOLDER = Path("outputs/report")  # for the report of several runs


@dataclass(frozen=True)
class NamedRuns:
    """The runs of a report, and the values of report.* keys, by key without `report.`."""

    runs: tuple[Path, ...]
    several: bool
    report: dict[str, str | None]

    @property
    def folder(self) -> Path:
        """The folder of the report: report.dir, or a default one."""
        return Path(self.report.get("dir") or DEFAULT_FOLDER)


def named_runs(arguments: Sequence[str]) -> NamedRuns | None:
    """The runs that the arguments name; None if the arguments are settings of a single run, to be composed.

    With nothing but run.dir= and report.* keys, a single run is reported from its own config.yaml, if it has one.
    Raises: UserError for a run that does not exist, and for keys that several runs cannot share.
    """
    pairs = [argument.partition("=")[::2] for argument in arguments]
    names = [_unquoted(value) for key, value in pairs if key == "run.dir"]
    several = len(names) > 1 or any(_is_pattern(name) for name in names)
    others = [argument for argument in arguments if argument.partition("=")[0] not in ("run.dir", *KEYS)]
    if not names or (others and not several) or any(argument.startswith("-") for argument in others):
        return None
    if others:
        raise UserError(
            f"{others[0]}: got it with several runs, each of which has its own settings in its config.yaml; expected run.dir= "
            f"and {', '.join(KEYS)} only. Leave it out. {did_you_mean(others[0].partition('=')[0], KEYS)}"
        )
    report = {
        key.removeprefix("report."): None if value == "null" else _unquoted(value)
        for key, value in pairs
        if key in KEYS
    }
    if several:
        return NamedRuns(tuple(run for name in names for run in _runs(name)), True, report)
    return NamedRuns((Path(names[0]),), False, report) if RunPaths(Path(names[0])).config.is_file() else None


def _is_pattern(name: str) -> bool:
    return has_magic(name) and not Path(name).exists()


def _runs(name: str) -> list[Path]:
    """The runs that a name or pattern stands for; folders without scores are left out if a pattern matches them."""
    paths = [Path(path) for path in sorted(glob(name))] if _is_pattern(name) else [Path(name)]
    runs = [path for path in paths if RunPaths(path).scores.is_file()]
    if not runs:
        problem = "which matches no run with scores.jsonl" if _is_pattern(name) else "which has no scores.jsonl"
        raise UserError(f"run.dir: got {name}, {problem}, expected an evaluated run. Run phases=[evaluate] on it.")
    if len(runs) < len(paths):
        log.info("report: %s: %d of %d have scores", name, len(runs), len(paths))
    return runs


def _unquoted(text: str) -> str:
    """The text without the quotes that Hydra would remove; ~ is the home directory."""
    match = re.fullmatch(r"(['\"])(.*)\1", text, re.S)
    return os.path.expanduser(match[2] if match else text)
