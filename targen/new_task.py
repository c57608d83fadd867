"""Writes a commented file for a task of your own: `python -m targen.new_task tickets --labels billing,shipping,other`."""

import argparse
import sys
from pathlib import Path

from targen.runtime.cli import exit_code_of, program
from targen.runtime.errors import UserError
from targen.runtime.paths import CONF
from targen.tasks.task_file import labels_in, task_file


def main() -> int:
    """Writes the file and says what to do next; the exit code."""
    arguments = _arguments()
    path = new_task(arguments.name, arguments.dir, labels_in(arguments.labels))
    sys.stdout.write(
        f"{path}: written. Describe the task and its labels in it; its first lines have the command that tries it. "
        "docs/own_task.md explains every key.\n"
    )
    return 0


def new_task(name: str, folder: Path, labels: list[str]) -> Path:
    """The file of a new task. Raises: UserError if there is one already, or the name cannot be used."""
    text, path = task_file(name, labels, str(folder)), folder / f"{name}.yaml"
    if (CONF / "task" / path.name).exists():
        raise UserError(f"name: got {name!r}, a task of this project, expected another name. Change it.")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UserError(f"{path}: is there already. Choose another name, or remove it.") from None
    return path


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        program("python -m targen.new_task"), description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", metavar="NAME", help="of the task and its file: letters, digits and underscores")
    parser.add_argument(
        "--dir", type=Path, default=Path("my_tasks"), help="folder for it, the task_dir= of a run (%(default)s)"
    )
    parser.add_argument("--labels", default="", metavar="A,B,C", help="names of the labels; numbers have an order")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
