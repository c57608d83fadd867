"""The configuration that everything begins with: conf/config.yaml, or the one that --config-name chooses."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from targen.runtime.command_line.flags import CONFIG_NAME
from targen.runtime.paths import CONF
from targen.runtime.task_files.sources import search_path, with_search_path, with_task_sources


@dataclass(frozen=True)
class PrimaryConfig:
    """Its name and folder, and the overrides by which Hydra finds all else."""

    name: str
    folder: str
    overrides: list[str]


def primary_config(overrides: Sequence[str]) -> PrimaryConfig:
    """What --config-name among the overrides chooses: from conf/, or from a folder of the user's (--config-dir), on which
    Hydra then finds conf/. Raises: UserError as `with_task_sources`."""
    names = [override.removeprefix(CONFIG_NAME) for override in overrides if override.startswith(CONFIG_NAME)]
    name = (names or ["config"])[-1].removesuffix(".yaml")
    others = [override for override in overrides if not override.startswith(CONFIG_NAME)]
    folders = [Path(entry.removeprefix("file://")) for entry in search_path(others)]
    folder = next((folder for folder in (CONF, *folders) if (folder / f"{name}.yaml").is_file()), CONF)
    if folder != CONF:
        others = with_search_path(others, [f"file://{CONF}", *search_path(others)])
    return PrimaryConfig(name, str(folder), with_task_sources(others))
