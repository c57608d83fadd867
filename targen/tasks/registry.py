"""The class of a task, by the task's name."""

import importlib
import importlib.util
from dataclasses import fields

from targen.tasks.task import Task

PAPER_TASKS = ("axg", "boolq", "cb", "copa", "record", "rte", "wic", "wsc")  # Source: arXiv 2310.17876


def task_class(name: str) -> type[Task]:
    """The subclass of Task in targen/tasks/formats/<name>.py; Task itself, for rows that are named texts and a label,
    where there is no such module."""
    module_name = f"targen.tasks.formats.{name}"
    if not name.isidentifier() or importlib.util.find_spec(module_name) is None:
        return Task
    module = importlib.import_module(module_name)
    own = [value for value in vars(module).values() if isinstance(value, type) and issubclass(value, Task)]
    (found,) = [value for value in own if value.__module__ == module_name]
    return found


def with_format(task: Task) -> Task:
    """The task as an instance of its own class."""
    own = task_class(task.name)
    return task if type(task) is own else own(**{item.name: getattr(task, item.name) for item in fields(task)})
