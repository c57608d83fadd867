"""The arguments of `python -m eval.analyze` that are not settings of a run: `a=DIR b=DIR` and `sheet=FILE`."""

from dataclasses import dataclass
from pathlib import Path

from targen.runtime.errors import UserError

KEYS = ("a", "b", "sheet")
DEFAULT_RUN_DIR = "outputs/compared"  # of a comparison of two folders


@dataclass(frozen=True)
class AnalyzeArguments:
    """Two folders to compare, or a sheet that was filled in; neither: the run itself."""

    a: Path | None = None
    b: Path | None = None
    sheet: Path | None = None

    @property
    def compares_folders(self) -> bool:
        """Whether two folders of rows are compared, instead of the sets of a run."""
        return self.a is not None


def parse_arguments(arguments: list[str]) -> tuple[AnalyzeArguments, list[str]]:
    """(these arguments, the overrides that are left for the configuration). Raises: UserError if one is wrong."""
    keys = [argument.partition("=")[0] for argument in arguments]
    values = {key: argument.partition("=")[2] for key, argument in zip(keys, arguments, strict=True) if key in KEYS}
    for key in KEYS:
        if keys.count(key) > 1:
            raise UserError(f"{key}: given twice, expected once. Leave one out.")
        if values.get(key) == "":
            raise UserError(f"{key}: got nothing, expected a path. Name it.")
    for key, other_side in (("a", "b"), ("b", "a")):
        if key in values and other_side not in values:
            raise UserError(f"{other_side}: got nothing with {key}={values[key]}, expected a second folder. Name it.")
    parsed = AnalyzeArguments(**{key: Path(value).expanduser() for key, value in values.items()})
    for key, folder in (("a", parsed.a), ("b", parsed.b)):
        if folder is not None and not folder.is_dir():
            raise UserError(
                f"{key}: got {folder}, which is not a folder, expected a data set ({folder}/CB/train.jsonl)."
            )
    overrides = [argument for key, argument in zip(keys, arguments, strict=True) if key not in KEYS]
    if parsed.compares_folders and "run.dir" not in keys:
        overrides.append(f"run.dir={DEFAULT_RUN_DIR}")
    return parsed, overrides
