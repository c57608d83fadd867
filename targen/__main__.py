"""The console command: `targen VERB ...`, or `python -m targen VERB ...`.

Each verb runs a module as `python -m` would, but never a file of the user's that has its name: a train.py, an eval.py.
"""

import runpy
import sys
from pathlib import Path

from targen.runtime.cli import USER_ERROR, exit_code_of, use_utf8
from targen.runtime.command_line.completion import completion_script
from targen.runtime.command_line.verbs import VERBS
from targen.runtime.command_line.version import __version__
from targen.runtime.errors import did_you_mean
from targen.runtime.paths import PROJECT

PACKAGES = ("targen", "train", "eval", "slurm")
HELP = """targen {version}: synthetic training data from a description of a task, models trained on them, and their scores

  targen VERB [arguments]

{verbs}

targen VERB --help says more. The verbs are also modules: targen train is python -m train.run.
Completion in bash: eval "$(targen -sc install=bash)"
"""


def main() -> None:
    """Runs a verb with its arguments, and exits as its module does; with 2 if there is no such verb."""
    use_utf8()
    verb, *arguments = sys.argv[1:] or ["--help"]
    if verb in ("-h", "--help", "help"):
        verbs = "\n".join(f"  {name:10}{summary}" for name, (_, summary) in VERBS.items())
        sys.exit(sys.stdout.write(HELP.format(version=__version__, verbs=verbs)) and 0)
    if verb == "--version":
        sys.exit(sys.stdout.write(f"targen {__version__}\n") and 0)
    if verb in ("-sc", "--shell-completion"):
        sys.exit(exit_code_of(lambda: sys.stdout.write(completion_script(arguments)) and 0))
    if verb not in VERBS:
        sys.stderr.write(f"error: targen: got {verb!r}, expected a verb. {did_you_mean(verb, VERBS)}\n")
        sys.exit(USER_ERROR)
    module, _ = VERBS[verb]
    sys.path[:] = _project_first(sys.path)
    sys.argv = [f"targen {verb}", *arguments, *(["plan=true"] if verb == "plan" else [])]
    runpy.run_module(module, run_name="__main__")


def _project_first(path: list[str]) -> list[str]:
    """The search path, with folders that hold other modules by our packages' names moved behind the project."""
    others = [folder for folder in path if Path(folder).resolve() != PROJECT and _has_our_module_names(Path(folder))]
    first = [folder for folder in path if folder not in others]
    has_project = any(Path(folder).resolve() == PROJECT for folder in first)
    return [*first, *([] if has_project else [str(PROJECT)]), *others]


def _has_our_module_names(folder: Path) -> bool:
    return any((folder / f"{name}.py").exists() or (folder / name / "__init__.py").exists() for name in PACKAGES)


if __name__ == "__main__":
    main()
