"""What is in the data: `python -m eval.analyze +experiment=quickstart`, or of any two data sets `a=<dir> b=<dir>`.

In a run, the original rows (a) beside the synthetic ones (b); into <run.dir>/analysis.
"""

import logging
import os
import sys
from functools import partial
from typing import Any

from eval.analysis.arguments import Own, own_arguments
from targen.config.loading import settings_from
from targen.config.run_directory import open_run
from targen.runtime.cli import CHILD, REQUEUE, USER_ERROR, main
from targen.runtime.errors import UserError
from targen.runtime.run_lock import locked
from targen.runtime.signals import Stopped, StopRequest

log = logging.getLogger(__name__)
HELP = """python -m eval.analyze: what is in the data: difficulty, diversity, bias, correctness, contamination

  python -m eval.analyze [+experiment=NAME] [key=value ...]             original rows beside a run's synthetic ones
  python -m eval.analyze a=DIR b=DIR [task=[cb,rte]] [run.dir=DIR] ...  two data sets: DIR/CB/train.jsonl, or a run's synthetic/
  python -m eval.analyze sheet=FILE [+experiment=NAME] ...              takes a filled-in sheet of the human check

  analysis.parts=[lexical,semantic,bias,correctness,contamination,difficulty]   all keys: conf/analysis/default.yaml
"""


def phase(own: Own, cfg: Any, overrides: list[str]) -> int:
    settings = settings_from(cfg) if own.outside else open_run(cfg, write=False)
    from eval.analysis.run import analyze, check, draw, take_sheet

    check(settings)
    if not own.outside and not settings.paths.root.is_dir():
        raise UserError(
            f"run.dir: {settings.paths.root} is not there, expected a run. Name one, or two folders: a=... b=..."
        )
    with StopRequest() as stop, locked(settings.paths.root):
        try:
            text = take_sheet(settings, own) if own.sheet is not None else analyze(settings, own, stop)
            figures = draw(settings)
        except Stopped:
            log.warning("analyze: told to stop. Progress is saved; rerun the command to resume.")
            return REQUEUE
    if not os.environ.get(CHILD):  # as a phase of a run, whose page shows it
        print(text, end="")  # noqa: T201
    log.info("analyze: %s, figures/ has %s", settings.paths.analysis, ", ".join(figures) or "nothing to draw")
    return 0


def command(arguments: list[str]) -> None:
    """Runs what was typed, and exits."""
    if {"-h", "--help"} & set(arguments):
        print(HELP, end="")  # noqa: T201
        sys.exit(0)
    try:
        own, rest = own_arguments(arguments)
    except UserError as err:
        print(f"error: {err}", file=sys.stderr)  # noqa: T201
        sys.exit(USER_ERROR)
    sys.argv[1:] = rest
    main("eval.analyze", "what is in the data", partial(phase, own))


if __name__ == "__main__":
    command(sys.argv[1:])
