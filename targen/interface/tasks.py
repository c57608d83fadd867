"""Tasks by name, or from a file of the user's own."""

from pathlib import Path

from targen.config.group_files import task_from_file
from targen.config.loading import as_values, mistakes_by_file
from targen.config.validation import check
from targen.interface.composing import compose_in_program, hydra_text
from targen.runtime.errors import UserError
from targen.tasks.registry import with_format
from targen.tasks.specification_checks import task_problems
from targen.tasks.task import Task


def load_task(source: str | Path) -> Task:
    """The task of this name (`cb`), or in this file (`my_tasks/tickets.yaml`), complete.

    It is frozen; `dataclasses.replace` changes a copy. Raises: UserError if there is none, or with what is wrong in the file.
    """
    path = Path(source).expanduser()
    if path.suffix != ".yaml":
        return task_from_file(str(source))
    folder, name = str(path.parent), path.stem
    values = as_values(compose_in_program([f"task_dir={hydra_text(folder)}", f"task=[{hydra_text(name)}]"]))
    with mistakes_by_file(folder):
        task = with_format(check(Task, values["tasks"][name], f"tasks.{name}"))
        if problems := task_problems(task):
            raise UserError("\n".join(problems))
    return task
