"""The configuration composed inside somebody else's program."""

from collections.abc import Mapping
from threading import Lock
from typing import Any

from targen.runtime.cli import compose

_composing = Lock()  # a process has one Hydra


def compose_in_program(overrides: list[str]) -> Any:
    """The composed configuration. If the program itself was started by Hydra, its instance is put aside meanwhile.

    Raises: UserError for everything that Hydra refuses.
    """
    from hydra.core.global_hydra import GlobalHydra

    with _composing:
        outer_hydra = GlobalHydra.instance().hydra
        GlobalHydra.instance().hydra = None
        try:
            return compose(overrides)
        finally:
            GlobalHydra.instance().hydra = outer_hydra


def hydra_text(value: object) -> str:
    """A value as Hydra reads it on the command line."""
    from hydra.core.override_parser.types import Quote, QuotedString

    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{name}:{hydra_text(item)}" for name, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(hydra_text, value)) + "]"
    return repr(value) if isinstance(value, (int, float)) else QuotedString(str(value), Quote.single).with_quotes()
