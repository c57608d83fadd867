"""The file of a new task: a commented template that runs as it is."""

import csv
import shlex
from collections.abc import Sequence
from pathlib import Path

import yaml
from jinja2 import Environment, StrictUndefined

from targen.runtime.errors import UserError
from targen.tasks.own_task import is_task_name

EXAMPLE = {  # the labels without --labels
    "praise": "the writer is content and has no wish",
    "complaint": "the writer is not content with something, or wants it mended",
    "question": "the writer wants to know something",
}
TEMPLATE = Path(__file__).with_name("task_file.yaml.j2")


def task_file(name: str, labels: Sequence[str], folder: str) -> str:
    """The text of `<name>.yaml`. Raises: UserError for a name that no task can have, and for labels that are too few or repeat."""
    if not is_task_name(name):
        raise UserError(
            f"name: got {name!r}, expected letters, digits and underscores, and none that this project uses itself. Change it."
        )
    if labels and (len(labels) < 2 or len(set(labels)) < len(labels) or not all(labels)):
        raise UserError(f"--labels: got {','.join(labels)!r}, expected two or more different names: --labels spam,ham.")
    are_numbers = bool(labels) and all(label.isdecimal() for label in labels)
    keys = [label if are_numbers else _quoted(label) for label in labels or EXAMPLE]
    lines = ['""  # <- what gets this label?'] * len(labels) or list(EXAMPLE.values())
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True)
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        name=name, folder=shlex.quote(folder), labels=list(zip(keys, lines, strict=True)), ordinal=are_numbers
    )


def labels_in(text: str) -> list[str]:
    """The names in a list with commas; a name with a comma stands in double quotes."""
    return [name.strip() for name in next(csv.reader([text], skipinitialspace=True), [])]


def _quoted(label: str) -> str:
    """The label as a key of YAML, in quotes if it would be read as something else than a text."""
    return yaml.safe_dump({label: 0}, allow_unicode=True, width=1000).removesuffix(": 0\n")
