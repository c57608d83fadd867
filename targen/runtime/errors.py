"""Errors that a user can correct: one line each, exit code 2, no traceback."""

import difflib
import errno
from collections.abc import Iterable
from pathlib import Path

MOST_OPTIONS = 20  # listed in an error message
LONGEST_PATH = 200  # characters of a path in an error message
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_REMEDIES = {
    **dict.fromkeys(_FULL, "Free some space, then rerun the command to resume."),
    errno.EROFS: "Make it writable, or choose a different run.dir.",
    errno.EACCES: "Get access to it, or choose a different path.",
    errno.EPERM: "Get access to it, or choose a different path.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
}


class UserError(Exception):
    """A mistake of the user. The text is ready to print: `where: got <value>, expected <what>. <what to do>`."""

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows of it, by a convention of IPython: the text alone, as on the command line."""
        return [f"error: {line}" for line in str(self).splitlines()]


class Unreachable(UserError):
    """Something on the Hub that is neither on this machine nor can be reached. A plan does without it."""


class RowError(Exception):
    """A row, an instance seed or an answer that breaks a rule of its task; the text is the reason."""


def disk_error(err: OSError) -> UserError | None:
    """The error for a disk that is full, read-only or broken, and for a path that cannot be used; None for any other error.

    A folder in the place of a file that the project writes is none of these: it is a bug, or an accident.
    """
    if err.errno is None or isinstance(err, (ConnectionError, TimeoutError, ChildProcessError, IsADirectoryError)):
        return None
    return UserError(f"{short_path(err.filename or 'the disk')}: {err.strerror}. {remedy(err)}")


def remedy(err: OSError) -> str:
    """What to do about a disk or a path that failed."""
    return _REMEDIES.get(err.errno or 0, "Check the path and the disk, then rerun the command to resume.")


def short_path(path: str | Path) -> str:
    """The path, without its middle if it is too long for a line."""
    text, half = str(path), LONGEST_PATH // 2
    return text if len(text) <= LONGEST_PATH else f"{text[:half]}...{text[-half:]}"


def one_line(text: object, limit: int | None = None) -> str:
    """An error or a text on one line, cut after `limit` characters."""
    return " ".join(str(text).split())[:limit]


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """`Did you mean 'x'?` for the closest option, or the list of options, as one sentence."""
    names = sorted(options)
    close = difflib.get_close_matches(word, names, n=1)
    if close:
        return f"Did you mean {close[0]!r}?"
    return f"Known: {', '.join(names)}." if len(names) <= MOST_OPTIONS else "See --help."
