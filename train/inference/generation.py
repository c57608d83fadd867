"""Greedy generation."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, StoppingCriteria

from train.inference.arithmetic import inference_context
from train.inference.ranking import Prompted, longest_first
from train.models.loading import Loaded


@dataclass(frozen=True)
class GeneratedText:
    """What a model wrote, without special tokens; `cut`: it had not ended when its tokens were used up."""

    text: str
    cut: bool = False


def greedy_texts(
    loaded: Loaded, inputs: Mapping[str, Tensor], max_new_tokens: int, line_end: "StopAtLineEnd | None" = None
) -> list[GeneratedText]:
    """What the model generates after each input (texts, tokens).

    Generation settings that come with the model (sampling, penalties, forced tokens) are not applied.
    """
    model, tokenizer = loaded.model, loaded.tokenizer
    device = next(model.parameters()).device
    special = {
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "decoder_start_token_id": getattr(model.config, "decoder_start_token_id", None),
    }
    greedy = GenerationConfig(max_new_tokens=max_new_tokens, do_sample=False, num_beams=1, **special)
    with inference_context(loaded), _default_generation_config(model):
        generated = model.generate(
            **{name: values.to(device) for name, values in inputs.items()},
            generation_config=greedy,
            stopping_criteria=[] if line_end is None else [line_end],
        )
    start = 1 if model.config.is_encoder_decoder else inputs["input_ids"].shape[1]
    new_tokens = generated[:, start:].cpu()
    texts = tokenizer.batch_decode(new_tokens, skip_special_tokens=True)

    def ends(token: int) -> bool:
        return token == tokenizer.eos_token_id or (line_end is not None and line_end.ends_line(token))

    return [
        GeneratedText(text, not any(map(ends, tokens))) for text, tokens in zip(texts, new_tokens.tolist(), strict=True)
    ]


@contextmanager
def _default_generation_config(model: Any) -> Iterator[None]:
    """generate() fills gaps of its configuration from the model's; meanwhile the model has the default one."""
    model_config = model.generation_config
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = model_config


class StopAtLineEnd(StoppingCriteria):  # type: ignore[misc]
    """Ends a text with the first token that contains a line end."""

    def __init__(self, tokenizer: Any) -> None:
        @cache
        def ends_line(token: int) -> bool:
            return "\n" in tokenizer.decode([token])

        self.ends_line = ends_line

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: Any) -> Tensor:  # noqa: ARG002
        return torch.tensor([self.ends_line(token) for token in input_ids[:, -1].tolist()], device=input_ids.device)


def generation_batches(
    examples: Sequence[Prompted], batch_size: int, max_new_tokens: int, positions: int | None, padded: bool = True
) -> Iterator[tuple[list[int], int]]:
    """(indices, new tokens of each text) of prompts of similar length; a text ends where the model's positions do.

    Prompts of one batch have the same limit, and the same length if they must not be `padded`, so that the texts do not depend
    on the batch.
    """

    def room(index: int) -> tuple[int, int]:
        tokens = len(examples[index].prompt)
        limit = max_new_tokens if positions is None else min(max_new_tokens, positions - tokens)
        return limit, 0 if padded else tokens

    for (tokens, _), group in groupby(longest_first(examples), key=room):
        indices = list(group)
        for start in range(0, len(indices), batch_size):
            yield indices[start : start + batch_size], tokens
