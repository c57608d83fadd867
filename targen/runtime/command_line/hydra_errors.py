"""Hydra's errors in one line each."""

import re

from targen.runtime.errors import did_you_mean, one_line, short_path
from targen.runtime.paths import CONF, group_choices

OPEN_KEYS = tuple(f"generator.{name}." for name in ("engine", "chat_template_kwargs", "extra_body", "rename"))


def hydra_message(err: Exception) -> str:
    """Hydra's message in the form of this project's messages."""
    from hydra.errors import OverrideParseException

    text = str(err.__cause__ or err) if "Error merging" in str(err) or "Could not override" in str(err) else str(err)
    if match := re.search(r"Could not (?:find|load) '(\w+)/([^']*)'", str(err)):
        group, got = str(match[1]), str(match[2])
        return f"{group}: got {got!r}, expected a file of conf/{group}/. {did_you_mean(got, group_choices(group))}"
    if match := re.search(r"Cannot find primary config '(.+?)'", str(err)):
        return f"--config-name: got {match[1]!r}, expected the name of a file of conf/ or of your --config-dir, without .yaml."
    if match := re.search(r"Ambiguous value for argument '(.+?)=(.*)'\s", str(err)):
        key, got = match[1], match[2]
        return f"{key}: got {got}, expected one value. Write a list as '{key}=[{got}]', a text with a comma as '{key}=\"{got}\"'."
    if isinstance(err, OverrideParseException):
        reason = one_line(err.message).removeprefix(f"Error parsing override '{err.override}'")
        return (
            f"{short_path(err.override)}: not an override ({reason.split(' See http')[0].strip()}), expected key=value. Quote a value "
            "with spaces or brackets: 'key=\"...\"'."
        )
    key = re.search(r"is not in struct\s+full_key: (\S+)", text, re.S) or re.search(
        r"Could not override '([^']+)'", str(err)
    )
    if key is not None:
        if key[1].startswith(OPEN_KEYS):
            return f"{key[1]}: got a key that is not there yet, expected a plus before a new one: +{key[1]}=..."
        keys = known_keys()
        if key[1] in keys:
            group = key[1].partition(".")[0]
            return f"{key[1]}: the chosen {group} has no such key. Remove it, or choose another {group}: {group}=..."
        return f"{key[1]}: no such key. {did_you_mean(key[1], keys)}"
    lines = [line.strip() for line in str(err).splitlines() if line.strip()]
    return " ".join(lines[:3]) + ". See --help."


def known_keys() -> list[str]:
    """All keys of all choices of all groups, and the groups."""
    from omegaconf import DictConfig, OmegaConf

    def walk(node: object, prefix: str) -> list[str]:
        if not isinstance(node, DictConfig):
            return []
        keys = []
        for key in map(str, node):
            keys += [prefix + key, *walk(node._get_node(key), f"{prefix}{key}.")]
        return keys

    config = OmegaConf.load(CONF / "config.yaml")
    groups = [str(group) for default in config.defaults if isinstance(default, DictConfig) for group in default]
    keys = walk(config, "")
    for group in groups:
        for name in group_choices(group):
            prefix = f"tasks.{name}." if group == "task" else f"{group}."
            keys += walk(OmegaConf.load(CONF / group / f"{name}.yaml"), prefix)
    return sorted({key for key in keys if not re.match(r"hydra|(\w+\.)?defaults$", key)} | set(groups))
