"""Heads that are no copies of the embeddings although the configuration ties them, as transformers' of T5 always does.

from_pretrained goes by the weights: where the files have both and they differ (Flan-T5, mT5), it does not tie them.
"""

import json
from pathlib import Path
from typing import Any

HEAD = "lm_head.weight"
ROWS = 1024  # compared at a time: heads that differ do so in the first rows


def has_own_head(model: Any) -> bool:
    """Whether the model has a head that is not tied to its embeddings."""
    return _has_head(model) and model.lm_head.weight is not model.get_input_embeddings().weight


def keep_own_head(model: Any) -> None:
    """A head of its own stays so; whatever ties weights again, as accelerate does for FSDP, goes by the configuration."""
    tied = _tied(model)
    if HEAD in tied and has_own_head(model):
        model._tied_weights_keys = {key: value for key, value in tied.items() if key != HEAD}
        getattr(model, "all_tied_weights_keys", {}).pop(HEAD, None)


def shape_own_head(shapes: Any, path: str, pickle: bool, has_own: bool | None = None) -> None:
    """Gives the shapes of a model the head that from_pretrained would give it; `has_own`: whether it is untied, if that is known.

    Otherwise the files say so, or the configuration where this machine has no files.
    """
    if HEAD not in _tied(shapes) or not _has_head(shapes) or has_own_head(shapes):
        return
    if has_own is None:
        has_own = _differs_in_files(shapes, path, pickle)
    if has_own is None:
        has_own = getattr(shapes.config, "scale_decoder_outputs", True) is False  # Flan-T5
    if has_own:
        weight = shapes.lm_head.weight
        shapes.lm_head.weight = type(weight)(weight.clone())
        keep_own_head(shapes)


def _has_head(model: Any) -> bool:
    return hasattr(getattr(model, "lm_head", None), "weight")  # RoBERTa's consists of layers


def _tied(model: Any) -> dict[str, str]:
    tied = getattr(model, "_tied_weights_keys", None)  # a list of names in older code of others
    return tied if isinstance(tied, dict) else {}


def _differs_in_files(model: Any, path: str, pickle: bool) -> bool | None:
    """Whether head and embeddings in the files differ in the model's precision; None: the files are not on this machine."""
    import torch
    from transformers.modeling_utils import load_state_dict

    tied = _tied(model)
    files = _files(path, pickle)
    if files is None:
        return None
    source = tied[HEAD]
    embeddings = [
        name for name in (source, *(key for key in tied if tied[key] == source and key != HEAD)) if name in files
    ]
    if HEAD not in files or not embeddings:
        return False
    dtype = model.lm_head.weight.dtype
    with torch.device("cpu"):  # weights are mapped, not read
        head, copy = (load_state_dict(files[name])[name] for name in (HEAD, embeddings[0]))
        return head.shape != copy.shape or any(
            not torch.equal(head[row : row + ROWS].to(dtype), copy[row : row + ROWS].to(dtype))
            for row in range(0, len(head), ROWS)
        )


def _files(path: str, pickle: bool) -> dict[str, str] | None:
    """The file of each weight in a folder or in the Hub's cache, as from_pretrained chooses them."""
    from transformers.modeling_utils import load_state_dict
    from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, WEIGHTS_INDEX_NAME, WEIGHTS_NAME

    kinds = [(SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME), *([(WEIGHTS_NAME, WEIGHTS_INDEX_NAME)] if pickle else [])]
    for weights, index in kinds:
        if (file := _local_file(path, weights)) is not None:
            return dict.fromkeys(load_state_dict(file, map_location="meta"), file)
        if (file := _local_file(path, index)) is not None:
            weight_map = json.loads(Path(file).read_text(encoding="utf-8"))["weight_map"]
            files = {part: _local_file(path, part) for part in {*weight_map.values()}}
            if not all(files.values()):
                return None
            return {name: file for name, part in weight_map.items() if (file := files[part])}
    return None


def _local_file(path: str, name: str) -> str | None:
    """A file of a folder or of the Hub's cache; None: it is not on this machine."""
    from transformers.utils import cached_file

    file: str | None = cached_file(path, name, local_files_only=True, _raise_exceptions_for_missing_entries=False)
    return file
