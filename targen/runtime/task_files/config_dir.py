"""Hydra's --config-dir: a folder that is laid out as conf/ is, with files of the user's own."""

from pathlib import Path

from targen.runtime.errors import UserError


def without_config_dir(arguments: list[str]) -> list[str]:
    """The arguments with Hydra's --config-dir as the override that it stands for, so that the phases of a run get it too.

    Raises: UserError if it is no folder.
    """
    folders, others, remaining = [], [], iter(arguments)
    for argument in remaining:
        flag, is_joined, folder = argument.partition("=")
        if flag not in ("--config-dir", "-cd"):
            others.append(argument)
            continue
        folder = folder if is_joined else next(remaining, "")
        if not Path(folder).expanduser().is_dir() or not folder:
            raise UserError(f"--config-dir: got {folder or 'nothing'}, expected a folder. Correct the path.")
        folders.append(f"'file://{Path(folder).expanduser().resolve()}'")
    return [*others, f"hydra.searchpath=[{','.join(folders)}]"] if folders else others
