"""The tasks of a run, as its own config.yaml specifies them."""

import re
from collections.abc import Iterable
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from eval.scoring.metrics import check_metrics
from targen.config.group_files import task_from_file
from targen.config.validation import check
from targen.runtime.errors import UserError, one_line
from targen.runtime.jsonl import MAX_DEPTH, Json
from targen.runtime.paths import group_choices
from targen.tasks.registry import with_format
from targen.tasks.task import Task

Checked = TypeVar("Checked")


def run_tasks(config: Path, scored: Iterable[str]) -> dict[str, Task]:
    """The tasks in a run's config.yaml by name, in its order.

    Without that file: the tasks in `scored` that conf/task has.
    Raises: UserError if the file is damaged, or a task in it does not match this version.
    """
    if not config.is_file():
        packaged = group_choices("task")
        return {name: task_from_file(name) for name in dict.fromkeys(scored) if name in packaged}
    specs = _read_config(config).get("tasks")
    if not isinstance(specs, dict):
        raise UserError(
            f"{config}: tasks: got {specs!r}, expected the tasks of the run. Repair it, or leave the run out."
        )
    tasks = {
        str(name): with_format(object_from_config(Task, spec, config, f"tasks.{name}")) for name, spec in specs.items()
    }
    try:
        check_metrics(tasks)
    except UserError as err:
        raise UserError("\n".join(f"{config}: {line}" for line in str(err).splitlines())) from None
    return tasks


def _read_config(config: Path) -> Json:
    try:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        text = config.read_text(encoding="utf-8")
        depths = accumulate(1 if bracket in "[{" else -1 for bracket in re.findall(r"[\[\]{}]", text))
        if max(depths, default=0) > MAX_DEPTH:  # the C parser overflows its stack, which ends the process
            raise ValueError(f"nested more than {MAX_DEPTH} deep")
        values = yaml.load(text, Loader=loader)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as err:
        reason = one_line(err)
        raise UserError(f"{config}: cannot be read ({reason}). Repair it, or leave the run out.") from None
    if not isinstance(values, dict):
        raise UserError(
            f"{config}: got {type(values).__name__}, expected a configuration. Repair it, or leave the run out."
        )
    return values


def object_from_config(cls: type[Checked], values: Any, config: Path, where: str = "") -> Checked:
    """Values of a run's config.yaml as an object of class `cls`.

    Raises: UserError. Unknown or missing keys mean that a different version wrote the file; other mistakes are reported as they are.
    """
    unknown, missing = _key_differences(cls, values, where)
    if unknown or missing:
        key_lists = {"unknown here": unknown, "missing": missing}
        problem = "; ".join(f"{kind}: {', '.join(keys)}" for kind, keys in key_lists.items() if keys)
        raise UserError(
            f"{config}: was written by another version, or edited ({problem}). Name the run's experiment and settings in "
            "the command, as for the other phases."
        )
    try:
        return check(cls, values, where)
    except UserError as err:
        raise UserError("\n".join(f"{config}: {line}" for line in str(err).splitlines())) from None


def _key_differences(cls: Any, values: Any, where: str) -> tuple[list[str], list[str]]:
    """(keys that `cls` does not have, keys that it requires and the values lack)."""
    unknown, missing = [], []
    try:
        TypeAdapter(cls).validate_python(values)
    except ValidationError as err:
        for error in err.errors():
            key = ".".join([*([where] if where else []), *map(str, error["loc"])])
            if error["type"] == "unexpected_keyword_argument":
                unknown.append(key)
            elif error["type"] == "missing":
                missing.append(key)
    return unknown, missing
