"""Errors that a user can correct: one line each, exit code 2, no traceback."""

import difflib
from collections.abc import Iterable

MOST_OPTIONS = 20  # listed in an error message


class UserError(Exception):
    """A mistake of the user. The text is ready to print: `where: got <value>, expected <what>. <what to do>`."""


class RowError(Exception):
    """A row, an instance seed or an answer that breaks a rule of its task; the text is the reason."""


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """`Did you mean 'x'?` for the closest option, or the list of options, as one sentence."""
    known = sorted(options)
    close = difflib.get_close_matches(word, known, n=1)
    if close:
        return f"Did you mean {close[0]!r}?"
    return f"Known: {', '.join(known)}." if len(known) <= MOST_OPTIONS else "See --help."
