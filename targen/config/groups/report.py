"""The settings of the report, and of Weights & Biases."""

from typing import Literal

from pydantic.dataclasses import dataclass as checked_dataclass

from targen.config.groups.bounds import STRICT, PathText, Positive


@checked_dataclass(frozen=True, config=STRICT)
class Report:
    """What the report phase writes."""

    title: str | None
    """Title of the page; null: the titles of the tasks."""
    note: str | None
    """A sentence below the title; null: none."""
    dir: PathText | None
    """Folder of the report; null: <run.dir>/report, or outputs/report for several runs."""
    rows_megabytes: Positive
    """Size limit in MB for the rows on the page; beyond it the page has an even sample. The files have all rows."""


@checked_dataclass(frozen=True, config=STRICT)
class Wandb:
    """Whether training and scores are logged to Weights & Biases."""

    mode: Literal["disabled", "offline", "online"]
    """disabled, offline (no account needed) or online."""
    project: str
    """Name of the W&B project."""
