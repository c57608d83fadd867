"""Resubmits the missing and failed parts of a grid, and the jobs that depend on them.

`slurm/resubmit.sh <run.dir> [--dry-run] [overrides]`
"""

import argparse
import os
import shlex
import sys
from pathlib import Path

from slurm.status import submissions
from slurm.submit import run
from targen.runtime.cli import USER_ERROR, program
from targen.runtime.errors import UserError
from targen.runtime.paths import RunPaths


def submitted_overrides(root: str) -> list[str]:
    """The overrides of the newest submission of a run. Also changes to its working directory, for relative paths.

    Raises: UserError if nothing was submitted.
    """
    paths = RunPaths(Path(root.removeprefix("run.dir=")).resolve())
    submitted = submissions(paths)
    if not submitted:
        raise UserError(
            f"run.dir: nothing was submitted from {root}. Submit the grid: {program('slurm/submit.sh', 'submit')} ... run.dir={shlex.quote(str(root))}"
        )
    newest = submitted[-1].grid
    os.chdir(newest["cwd"])
    return list(newest["overrides"])


def main() -> None:
    """Resubmits the grid that the command line names, and exits."""
    parser = argparse.ArgumentParser(
        program("slurm/resubmit.sh"),
        description="Resubmits the missing and failed parts of a grid, and the jobs that depend on them.",
        epilog="Further key=value arguments are added to the overrides of the newest submission.",
        allow_abbrev=False,
    )
    parser.add_argument("run_dir", metavar="RUN_DIR", help="the run.dir of the grid")
    parser.add_argument("--dry-run", action="store_true", help="only print the jobs")
    options, extra_overrides = parser.parse_known_args()
    try:
        overrides = submitted_overrides(options.run_dir)
    except (UserError, OSError) as err:
        print(f"error: {err}", file=sys.stderr)  # noqa: T201
        sys.exit(USER_ERROR)
    run(options.dry_run, [*overrides, *extra_overrides])


if __name__ == "__main__":
    main()
