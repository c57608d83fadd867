"""Hydra's flags on a command line, apart from its overrides: --cfg job, --info, -m."""

from argparse import Namespace
from collections.abc import Sequence
from typing import NoReturn

from targen.runtime.errors import UserError, did_you_mean

CONFIG_NAME = "--config-name="  # in a list of overrides: it goes on to the phases, as an override does
PRINTING = ("cfg", "info", "hydra_help")  # flags that print something in place of a run
REFUSED = {
    "config_path": "expected our own conf/ with folders of yours beside it. Name them: --config-dir",
    "experimental_rerun": "expected the overrides of the run. Type its command again: it resumes",
}


def flags_and_overrides(arguments: Sequence[str]) -> tuple[Namespace, list[str]]:
    """Hydra's flags, and all other arguments in their order, among them --config-name=NAME.

    Flags and overrides may be mixed, which Hydra itself refuses. Raises: UserError for what Hydra does not know.
    """
    from hydra._internal.utils import get_args_parser

    parser = get_args_parser()
    parser.error = _refuse  # type: ignore[method-assign]
    flags, unknown = parser.parse_known_intermixed_args(list(arguments))
    if unknown:
        options = [name for action in parser._actions for name in action.option_strings if name.startswith("--")]
        raise UserError(f"{unknown[0]}: no such option. {did_you_mean(unknown[0].partition('=')[0], options)}")
    for name, words in REFUSED.items():
        if getattr(flags, name) is not None:
            raise UserError(f"--{name.replace('_', '-')}: got {getattr(flags, name)}, {words}.")
    set_flags = [name for name in (*PRINTING, "multirun", "shell_completion") if getattr(flags, name)]
    modes = [f"--{name.replace('_', '-')}" for name in set_flags]
    if len(modes) > 1:
        raise UserError(f"{modes[1]}: got it with {modes[0]}, expected one of them. Leave one out.")
    if (flags.resolve or flags.package) and not flags.cfg:
        raise UserError(f"{'--resolve' if flags.resolve else '--package'}: got it alone, expected it with --cfg job.")
    config_name = [f"{CONFIG_NAME}{flags.config_name}"] if flags.config_name is not None else []
    return flags, [*config_name, *flags.overrides]


def words_for_hydra(flags: Namespace) -> list[str]:
    """The flags as Hydra reads them."""
    words = ["--hydra-help"] * flags.hydra_help + ["--multirun"] * flags.multirun + ["--resolve"] * flags.resolve
    words += ["--shell-completion"] * flags.shell_completion
    return words + [f"--{name}={value}" for name in ("cfg", "info", "package") if (value := getattr(flags, name))]


def _refuse(message: str) -> NoReturn:
    raise UserError(f"{message.removeprefix('argument ')}. See --help.")
