"""Turns the composed configuration into checked settings. Only this module and the command line see OmegaConf objects."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationToMissingValueError, MissingMandatoryValue, OmegaConfBaseException

from targen.config.original_data import stand_in_problems
from targen.config.required_files import has_original_train
from targen.config.rules.rule import broken_rules
from targen.config.rules.table import RULES
from targen.config.settings import Settings
from targen.config.validation import check
from targen.runtime.errors import UserError
from targen.runtime.jsonl import Json, check_unicode
from targen.tasks.own_task import complete_specification
from targen.tasks.registry import SUPERGLUE_TASKS
from targen.tasks.specification_checks import task_problems
from targen.tasks.task import Task

_NO_TASK = "task: got an empty list, expected at least one task. Name tasks, as in 'task=[cb,copa]'."


def settings_from(cfg: DictConfig) -> Settings:
    """The checked settings. Raises: UserError with one line per problem, in the order of the file."""
    values = as_values(cfg, throw_on_missing=True)
    check_texts(values)
    if not values.get("tasks"):
        raise UserError(_NO_TASK)
    with mistakes_by_file(values.get("task_dir")):
        settings = _with_arms(values)
        for problems_of in (task_problems, partial(stand_in_problems, settings)):
            if problems := [problem for task in settings.tasks.values() for problem in problems_of(task)]:
                raise UserError("\n".join(problems))
    if problems := broken_rules(RULES, settings):
        raise UserError("\n".join(problems))
    return settings


def _with_arms(values: Json) -> Settings:
    """The checked settings; without `arms`, original and synthetic rows are compared where there are original ones."""
    if values.get("arms") is not None:
        return check(Settings, values)
    settings = check(Settings, {**values, "arms": ["original", "synthetic"]})
    if any(_expects_original(settings, task) for task in settings.tasks.values()):
        return settings
    return replace(settings, arms=["synthetic"])


def _expects_original(settings: Settings, task: Task) -> bool:
    """Whether there are original training rows, or should be: official files that are missing are named later on."""
    is_one_file = Path(settings.data.dir or "").is_file()  # of evaluation rows
    is_official = task.name in SUPERGLUE_TASKS and settings.data.source_of(task) == "local" and not is_one_file
    return is_official or has_original_train(settings, task)


@contextmanager
def mistakes_by_file(task_dir: str | None) -> Iterator[None]:
    """Within it, mistakes in a task of `task_dir` name its file instead of `tasks.<name>`. Raises: UserError."""
    try:
        yield
    except UserError as err:
        raise UserError("\n".join(_by_file(line, task_dir) for line in str(err).splitlines())) from None


def _by_file(line: str, task_dir: str | None) -> str:
    match = re.match(r"tasks\.(\w+)\.(.*)", line)
    file = _file(task_dir, match[1]) if match else None
    return f"{file}: {match[2]}" if match and file else line


def _file(task_dir: str | None, name: str) -> str | None:
    """The file of a task in `task_dir`, None if it is not there."""
    path = Path(task_dir).expanduser() / f"{name}.yaml" if task_dir else None
    return str(path) if path is not None and path.is_file() else None


def check_texts(values: Any, key: str = "") -> None:
    """Refuses settings with half characters or bytes that are not UTF-8. Raises: UserError naming the key."""
    if isinstance(values, str):
        check_unicode(values, key)
    elif isinstance(values, dict):
        for name, value in values.items():
            check_texts(str(name), f"{key}: a key")
            check_texts(value, f"{key}.{name}".lstrip("."))
    elif isinstance(values, list):
        for number, value in enumerate(values):
            check_texts(value, f"{key}.{number}")


def as_values(cfg: DictConfig, throw_on_missing: bool = False) -> Json:
    """The resolved configuration as plain values, as in config.yaml: without Hydra's part, and with complete tasks.

    Raises: UserError for a task that cannot be completed, and with `throw_on_missing` for values that are still to be set.
    """
    try:
        values = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=throw_on_missing)
    except (InterpolationToMissingValueError, MissingMandatoryValue):
        missing = sorted(OmegaConf.missing_keys(cfg))
        lines = (f"{key}: got nothing, expected a value. Set it: {key}=..." for key in missing)
        raise UserError("\n".join(lines)) from None
    except OmegaConfBaseException as err:
        key = getattr(err, "full_key", None) or "a value"
        line = f"{key}: got a dollar sign with a brace that names no other key, expected text. Write \\${{...}}, or leave it out."
        raise UserError(_by_file(line, cfg.get("task_dir"))) from None
    assert isinstance(values, dict)
    plain = {str(key): value for key, value in values.items() if key != "hydra"}
    if tasks := plain.get("tasks"):
        files = {name: _file(plain.get("task_dir"), str(name)) for name in tasks}
        plain["tasks"] = {
            str(name): complete_specification(str(name), task, files[name] or f"tasks.{name}")
            for name, task in tasks.items()
        }
    return plain
