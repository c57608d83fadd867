"""Tasks by name, or from a file of the user's own."""

from pathlib import Path

from targen.config.group_files import task_from_file
from targen.tasks.task import Task


def load_task(source: str | Path) -> Task:
    """The task of this name (`cb`), or in this YAML file (`my_tasks/tickets.yaml`).

    It is frozen; `dataclasses.replace` changes a copy. Raises: UserError if there is none, or with what is wrong in the file.
    """
    return task_from_file(str(source))
