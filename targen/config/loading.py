"""Turns the composed configuration into checked settings. Only this module and the command line see OmegaConf objects."""

from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationToMissingValueError, MissingMandatoryValue

from targen.config.rules.rule import broken_rules
from targen.config.rules.table import RULES
from targen.config.settings import Settings
from targen.config.validation import check
from targen.runtime.errors import UserError
from targen.runtime.jsonl import Json, check_unicode

_NO_TASK = "task: got an empty list, expected at least one task. Name tasks, as in 'task=[cb,copa]'."


def settings_from(cfg: DictConfig) -> Settings:
    """The checked settings. Raises: UserError with one line per problem, in the order of the file."""
    try:
        values = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except (InterpolationToMissingValueError, MissingMandatoryValue):
        missing = sorted(OmegaConf.missing_keys(cfg))
        lines = (f"{key}: got nothing, expected a value. Set it: {key}=..." for key in missing)
        raise UserError("\n".join(lines)) from None
    assert isinstance(values, dict)
    check_texts(values)
    if not values.get("tasks"):
        raise UserError(_NO_TASK)
    settings = check(Settings, values)
    if problems := broken_rules(RULES, settings):
        raise UserError("\n".join(problems))
    return settings


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


def as_values(cfg: DictConfig) -> Json:
    """The resolved configuration as plain values, as in config.yaml, without the part that belongs to Hydra."""
    values = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items() if key != "hydra"}
