"""Checks an archive for the leaderboard: `python -m eval.submission FILE.zip`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from eval.submission.archive_format import archive_problems
from targen.runtime.cli import USER_ERROR


def main(arguments: Sequence[str]) -> int:
    """Prints the problems of an archive, one per line; the exit code."""
    parser = argparse.ArgumentParser(
        "python -m eval.submission",
        description="Checks the names, rows and spellings in an archive for the SuperGLUE leaderboard.",
        epilog="Exit code 0 if nothing is wrong; 2 with one line per problem otherwise.",
    )
    parser.add_argument("archive", type=Path, metavar="FILE.zip")
    path = parser.parse_args(arguments).archive
    problems = archive_problems(path)
    for problem in problems:
        sys.stderr.write(f"error: {path}: {problem}\n")
    if not problems:
        sys.stdout.write(f"{path}: complete and well-formed\n")
    return USER_ERROR if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
