"""Where Hydra finds tasks: in conf/task, in folders of the user's own, and last in the configuration of the run itself.

A folder of tasks holds `tickets.yaml` and so on, directly. Its tasks need no `# @package` line.
"""

import logging
import re
from abc import abstractmethod
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from targen.runtime.errors import UserError, did_you_mean, short_path
from targen.runtime.paths import CONF, group_choices, visible_paths
from targen.runtime.task_files.reading import read_task_file

log = logging.getLogger(__name__)
GROUP = "task"
_PACKAGE = re.compile(r"^\s*#\s*@package\s+(\S+)", re.MULTILINE)


class _TaskSource(ConfigSource):
    """A source that has only tasks; `path` is a quoted path of the file system."""

    def __init__(self, provider: str, path: str) -> None:
        super().__init__(provider, path)
        self.folder = Path(unquote(self.path))

    @abstractmethod
    def names(self) -> list[str]:
        """The tasks that it has."""

    @abstractmethod
    def values(self, name: str) -> Any:
        """The specification of a task."""

    def available(self) -> bool:
        return True

    def is_group(self, config_path: str) -> bool:
        return config_path in ("", GROUP)

    def is_config(self, config_path: str) -> bool:
        group, _, name = config_path.rpartition("/")
        return group == GROUP and name.removesuffix(".yaml") in self.names()

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        return self.names() if config_path == GROUP and results_filter != ObjectType.GROUP else []

    def load_config(self, config_path: str) -> ConfigResult:
        name = config_path.rpartition("/")[2].removesuffix(".yaml")
        values, header = self.values(name), dict[str, str | None](package=f"tasks.{name}")
        # open, so that overrides may name keys that the file leaves out: targen/tasks/own_task.py knows them all
        OmegaConf.set_struct(values, False)
        return ConfigResult(self.provider, self.full_path(), values, header)


class TaskFolder(_TaskSource):
    """The tasks in a folder."""

    @staticmethod
    def scheme() -> str:
        return "tasks"

    def names(self) -> list[str]:
        return [path.stem for path in visible_paths(self.folder, "*.yaml")]

    def values(self, name: str) -> Any:
        """Raises: UserError if the file cannot be read, or says that it is another task."""
        path = self.folder / f"{name}.yaml"
        values = read_task_file(path)
        package = _PACKAGE.search(path.read_text(encoding="utf-8-sig"))
        if package and package[1] not in (f"tasks.{name}", "_global_"):
            raise UserError(
                f"{short_path(path)}: got `# @package {package[1]}`, expected tasks.{name}, after the name of the file. Correct it, or "
                "leave the line out."
            )
        if package and package[1] == "_global_":
            raise UserError(
                f"{short_path(path)}: got `# @package _global_`, expected tasks.{name}. Leave the line out."
            )
        return values


class TasksOfRun(_TaskSource):
    """The tasks in the configuration of a run, for a file that has vanished since the run began."""

    @staticmethod
    def scheme() -> str:
        return "run-tasks"

    def _tasks(self) -> Any:
        try:
            return OmegaConf.select(OmegaConf.load(self.folder / "config.yaml"), "tasks") or {}
        except (OSError, ValueError, AttributeError, RecursionError, YAMLError, OmegaConfBaseException):
            return {}  # open_run reports what is wrong with it

    def names(self) -> list[str]:
        return sorted(map(str, self._tasks()))

    def values(self, name: str) -> Any:
        log.info(
            "task: %s is taken from %s, because there is no file of it any more", name, self.folder / "config.yaml"
        )
        return self._tasks()[name]


def with_task_sources(overrides: list[str]) -> list[str]:
    """The overrides, with a search path of Hydra on which own tasks are found as well.

    Raises: UserError if task_dir is no folder, or holds a task under the name of one of conf/task that is asked for.
    """
    for source in (TaskFolder, TasksOfRun):
        SourcesRegistry.instance().register(source)
    entries, names = search_path(overrides), set(_names(_value(overrides, "task")))
    folders = task_folders(overrides)
    for folder in folders:
        if shadowed := sorted(
            names & {path.stem for path in visible_paths(folder, "*.yaml")} & set(group_choices(GROUP))
        ):
            raise UserError(
                f"{short_path(folder / shadowed[0])}.yaml: got the name of a task of this project, expected another, because its results "
                f"would be taken for {shadowed[0]}'s. Rename the file and its `name:`."
            )
    sources = [f"{TaskFolder.scheme()}://{quote(str(folder.resolve()))}" for folder in folders]
    sources.append(f"{TasksOfRun.scheme()}://{quote(str(_run_folder(overrides)))}")
    return with_search_path(overrides, [*sources, *entries])


def with_search_path(overrides: list[str], entries: list[str]) -> list[str]:
    """The overrides with another search path of Hydra."""
    others = [override for override in overrides if not override.startswith("hydra.searchpath=")]
    return [*others, f"hydra.searchpath=[{','.join(map(_quoted, entries))}]"]


def task_folders(overrides: list[str]) -> list[Path]:
    """Folders with tasks of the user's own: task_dir, and `task` in folders of Hydra's search path.

    Raises: UserError if task_dir is no folder, unless a run has begun whose configuration has the tasks.
    """
    task_dir = _value(overrides, "task_dir")
    folders = [Path(str(task_dir)).expanduser()] if task_dir is not None else []
    for folder in folders:
        if (
            not folder.is_dir()
            and not TasksOfRun("run", f"{TasksOfRun.scheme()}://{quote(str(_run_folder(overrides)))}").names()
        ):
            raise UserError(
                f"task_dir: got {short_path(folder)}, which is no folder, expected one with <task>.yaml. Correct the path."
            )
    folders = [folder for folder in folders if folder.is_dir()]
    searched = (Path(entry.removeprefix("file://")) / GROUP for entry in search_path(overrides))
    return [*folders, *(folder for folder in searched if folder.is_dir() and not folder.samefile(CONF / GROUP))]


def unknown_task(err: Exception, overrides: list[str]) -> str | None:
    """The message for Hydra's error about a task that no source has; None for its other errors."""
    match = re.search(r"Could not (?:find|load) 'task/([^']*)'", str(err))
    if match is None:
        return None
    folders = [CONF / GROUP, *task_folders(overrides)]
    places = " or ".join("conf/task/" if folder == CONF / GROUP else f"{short_path(folder)}/" for folder in folders)
    names = [path.stem for folder in folders for path in visible_paths(folder, "*.yaml")]
    hint = "" if len(folders) > 1 else " A task of your own: task_dir=<the folder of its file>."
    return f"task: got {match[1]!r}, expected a file of {places}. {did_you_mean(match[1], names)}{hint}"


def search_path(overrides: list[str]) -> list[str]:
    """The search path of Hydra that the overrides give: `file://` and a folder, each."""
    entries = _value(overrides, "hydra.searchpath")
    return [str(entry) for entry in entries] if isinstance(entries, list) else []


def _run_folder(overrides: list[str]) -> Path:
    """The run directory, as far as the overrides determine it."""
    experiment = next((item.partition("=")[2] for item in overrides if item.startswith("+experiment=")), "run")
    folder = _value(overrides, "run.dir") or f"outputs/{_value(overrides, 'name') or experiment}"
    return Path(str(folder)).expanduser()


def _names(value: object) -> list[str]:
    return [str(item) for item in (value if isinstance(value, list) else [value] if value is not None else [])]


def _value(overrides: list[str], key: str) -> Any:
    """The value of the last override of a key; None if there is none, or Hydra will refuse it."""
    matches = [override for override in overrides if re.match(rf"\+{{0,2}}{re.escape(key)}=", override)]
    try:
        return OverridesParser.create().parse_override(matches[-1]).value() if matches else None
    except HydraException:
        return None


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
