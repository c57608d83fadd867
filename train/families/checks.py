"""What can be known about a model before its weights are loaded."""

import importlib.util
from typing import TYPE_CHECKING

from targen.config.groups.training import Model, Train
from targen.runtime.errors import UserError
from train.families.base import Family
from train.families.registry import family_named
from train.models.loading import config_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def check_loadable(model: Model, train: Train) -> None:
    """Raises: UserError if this machine, the model's positions or its tokenizer do not allow what the settings ask."""
    family = family_named(model.family)
    problems = [*_machine_problems(train), *_length_problems(family, model, train)]
    if problems:
        raise UserError("\n".join(problems))
    _check_vocabulary(model, family.load_tokenizer(model))


def _machine_problems(train: Train) -> list[str]:
    import torch

    problems = []
    gpu = torch.cuda.is_available()
    if train.quantize and not (gpu and importlib.util.find_spec("bitsandbytes")):
        missing = "bitsandbytes, which is not installed. Run pip install bitsandbytes" if gpu else "a CUDA GPU"
        problems.append(f"train.quantize: got {train.quantize}, which needs {missing}. Leave it out otherwise.")
    if train.attention == "flash_attention_2" and not (gpu and importlib.util.find_spec("flash_attn")):
        missing = "flash-attn, which is not installed" if gpu else "a CUDA GPU"
        problems.append(f"train.attention: got flash_attention_2, which needs {missing}. Set train.attention=sdpa.")
    if train.precision != "fp32" and gpu and not torch.cuda.is_bf16_supported():
        problems.append(
            f"train.precision: got {train.precision}, which this GPU does not support. Set train.precision=fp32."
        )
    return problems


def _length_problems(family: Family, model: Model, train: Train) -> list[str]:
    positions = _positions(family, model)
    if positions is None or train.max_length <= positions:
        return []
    return [
        f"train.max_length: got {train.max_length}, expected at most {positions}, the positions of {model.name}. "
        f"Set train.max_length={positions}."
    ]


def _positions(family: Family, model: Model) -> int | None:
    """Tokens that the model has positions for; None: it has relative positions, which have no limit."""
    config = config_of(model)
    limit: int | None = getattr(config, "max_position_embeddings", None) if family.traits.limits_positions else None
    if limit is not None and "roberta" in str(config.model_type):
        limit -= int(config.pad_token_id or 0) + 1  # its positions start after the index of the padding token
    return limit


def _check_vocabulary(model: Model, tokenizer: "PreTrainedTokenizerBase") -> None:
    """Raises: UserError if the tokenizer has more tokens than the model has embeddings."""
    size = None if model.config is not None else getattr(config_of(model), "vocab_size", None)
    tokens = 1 + max(tokenizer.vocab_size - 1, tokenizer.pad_token_id or 0, tokenizer.eos_token_id or 0)
    if size is not None and tokens > size:
        raise UserError(
            f"model.tokenizer: has {tokens} tokens, expected at most {size}, the embeddings of {model.name}. Use the "
            "tokenizer of this model."
        )
