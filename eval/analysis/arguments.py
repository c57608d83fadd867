"""What `python -m eval.analyze` is given beside the settings of a run."""

from dataclasses import dataclass
from pathlib import Path

from targen.runtime.errors import UserError

OWN = ("a", "b", "sheet")  # keys that are no settings of a run
OUTSIDE = "outputs/compared"  # run.dir of two folders where none is named


@dataclass(frozen=True)
class Own:
    """What was typed beside the settings: two folders to compare, a sheet that was filled in."""

    a: Path | None = None
    b: Path | None = None
    sheet: Path | None = None

    @property
    def outside(self) -> bool:
        return self.a is not None


def own_arguments(arguments: list[str]) -> tuple[Own, list[str]]:
    """What is ours, and the overrides that are left for the configuration. Raises: UserError."""
    given = [argument.partition("=") for argument in arguments]
    found = {key: value for key, _, value in given if key in OWN}
    if twice := [key for key in OWN if sum(key == other for other, _, _ in given) > 1]:
        raise UserError(f"{twice[0]}: given twice, expected once. Leave one out.")
    if empty := [key for key in OWN if found.get(key) == ""]:
        raise UserError(f"{empty[0]}: got nothing, expected a path. Name it.")
    if alone := [key for key in ("a", "b") if key in found and not {"a", "b"} <= found.keys()]:
        other = "b" if alone[0] == "a" else "a"
        raise UserError(f"{other}: got nothing with {alone[0]}={found[alone[0]]}, expected a second folder. Name it.")
    own = Own(**{key: Path(value) for key, value in found.items()})
    for key in ("a", "b"):
        if (folder := getattr(own, key)) is not None and not folder.is_dir():
            raise UserError(f"{key}: got {folder}, which is no folder, expected a data set ({folder}/CB/train.jsonl).")
    rest = [argument for argument in arguments if argument.partition("=")[0] not in OWN]
    if own.outside and not any(argument.startswith("run.dir=") for argument in rest):
        rest.append(f"run.dir={OUTSIDE}")
    return own, rest
