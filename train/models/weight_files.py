"""Checks that a model's files are complete: missing weights would be initialised at random without a warning."""

from pathlib import Path
from typing import Any

from targen.runtime.errors import UserError, one_line
from targen.runtime.paths import visible_paths

NAMED = 3  # weights that an error lists


def check_readable(folder: Path) -> None:
    """Raises: UserError if a weight file is truncated or damaged; only file headers are read."""
    from safetensors import SafetensorError, safe_open

    for path in visible_paths(folder, "*.safetensors"):
        try:
            with safe_open(path, framework="pt"):
                pass
        except SafetensorError as err:
            raise UserError(
                f"model.path: {path} is damaged ({one_line(err, 200)}). Download the model again."
            ) from None


def from_files(auto_class: Any, path: str | Path, new_head: bool, **options: Any) -> Any:
    """The model of one of transformers' Auto classes with all its weights from the files; `new_head`: except the head.

    Raises: ValueError if the files lack weights.
    """
    model, report = auto_class.from_pretrained(path, output_loading_info=True, ignore_mismatched_sizes=True, **options)
    missing = [name for name in report["missing_keys"] if not (new_head and _is_head(model, name))]
    resized = [name for name, *_ in report["mismatched_keys"]]
    for names, problem in ((missing, "are missing from its files"), (resized, "differ in shape from its config.json")):
        if names:
            more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
            raise ValueError(f"the weights {', '.join(sorted(names)[:NAMED])}{more} {problem}")
    return model


def _is_head(model: Any, name: str) -> bool:
    """Whether a weight is part of the head. A pooler counts as head: few encoders were pretrained with it."""
    return not name.startswith(f"{model.base_model_prefix}.") or ".pooler." in name
