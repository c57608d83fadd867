"""Analyses data: `python -m eval.analyze +experiment=quickstart`, or of any two data sets `a=<dir> b=<dir>`.

In a run, it compares the original rows (a) with the synthetic ones (b) and writes <run.dir>/analysis.
"""

import logging
import os
import sys
from functools import partial
from typing import Any

from eval.analysis.arguments import AnalyzeArguments, parse_arguments
from targen.config.groups.analysis import ANALYSIS_PARTS
from targen.config.loading import settings_from
from targen.config.run_directory import open_run
from targen.llm.messages import AwaitingAnswers
from targen.runtime.cli import AWAITING, CHILD, REQUEUE, USER_ERROR, main, program
from targen.runtime.errors import UserError
from targen.runtime.lock.run_lock import hold_lock
from targen.runtime.signals import Stopped, StopRequest

log = logging.getLogger(__name__)
HELP = """{program}: measures difficulty, diversity, bias, correctness and contamination of data sets

  {program} [+experiment=NAME] [key=value ...]             compares a run's original and synthetic rows
  {program} a=DIR b=DIR [task=[cb,rte]] [run.dir=DIR] ...  compares two data sets: DIR/CB/train.jsonl, or a run's synthetic/
  {program} sheet=FILE [+experiment=NAME] ...              reads the filled-in sheet of the human check

  analysis.parts=[{parts}]   all keys: conf/analysis/default.yaml
"""


def phase(arguments: AnalyzeArguments, cfg: Any, overrides: list[str]) -> int:
    """Runs the analyses, or reads a sheet; the exit code."""
    settings = settings_from(cfg) if arguments.compares_folders else open_run(cfg, write=False)
    from eval.analysis.run import analyze, check, draw, plan, take_sheet

    check(settings)
    planned = settings.plan and os.environ.get(CHILD)  # of a run that is to come
    if not planned and not arguments.compares_folders and not settings.paths.root.is_dir():
        raise UserError(
            f"run.dir: {settings.paths.root} does not exist, expected a run. Name one, or two folders: a=... b=..."
        )
    if settings.plan:
        print(plan(settings, arguments), end="")  # noqa: T201
        return 0
    with StopRequest() as stop, hold_lock(settings.paths.root):
        try:
            if arguments.sheet is not None:
                text = take_sheet(settings, arguments, arguments.sheet)
            else:
                text = analyze(settings, arguments, stop)
            figures = draw(settings)
        except AwaitingAnswers as waiting:
            log.info("analyze: %s", waiting)
            return AWAITING
        except Stopped:
            log.warning("analyze: told to stop. Progress is saved; rerun the command to resume.")
            return REQUEUE
    if not os.environ.get(CHILD):  # the page of a run shows the summary
        print(text, end="")  # noqa: T201
    log.info("analyze: %s, figures/ has %s", settings.paths.analysis, ", ".join(figures) or "nothing to draw")
    return 0


def command(arguments: list[str]) -> None:
    """Runs the command line, and exits. `a=`, `b=` and `sheet=` are mixed with Hydra's overrides, so argparse does not fit."""
    if {"-h", "--help"} & set(arguments):
        print(HELP.format(program=program("python -m eval.analyze"), parts=",".join(ANALYSIS_PARTS)), end="")  # noqa: T201
        sys.exit(0)
    try:
        parsed, overrides = parse_arguments(arguments)
    except UserError as err:
        print(f"error: {err}", file=sys.stderr)  # noqa: T201
        sys.exit(USER_ERROR)
    sys.argv[1:] = overrides
    main("eval.analyze", "measures properties of data sets", partial(phase, parsed))


if __name__ == "__main__":
    command(sys.argv[1:])
