"""What every setting means, from the text below each field of the settings.

`python -m targen.config.descriptions` writes these texts into conf/, as comments beside the keys.
"""

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

from targen.config.settings import Settings
from targen.runtime.jsonl import write_text
from targen.runtime.paths import CONF
from targen.tasks.task import Task

# The file of each group whose comments explain the keys, and where its keys lie. Other files only set values.
COMMENTED = {
    "config.yaml": "",
    **{f"{group}/default.yaml": group for group in ("analysis", "data", "eval", "synth", "train")},
    **{
        f"generator/{name}.yaml": "generator"
        for name in ("batch", "openai", "python", "recorded", "transformers", "vllm")
    },
    "cluster/small.yaml": "cluster",
    "model/minilm.yaml": "model",
}
COLUMN, WIDTH, NARROW = 25, 128, 32  # of the comments: where they start and end; no comment where less room is left
_KEY_LINE = re.compile(r"^( *)(\w+):( +[^#\s].*?)?(?: +#.*)?$")
_CONTINUED = re.compile(rf"^ {{{COLUMN - 5},}}#")


def descriptions() -> dict[str, str]:
    """The description of every key, also of groups: `train`, `train.lora`, `train.lora.r`. Tasks have their own files."""
    return dict(_described(Settings, ""))


def _described(settings: Any, prefix: str) -> Iterator[tuple[str, str]]:
    for name, field in settings.__pydantic_fields__.items():
        yield prefix + name, " ".join((field.description or "").split())
        for group in _groups(field.annotation):
            yield from _described(group, f"{prefix}{name}.")


def _groups(annotation: Any) -> list[Any]:
    """The settings classes in a type such as `Lora | None`; none for dictionaries, whose keys are the user's."""
    if hasattr(annotation, "__pydantic_fields__") and annotation is not Task:
        return [annotation]
    return [] if get_origin(annotation) is dict else [group for part in get_args(annotation) for group in _groups(part)]


def with_comments(text: str, prefix: str) -> str:
    """The YAML text with the description of each key as its comment; `prefix` is the group that the keys belong to."""
    all_descriptions, lines = descriptions(), []
    parents: list[tuple[int, str]] = []  # indent and name of the groups around the line
    for line in text.splitlines():
        if _CONTINUED.match(line):
            continue
        match = _KEY_LINE.match(line)
        if match is not None:
            indent = len(match[1])
            parents = [*((depth, name) for depth, name in parents if depth < indent), (indent, match[2])]
            description = all_descriptions.get(".".join([*filter(None, [prefix]), *(name for _, name in parents)]))
            lines += [line] if description is None else _beside(f"{match[1]}{match[2]}:{match[3] or ''}", description)
        else:
            lines.append(line)
    return "\n".join(lines) + "\n"


def _beside(setting: str, description: str) -> list[str]:
    start = max(COLUMN, len(setting) + 2)
    if WIDTH - start < NARROW:
        return [setting]
    first = textwrap.wrap(description, WIDTH - start - 2, break_on_hyphens=False)[0]
    rest = textwrap.wrap(description[len(first) :].strip(), WIDTH - COLUMN - 2, break_on_hyphens=False)
    return [f"{setting:<{start}}# {first}", *(f"{'':{COLUMN}}# {line}" for line in rest)]


def commented_files() -> Iterator[tuple[Path, str]]:
    """Each file of COMMENTED with the text that it should have."""
    for name, prefix in COMMENTED.items():
        path = CONF / name
        yield path, with_comments(path.read_text(encoding="utf-8"), prefix)


if __name__ == "__main__":
    for path, text in commented_files():
        write_text(path, text)
