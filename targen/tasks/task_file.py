"""The text of a new task's file: what there is to say in it, with comments, so that it runs as it is."""

import csv
import shlex
from collections.abc import Sequence

import yaml

from targen.runtime.errors import UserError
from targen.tasks.own_task import is_task_name

EXAMPLE = {  # the labels without --labels
    "praise": "the writer is content and has no wish",
    "complaint": "the writer is not content with something, or wants it mended",
    "question": "the writer wants to know something",
}
_ORDINAL = """
# The labels have an order, from the lowest to the highest: scores tell how far off an answer is.
ordinal: true
"""
_FILE = """\
# The task {name}. docs/own_task.md explains every key; what is left out has a default. Try it, without a call:
#   python -m targen.generate task={name} task_dir={folder} synth.size=40 generator=openai generator.model=NAME plan=true
# The whole task, with all prompts as they are asked, stands in config.yaml of a run's folder.

# What a reader of a row decides, in one or two sentences. Every prompt shows it.
description: Say which label a text gets.  # <- write your own

# The labels, each with a line that says what gets it, as you would tell a colleague. The lines go into every prompt, so say what
# goes with a label in ordinary language, and leave no row between two labels. Two to fifty labels; one per row.
labels:
{labels}

# The texts of a row, each with what it is. Who writes it, to whom, and in what form? "A support ticket as a customer writes it"
# gives other rows than "a text".
fields:
  text: a short message to a company as a customer writes it  # <- write your own
{ordinal}
# What varies between rows, drawn for each in these proportions and named in the prompt. Lengths and registers that your texts have
# are worth more than these defaults: a language model writes everything with the same even length, and more ornate than people do.
# What goes with a label in ordinary language is drawn by label. Do not cross it with the label, or models learn nothing of it.
# variants:
#   length: {{under 10 words: 1, 10 to 30 words: 3, 30 to 80 words: 2}}
#   register:
{register}
#   writer: null                     # leaves out a default: length, writer and label_shows have one

# Where rows come from: what the contexts of step 1 are. A context must suit every label, or its topic gives the label away.
# contexts: kinds of companies and of their customers

# Real rows to score on: a file with these columns, data.source=local data.dir=my_rows.csv. Without any, a part of the synthetic rows
# is kept for it.
# columns: {{text: message, label: category}}

# Look at a pilot before you pay for thousands: synth.pilot=48 writes 48 rows, says what a small model learns from them, and
# shows the hardest ones. Too easy is a warning as well: rows with a shortcut that real ones do not have.
"""


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
    return _FILE.format(
        name=name,
        folder=shlex.quote(folder),
        labels="\n".join(f"  {key}: {line}" for key, line in zip(keys, lines, strict=True)),
        ordinal=_ORDINAL if are_numbers else "",
        register="\n".join(f"#     {key}: {{a chat: 2, a mail: 1}}" for key in keys),
    )


def labels_in(text: str) -> list[str]:
    """The names in a list with commas; a name with a comma stands in double quotes."""
    return [name.strip() for name in next(csv.reader([text], skipinitialspace=True), [])]


def _quoted(label: str) -> str:
    """The label as a key of YAML, in quotes if it would be read as something else than a text."""
    return yaml.safe_dump({label: 0}, allow_unicode=True, width=1000).removesuffix(": 0\n")
