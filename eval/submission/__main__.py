"""Checks an archive for the leaderboard: `python -m eval.submission FILE.zip`."""

import sys
from collections.abc import Sequence
from pathlib import Path

from eval.submission.archive_format import problems
from targen.runtime.cli import USER_ERROR

HELP = """eval.submission: checks an archive for the SuperGLUE leaderboard

  python -m eval.submission FILE.zip

Names, rows, spellings; exit code 0 if nothing is wrong, 2 with a line for each problem.
"""


def main(arguments: Sequence[str]) -> int:
    if "-h" in arguments or "--help" in arguments:
        sys.stdout.write(HELP)
        return 0
    if len(arguments) != 1:
        sys.stderr.write(
            f"error: got {len(arguments)} arguments, expected one archive: python -m eval.submission FILE.zip\n"
        )
        return USER_ERROR
    found = problems(Path(arguments[0]))
    for problem in found:
        sys.stderr.write(f"error: {arguments[0]}: {problem}\n")
    if not found:
        sys.stdout.write(f"{arguments[0]}: all files are there and well-formed\n")
    return USER_ERROR if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
