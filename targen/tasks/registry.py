"""The class of a task, found by the task's name."""

import importlib
import importlib.util
from dataclasses import fields

from targen.tasks.choosing import Choosing
from targen.tasks.task import Task

PAPER_TASKS = ("axg", "boolq", "cb", "copa", "record", "rte", "wic", "wsc")  # Source: arXiv 2310.17876
LEADERBOARD_TASKS = ("boolq", "cb", "copa", "multirc", "record", "rte", "wic", "wsc")  # whose mean is SuperGLUE's score
SUPERGLUE_TASKS = tuple(sorted({*PAPER_TASKS, *LEADERBOARD_TASKS, "axb"}))  # with rows in its official format


def task_class(name: str) -> type[Task]:
    """The only subclass of Task in targen/tasks/formats/<name>.py; Task itself if there is no such module."""
    module_name = f"targen.tasks.formats.{name}"
    if not name.isidentifier() or importlib.util.find_spec(module_name) is None:
        return Task
    module = importlib.import_module(module_name)
    (format_class,) = (
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Task) and value.__module__ == module_name
    )
    return format_class


def with_format(task: Task) -> Task:
    """The task as an instance of its own class; without one, of the class for its `choices`."""
    format_class = task_class(task.name)
    if format_class is Task and task.choices == "texts":
        format_class = Choosing
    if type(task) is format_class:
        return task
    return format_class(**{field.name: getattr(task, field.name) for field in fields(task)})
