"""The settings of the original data."""

from typing import Literal

from pydantic.dataclasses import dataclass as checked_dataclass

from targen.config.groups.bounds import STRICT, PathText


@checked_dataclass(frozen=True, config=STRICT)
class Data:
    """Where the original data come from."""

    source: Literal["hub", "local", "fixture"]
    """hub: a data set on the Hub; local: a folder in the official layout; fixture: a few rows written for this project."""
    dir: PathText | None
    """local: the folder, with CB/val.jsonl and so on in it."""
    hub: PathText
    """hub: id of the data set, or the path of a local copy."""
    fallback: Literal["fixture"] | None
    """fixture: score on this project's own rows, and say so, if the Hub cannot be reached; null: stop instead."""
    self_instruct: PathText | None = None
    """Rows of the arm self_instruct: a JSONL file of {instruction, input, output} or {prompt, completion}, or the id of a
    data set on the Hub (yizhongw/self_instruct)."""
