"""The console command: `targen VERB ...`, or `python -m targen VERB ...`.

Each verb runs a module as `python -m` would, but never a file of the user's that has its name: a train.py, an eval.py.
"""

import runpy
import sys
from pathlib import Path

from targen import __version__
from targen.runtime.cli import USER_ERROR, use_utf8
from targen.runtime.errors import did_you_mean
from targen.runtime.paths import PROJECT

VERBS = {  # verb: its module, and what it does
    "run": ("targen.run", "the whole run: generate, train, evaluate, report"),
    "plan": ("targen.run", "what a run would ask, train and cost; calls nothing (plan=true)"),
    "new-task": ("targen.new_task", "a commented file for a task of your own"),
    "generate": ("targen.generate", "writes the synthetic data set of every task"),
    "merge": ("targen.merge", "joins the shards of a generation"),
    "train": ("train.run", "finetunes every cell of the grid"),
    "launch": ("train.launch", "the same in several processes: targen launch ddp ..."),
    "evaluate": ("eval.run", "scores every trained cell on the evaluation data"),
    "scores": ("eval.scores", "merges scores that were made one cell at a time"),
    "analyze": ("eval.analyze", "measures properties of data sets"),
    "report": ("eval.report", "the tables, the figures and the page of a run, or of several"),
    "fetch": ("eval.fetch", "downloads what a run needs into the Hub's cache"),
    "submit": ("slurm.submit", "submits a grid to SLURM; --dry-run only prints the jobs"),
    "status": ("slurm.status", "the state of a submitted grid"),
    "resubmit": ("slurm.resubmit", "submits again what is missing or has failed"),
    "publish": ("targen.publish", "uploads a synthetic data set to the Hugging Face Hub"),
}
PACKAGES = ("targen", "train", "eval", "slurm")
HELP = """targen {version}: synthetic training data from a description of a task, models trained on them, and their scores

  targen VERB [arguments]

{verbs}

targen VERB --help says more. The verbs are also modules: targen train is python -m train.run.
"""


def main() -> None:
    """Runs a verb with its arguments, and exits as its module does; with 2 if there is no such verb."""
    use_utf8()
    verb, *arguments = sys.argv[1:] or ["--help"]
    if verb in ("-h", "--help", "help"):
        verbs = "\n".join(f"  {name:10}{words}" for name, (_, words) in VERBS.items())
        sys.exit(sys.stdout.write(HELP.format(version=__version__, verbs=verbs)) and 0)
    if verb == "--version":
        sys.exit(sys.stdout.write(f"targen {__version__}\n") and 0)
    if verb not in VERBS:
        sys.stderr.write(f"error: targen: got {verb!r}, expected a verb. {did_you_mean(verb, VERBS)}\n")
        sys.exit(USER_ERROR)
    module, _ = VERBS[verb]
    sys.path[:] = _ours_first(sys.path)
    sys.argv = [f"targen {verb}", *arguments, *(["plan=true"] if verb == "plan" else [])]
    runpy.run_module(module, run_name="__main__")


def _ours_first(path: list[str]) -> list[str]:
    """The search path, with what holds other modules of our packages' names behind ours."""
    others = [folder for folder in path if Path(folder).resolve() != PROJECT and _holds_our_names(Path(folder))]
    rest = [folder for folder in path if folder not in others]
    is_there = any(Path(folder).resolve() == PROJECT for folder in rest)
    return [*rest, *([] if is_there else [str(PROJECT)]), *others]


def _holds_our_names(folder: Path) -> bool:
    return any((folder / f"{name}.py").exists() or (folder / name / "__init__.py").exists() for name in PACKAGES)


if __name__ == "__main__":
    main()
