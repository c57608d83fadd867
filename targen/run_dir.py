"""The run directory: its configuration is written once, and a later start must fit it."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import yaml
from omegaconf import DictConfig

from targen.config import Settings, as_values, changed_answer_keys, settings_from, task_from_file
from targen.data import local_file
from targen.errors import UserError
from targen.jsonl import Json, write_text

log = logging.getLogger(__name__)


def open_run(cfg: DictConfig, check: Callable[[Settings], object] | None = None, write: bool = True) -> Settings:
    """The settings, held against the run that lies in run.dir; config.yaml is written when all checks have passed.

    Raises: UserError for every mistake found, also from the phase's own `check`; then nothing was written.
    """
    settings = settings_from(cfg)
    if problems := missing_files(settings):
        raise UserError("\n".join(problems))
    path, values = settings.paths.config, as_values(cfg)
    if path.exists():
        old = _read(path)
        changed = changed_answer_keys(old, values)
        if changed and _has_answers(settings):
            raise UserError(
                f"run.dir: {settings.run.dir} holds answers made with other settings: {'; '.join(changed)}. "
                "Take another run.dir, or restore the settings."
            )
        values["tasks"] = {**(old.get("tasks") or {}), **values["tasks"]}
    if check is not None:
        check(settings)
    if write:
        _write(path, values)
    return settings


def _has_answers(settings: Settings) -> bool:
    """Whether something was answered, or stands in a request file that may have been sent already."""
    logs = (settings.paths.root / "calls").glob("*.jsonl")
    return any(log.is_file() and log.stat().st_size for log in logs) or settings.paths.requests.exists()


def _write(path: Path, values: Json) -> None:
    try:
        write_text(path, yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120))
    except OSError as err:
        raise UserError(f"run.dir: {path.parent} cannot be written ({err.strerror}). Choose another run.dir.") from None


def missing_files(settings: Settings) -> list[str]:
    """Original data that the run's phases need and that are not in data.dir: found before anything is asked or trained."""
    if settings.data.source != "local" or not {"train", "evaluate"} & set(settings.phases):
        return []
    needed = []
    for task in settings.tasks.values():
        if "evaluate" in settings.phases:
            needed.append((task, task.eval_split))
        if "train" in settings.phases and "original" in settings.arms:
            needed.append((task_from_file(task.original_train) if task.original_train else task, "train"))
    problems = []
    for task, split in needed:
        try:
            local_file(Path(settings.data.dir or ""), task, split)
        except UserError as err:
            problems.append(str(err))
    return list(dict.fromkeys(problems))


def read_record(path: Path) -> Json:
    """What run.json says; empty where there is none. It is shown to people, and nothing is decided by it."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) and "seconds" in record else {}


def _read(path: Path) -> Json:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as err:
        raise UserError(f"{path}: cannot be read ({err}). Repair it, or take another run.dir.") from None
    if not isinstance(values, dict):
        raise UserError(
            f"{path}: got {type(values).__name__}, expected a configuration. Repair it, or take another run.dir."
        )
    return values
