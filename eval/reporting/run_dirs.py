"""Runs as they are named for a report: `run.dir=a run.dir=b`, or `run.dir='outputs/*'`; beside them only report.* keys."""

import logging
import re
from dataclasses import dataclass
from glob import glob, has_magic
from pathlib import Path

from targen.runtime.errors import UserError, did_you_mean
from targen.runtime.paths import RunPaths

log = logging.getLogger(__name__)
KEYS = ("report.dir", "report.title", "report.note")
EVERY_RUN = Path("outputs/report")  # where the report of several runs goes


@dataclass(frozen=True)
class Asked:
    """The runs of a report, and what was said of the report itself, by key without `report.`."""

    runs: tuple[Path, ...]
    several: bool
    report: dict[str, str | None]

    @property
    def folder(self) -> Path:
        return Path(self.report.get("dir") or EVERY_RUN)


def asked(arguments: list[str]) -> Asked | None:
    """What was asked for; None where the arguments are those of one run and its configuration is to be composed.

    One run alone is asked for by run.dir= with report.* keys at most, and has a config.yaml.
    Raises: UserError for a run that is not there, and for keys that several runs cannot share.
    """
    pairs = [argument.partition("=")[::2] for argument in arguments]
    named = [_bare(value) for key, value in pairs if key == "run.dir"]
    several = len(named) > 1 or any(has_magic(name) and not Path(name).exists() for name in named)
    others = [argument for argument in arguments if argument.partition("=")[0] not in ("run.dir", *KEYS)]
    if not named or (others and not several) or any(other.startswith("-") for other in others):
        return None
    if others:
        keys = ", ".join(KEYS)
        raise UserError(
            f"{others[0]}: got it with several runs, each of which has its own settings in its config.yaml; expected run.dir= "
            f"and {keys} only. Leave it out. {did_you_mean(others[0].partition('=')[0], KEYS)}"
        )
    report = {key.removeprefix("report."): _value(value) for key, value in pairs if key in KEYS}
    if several:
        return Asked(_found(named), True, report)
    return Asked((Path(named[0]),), False, report) if RunPaths(Path(named[0])).config.is_file() else None


def _found(named: list[str]) -> tuple[Path, ...]:
    """The folders of all names. Those that a pattern matches without being runs are left out."""
    found: list[Path] = []
    for name in named:
        pattern = has_magic(name) and not Path(name).exists()
        paths = [Path(path) for path in sorted(glob(name))] if pattern else [Path(name)]
        runs = [path for path in paths if RunPaths(path).scores.is_file()]
        if not runs:
            what = "no run with scores.jsonl" if pattern else "no scores.jsonl there"
            raise UserError(
                f"run.dir: got {name}, {what}, expected a run that was evaluated. Run phases=[evaluate] on it."
            )
        if len(runs) < len(paths):
            log.info("report: %s: %d of %d have scores", name, len(runs), len(paths))
        found += runs
    return tuple(found)


def _bare(text: str) -> str:
    """Without the quotes that Hydra would take off."""
    match = re.fullmatch(r"(['\"])(.*)\1", text, re.S)
    return match[2] if match else text


def _value(text: str) -> str | None:
    return None if text == "null" else _bare(text)
