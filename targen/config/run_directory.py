"""The run directory: its configuration is written at the first start, and later starts must be compatible with it."""

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path

import yaml
from omegaconf import DictConfig

from targen.config.diff import changed_answer_keys
from targen.config.loading import as_values, settings_from
from targen.config.required_files import missing_files
from targen.config.settings import Settings
from targen.runtime.errors import UserError, short_path
from targen.runtime.jsonl import Json, read_json, write_text
from targen.runtime.lock.run_lock import refuse_if_locked
from targen.runtime.paths import visible_paths

log = logging.getLogger(__name__)
PROCESS_KEYS = ("shard", "cell", "cluster", "task_dir")  # about the process, not the run; config.yaml leaves them out


def open_run(cfg: DictConfig, check: Callable[[Settings], object] | None = None, write: bool = True) -> Settings:
    """The settings, compared with the run in run.dir; config.yaml is written after all checks have passed.

    Raises: UserError with every mistake, including those from the phase's `check`; nothing is written then.
    """
    settings = settings_from(cfg)
    if problems := missing_files(settings):
        raise UserError("\n".join(problems))
    path, values = settings.paths.config, _with_template_hash({**as_values(cfg), "arms": list(settings.arms)})
    if path.exists():
        old = read_config(path)
        changed = changed_answer_keys(old, values)
        if changed and _has_answers(settings):
            raise UserError(
                f"run.dir: {settings.run.dir} holds answers made with other settings: {'; '.join(changed)}. "
                "Take another run.dir, or restore the settings."
            )
        values["tasks"] = {**(old.get("tasks") or {}), **values["tasks"]}
    if check is not None:
        check(settings)
    if write and not (settings.cell and path.exists()):  # other cells may be running on it
        _write(path, values)
    return settings


def _has_answers(settings: Settings) -> bool:
    """Whether there are answers, or request files that may have been sent already."""
    logs = [path for path in visible_paths(settings.paths.calls, "*.jsonl") if not path.name.startswith("canary")]
    return any(path.is_file() and path.stat().st_size for path in logs) or bool(settings.paths.request_files)


def _write(path: Path, values: Json) -> None:
    """Writes config.yaml, without PROCESS_KEYS."""
    values = {key: value for key, value in values.items() if key not in PROCESS_KEYS}
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120)
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return
    refuse_if_locked(path.parent)  # a running process reads its configuration there
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise UserError(
            f"run.dir: {short_path(path.parent)} cannot be made ({err.strerror}). Choose another run.dir."
        ) from None
    write_text(path, text)


def _with_template_hash(values: Json) -> Json:
    """Adds a hash of the chat template: its file may move, but its text must not change."""
    template = values["generator"].get("chat_template")
    if template is None:
        return values
    try:
        digest = hashlib.sha256(Path(template).expanduser().read_bytes()).hexdigest()
    except OSError as err:
        raise UserError(
            f"generator.chat_template: {template} cannot be read ({err.strerror}). Correct the path."
        ) from None
    return values | {"generator": values["generator"] | {"chat_template_sha256": digest}}


def read_record(path: Path) -> Json:
    """The contents of run.json; empty if it is missing or damaged. It is only shown to people."""
    try:
        record = read_json(path)
    except UserError:
        return {}
    return record if "seconds" in record else {}


def read_config(path: Path) -> Json:
    """The configuration that a run wrote. Raises: UserError if it is damaged."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as err:
        raise UserError(f"{path}: cannot be read ({err}). Repair it, or take another run.dir.") from None
    if not isinstance(values, dict):
        raise UserError(
            f"{path}: got {type(values).__name__}, expected a configuration. Repair it, or take another run.dir."
        )
    return values
