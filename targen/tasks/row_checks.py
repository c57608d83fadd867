"""Checks that several formats share. Each raises RowError with the reason."""

from collections.abc import Sequence

from targen.runtime.errors import RowError
from targen.runtime.jsonl import Json


def check_keys(row: Json, required: Sequence[str], optional: Sequence[str]) -> None:
    """Refuses a row that lacks a required key, has an unknown one, or whose `idx` is not a whole number from 0."""
    missing = [name for name in required if name not in row]
    unknown = [name for name in row if name not in required and name not in optional]
    if missing or unknown:
        raise RowError(f"keys: missing {missing}, unknown {unknown}")
    if type(row["idx"]) is not int or row["idx"] < 0:
        raise RowError(f"idx: got {row['idx']!r}, expected a whole number from 0")


def check_objects(row: Json, name: str) -> None:
    """Refuses a field that is not a list of objects with at least one."""
    if not isinstance(row[name], list) or not row[name] or not all(isinstance(item, dict) for item in row[name]):
        raise RowError(f"{name}: got {str(row[name])[:60]}, expected a list of objects, at least one")


def check_text(row: Json, name: str) -> None:
    """Refuses a field that is blank or not a text."""
    if not isinstance(row[name], str) or not row[name].strip():
        raise RowError(f"{name}: got {row[name]!r}, expected a text")
