"""Configurations composed quickly: a test composes hundreds, and nearly half of the time went into parsing the same YAML files."""

import copy
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import yaml
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from targen.runtime.cli import compose
from targen.runtime.paths import CONF

_parse = yaml.load
_parsed: dict[str, Any] = {}


def composed(overrides: list[str]) -> Any:
    """The configuration as `compose` gives it. Choices of groups are composed once, values are applied to what they give,
    and a list of tasks is taken out of all tasks."""
    groups = [override for override in overrides if (CONF / override.lstrip("+~").partition("=")[0]).is_dir()]
    values = [override for override in overrides if override not in groups]
    task_lists = [override for override in groups if override.startswith("task=")]
    cfg = pickle.loads(_of_groups(*(override for override in groups if override not in task_lists)))
    try:
        if task_lists:
            names = task_lists[-1].removeprefix("task=").strip("[]").split(",")
            if len(task_lists) > 1 or not set(names) <= set(cfg.tasks) or len(set(names)) < len(names):
                return compose(overrides)
            cfg.tasks = {name: cfg.tasks[name] for name in names}
        ConfigLoaderImpl._apply_overrides_to_config(OverridesParser.create().parse_overrides(values), cfg)
    except (HydraException, OmegaConfBaseException):
        return compose(overrides)  # for its error
    return cfg


@cache
def _of_groups(*groups: str) -> bytes:
    with parsed_once():
        return pickle.dumps(compose(list(groups)))


@contextmanager
def parsed_once() -> Iterator[None]:
    """Within it, equal YAML texts are parsed once in this process, and in the forks that it starts later."""
    yaml.load = _load
    try:
        yield
    finally:
        yaml.load = _parse


def _load(stream: Any, Loader: Any) -> Any:
    text = stream if isinstance(stream, str) else stream.read()
    if text not in _parsed:
        if not isinstance(stream, str):
            stream.seek(0)
        _parsed[text] = _parse(stream, Loader=Loader)
    return copy.deepcopy(_parsed[text])
