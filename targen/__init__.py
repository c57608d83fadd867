"""Synthesis of labelled data sets by the four steps of TarGEN (arXiv 2310.17876).

For notebooks and scripts, docs/python.md: `targen.load_task`, `targen.generate_rows`. `eval.Run` and `eval.score` go on from there.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from targen.runtime.command_line.version import __version__

if TYPE_CHECKING:
    from targen.interface.generation import generate_rows
    from targen.interface.rows import Reject, Rows, SyntheticRow
    from targen.interface.tables import Table
    from targen.interface.tasks import load_task
    from targen.llm.messages import LLM, Answer, AwaitingAnswers, Failure, Request
    from targen.runtime.errors import UserError
    from targen.tasks.task import Task

__all__ = [
    "LLM",
    "Answer",
    "AwaitingAnswers",
    "Failure",
    "Reject",
    "Request",
    "Rows",
    "SyntheticRow",
    "Table",
    "Task",
    "UserError",
    "__version__",
    "generate_rows",
    "load_task",
]
_MODULES = {
    "targen.interface.generation": ("generate_rows",),
    "targen.interface.rows": ("Reject", "Rows", "SyntheticRow"),
    "targen.interface.tables": ("Table",),
    "targen.interface.tasks": ("load_task",),
    "targen.llm.messages": ("LLM", "Answer", "AwaitingAnswers", "Failure", "Request"),
    "targen.runtime.errors": ("UserError",),
    "targen.tasks.task": ("Task",),
}


def __getattr__(name: str) -> object:
    """Imports a name at its first use: a command pays for nothing that it does not need."""
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module 'targen' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
