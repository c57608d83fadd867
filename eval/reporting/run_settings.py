"""The settings of a run, from its own config.yaml."""

from collections.abc import Mapping
from pathlib import Path

from eval.scoring.run_tasks import object_from_config
from targen.config.loading import as_values
from targen.config.run_directory import PROCESS_KEYS, read_config
from targen.config.settings import Settings
from targen.runtime.cli import compose
from targen.runtime.errors import UserError
from targen.runtime.jsonl import Json
from targen.runtime.paths import RunPaths


def settings_of_run(root: Path, report: Mapping[str, str | None]) -> Settings:
    """The settings that the run in `root` was made with; `report` overrides keys of its `report` section.

    Raises: UserError if the file is damaged, or written by a different version.
    """
    config = RunPaths(root).config
    values = read_config(config)
    defaults = as_values(compose([]))
    for section in ("generator", "report"):
        if not isinstance(values.get(section, {}), dict):
            raise UserError(f"{config}: {section}: got {values[section]!r}, expected its keys. Repair it.")
    # the file leaves out the shard that a process made and the cluster that it ran on
    values = {**{key: defaults[key] for key in PROCESS_KEYS if key in defaults}, **values, "run": {"dir": str(root)}}
    values = _with_new_keys(values, defaults)
    if "generator" in values:  # a record that open_run adds, not a setting
        values["generator"] = {
            key: value for key, value in values["generator"].items() if key != "chat_template_sha256"
        }
    values["report"] = {**defaults["report"], **values.get("report", {}), **report}
    return object_from_config(Settings, values, config)


def _with_new_keys(values: Json, defaults: Json) -> Json:
    """The values of an earlier version, with the defaults of keys that were added to their sections since."""
    filled = {key: value for key, value in defaults.items() if not isinstance(value, dict)} | values
    for section, keys in defaults.items():
        if section != "tasks" and isinstance(keys, dict) and isinstance(filled.get(section), dict):
            filled[section] = keys | filled[section]
    return filled
