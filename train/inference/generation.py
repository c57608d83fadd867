"""Models that answer in words, left to write: greedily, up to so many tokens."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, StoppingCriteria

from train.inference.ranking import Asked, by_length
from train.models.loading import Loaded


def greedy_texts(
    loaded: Loaded, inputs: Mapping[str, Tensor], max_new_tokens: int, line_ends: "LineEnds | None" = None
) -> list[str]:
    """What the model writes behind each input, without special tokens: the likeliest token again and again, up to its end.

    Settings of generation that come with a model (sampling, penalties, forced tokens) are not applied.
    """
    model, tokenizer = loaded.model, loaded.tokenizer
    device = next(model.parameters()).device
    special = {
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "decoder_start_token_id": getattr(model.config, "decoder_start_token_id", None),
    }
    greedy = GenerationConfig(max_new_tokens=max_new_tokens, do_sample=False, num_beams=1, **special)
    with torch.inference_mode(), _without_own_settings(model):
        found = model.generate(
            **{name: values.to(device) for name, values in inputs.items()},
            generation_config=greedy,
            stopping_criteria=[] if line_ends is None else [line_ends],
        )
    behind = 1 if model.config.is_encoder_decoder else inputs["input_ids"].shape[1]
    texts: list[str] = tokenizer.batch_decode(found[:, behind:].cpu(), skip_special_tokens=True)
    return texts


@contextmanager
def _without_own_settings(model: Any) -> Iterator[None]:
    own = model.generation_config
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = own


class LineEnds(StoppingCriteria):  # type: ignore[misc]
    """Ends a text with the first token that holds a line end."""

    def __init__(self, tokenizer: Any) -> None:
        @cache
        def ends(token: int) -> bool:
            return "\n" in tokenizer.decode([token])

        self._ends = ends

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: Any) -> Tensor:  # noqa: ARG002
        return torch.tensor([self._ends(token) for token in input_ids[:, -1].tolist()], device=input_ids.device)


def batches_to_write(
    encoded: Sequence[Asked], batch_size: int, max_new_tokens: int, positions: int | None
) -> Iterator[tuple[list[int], int]]:
    """(places, tokens that each may write) of prompts of like length; a text ends where the model's positions do.

    Prompts of one batch have the same room, so that what is written does not depend on the batch.
    """

    def room(place: int) -> int:
        left = max_new_tokens if positions is None else positions - len(encoded[place].prompt)
        return min(max_new_tokens, left)

    for tokens, group in groupby(by_length(encoded), key=room):
        places = list(group)
        for start in range(0, len(places), batch_size):
            yield places[start : start + batch_size], tokens
