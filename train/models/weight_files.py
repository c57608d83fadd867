"""Whether the files of a model are whole: what is missing in them would be drawn at random, and nobody would notice."""

from pathlib import Path
from typing import Any

from targen.runtime.errors import UserError

NAMED = 3  # weights that an error lists


def check_readable(folder: Path) -> None:
    """Raises: UserError for a file of weights that was cut or damaged; only its head is read."""
    from safetensors import SafetensorError, safe_open

    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt"):
                pass
        except SafetensorError as err:
            raise UserError(
                f"model.path: {path} is damaged ({' '.join(str(err).split())[:200]}). Fetch the model anew."
            ) from None


def from_files(auto: Any, path: str | Path, new_head: bool, **options: Any) -> Any:
    """The model of one of transformers' Auto classes with all its weights from the files, `new_head`: but for the head.

    Raises: ValueError where the files have not all of them.
    """
    found, report = auto.from_pretrained(path, output_loading_info=True, ignore_mismatched_sizes=True, **options)
    lacking = [name for name in report["missing_keys"] if not (new_head and _is_head(found, name))]
    resized = [name for name, *_ in report["mismatched_keys"]]
    for names, what in ((lacking, "are not in its files"), (resized, "have another shape than its config.json says")):
        if names:
            more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
            raise ValueError(f"the weights {', '.join(sorted(names)[:NAMED])}{more} {what}")
    return found


def _is_head(model: Any, name: str) -> bool:
    """A pooler counts as head: few encoders were pretrained with it."""
    return not name.startswith(f"{model.base_model_prefix}.") or ".pooler." in name
