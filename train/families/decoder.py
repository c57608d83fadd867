"""Decoder models: the answer continues the prompt, and only its tokens are learnt.

Base and chat models get the same plain text. A chat template would say the same in other words, but then the two kinds
of model could not be compared. Finetuning on thousands of rows teaches the layout anyway.
"""

from collections.abc import Callable, Iterator, Sequence
from inspect import signature
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from targen.runtime.errors import UserError
from targen.tasks.task import Example, Task
from train.data.rendering import CUE, INSTRUCTION_CUE, answers, cued_prompt, instruction_prompt
from train.data.truncation import check_answers, truncated_texts
from train.families.base import IGNORED, Batch, Encoded, ExampleLosses, FewShot, of_type
from train.families.text import (
    EncodedContinuation,
    EncodedText,
    TextFamily,
    device_of,
    encoded_texts,
    padded_answers,
    prompt_of_each_answer,
    split_by_prompt,
    token_sums,
)
from train.inference.generation import GeneratedText, StopAtLineEnd, generation_batches, greedy_texts
from train.models.loading import FamilyTraits, Loaded


class DecoderFamily(TextFamily):
    """GPT-2, Llama and similar models."""

    traits = FamilyTraits(special_tokens=("eos",), pads_with_end=True)
    auto_class = AutoModelForCausalLM
    lora_task = "CAUSAL_LM"

    def encode(
        self, loaded: Loaded, task: Task, examples: Sequence[Example], max_length: int, few_shot: FewShot | None = None
    ) -> list[EncodedText]:
        """Token ids of prompts and of all possible answers, together at most `max_length`; no answer is truncated."""
        tokenizer = loaded.tokenizer

        def tokenize(texts: list[str]) -> list[list[int]]:
            """With the start token that the tokenizer may set, without an end token: the text continues."""
            return [ids[:-1] if ids[-1:] == [tokenizer.eos_token_id] else ids for ids in tokenizer(texts)["input_ids"]]

        instructs = few_shot is not None and few_shot.instructs
        cue, render = (INSTRUCTION_CUE, instruction_prompt) if instructs else (CUE, cued_prompt)
        texts = [answers(task, example) for example in examples]
        ids = _answer_ids(tokenizer, cue, [answer for options in texts for answer in options])
        tail = len(tokenizer(cue, add_special_tokens=False)["input_ids"])
        longest = max(map(len, ids.values())) + 1
        check_answers(task, list(ids.items()), max_length - tail - 1)
        shots = few_shot.per_example if few_shot is not None else ()
        prompts, truncated = truncated_texts(tokenize, render, task, examples, shots, max_length - longest, tail)
        with_end = {text: [*tokens, tokenizer.eos_token_id] for text, tokens in ids.items()}
        return encoded_texts(EncodedContinuation, prompts, truncated, examples, texts, with_end)

    def collator(self, loaded: Loaded) -> Callable[[Sequence[Encoded]], Batch]:
        """Training batches: prompt and right answer, labels (examples, tokens) of the answer's tokens, its end included.

        Where prompts can be shared, padding is on the left, so that all answers end together and only the logits of the last
        tokens are computed.
        """
        pad_left = shares_prompts(loaded.model)

        def collate(batch: Sequence[Encoded]) -> Batch:
            pairs = [(example.prompt, example.right_answer) for example in of_type(EncodedText, batch)]
            return _prompts_with_answers(loaded, pairs, pad_left)

        return collate

    def example_losses(self, outputs: Any, labels: Tensor, smoothing: float) -> ExampleLosses:
        """Sums over the tokens of each answer, its end included; the logits are those of the last tokens only."""
        return token_sums(outputs.logits[:, :-1], labels[:, 1 - outputs.logits.shape[1] :], smoothing)

    def answer_scores(
        self, loaded: Loaded, prompts: Sequence[list[int]], answers: Sequence[Sequence[list[int]]]
    ) -> tuple[Tensor, ...]:
        """Each prompt is computed once, and all its answers share its keys and values, if the model has nothing else."""
        if not shares_prompts(loaded.model):
            return self._scores_of_whole_texts(loaded, prompts, answers)
        device = device_of(loaded)
        inputs = {name: values.to(device) for name, values in _left_padded(loaded, prompts).items()}
        first = loaded.model(**inputs, use_cache=True, logits_to_keep=1)
        owner = prompt_of_each_answer(answers, device)
        labels = padded_answers([ids for options in answers for ids in options]).to(device)
        logits = first.logits[owner, -1:]  # of the first token of every answer
        if labels.shape[1] > 1:
            cache = first.past_key_values
            cache.batch_select_indices(owner)
            answer_inputs = labels[:, :-1]
            mask = torch.cat([inputs["attention_mask"][owner], (answer_inputs != IGNORED).long()], dim=1)
            start = inputs["position_ids"][owner, -1:] + 1
            later = loaded.model(
                input_ids=answer_inputs.clamp(min=0),
                attention_mask=mask,
                position_ids=start + torch.arange(answer_inputs.shape[1], device=device),
                past_key_values=cache,
                use_cache=True,
            )
            logits = torch.cat([logits, later.logits], dim=1)
        return split_by_prompt(logits, labels, answers)

    def _scores_of_whole_texts(
        self, loaded: Loaded, prompts: Sequence[list[int]], answers: Sequence[Sequence[list[int]]]
    ) -> tuple[Tensor, ...]:
        """As answer_scores, with a whole text for each answer."""
        pairs = [(prompt, answer) for prompt, options in zip(prompts, answers, strict=True) for answer in options]
        batch = _prompts_with_answers(loaded, pairs, pad_left=False)
        labels = batch.pop("labels")
        device = device_of(loaded)
        inputs = {name: values.to(device) if isinstance(values, Tensor) else values for name, values in batch.items()}
        outputs = loaded.model(**inputs, use_cache=False)
        sums = self.example_losses(outputs, labels, 0.0).log_probability.cpu()
        return torch.split(sums, [len(options) for options in answers])

    def generate(
        self, loaded: Loaded, encoded: Sequence[Encoded], batch_size: int, max_new_tokens: int
    ) -> Iterator[tuple[int, GeneratedText]]:
        """As TextFamily; a text ends with its line."""
        loaded.model.eval()
        examples = of_type(EncodedText, encoded)
        padded = shares_prompts(loaded.model)
        positions = getattr(loaded.model.config, "max_position_embeddings", None)
        line_end = StopAtLineEnd(loaded.tokenizer)
        for indices, tokens in generation_batches(examples, batch_size, max_new_tokens, positions, padded):
            inputs = _left_padded(loaded, [examples[index].prompt for index in indices])
            del inputs["position_ids"]  # generate() counts them itself
            yield from zip(indices, greedy_texts(loaded, inputs, tokens, line_end), strict=True)


FAMILY = DecoderFamily()


def _answer_ids(tokenizer: PreTrainedTokenizerBase, cue: str, texts: Sequence[str]) -> dict[str, list[int]]:
    """Token ids of each answer as it follows the cue; the blank between them belongs to the answer's first token.

    Raises: UserError if the tokenizer joins the cue with what follows, so that prompt and answer cannot be told apart.
    """
    distinct = list(dict.fromkeys(texts))
    cue_ids, *joined = tokenizer([cue, *(f"{cue} {text}" for text in distinct)], add_special_tokens=False)["input_ids"]
    for text, ids in zip(distinct, joined, strict=True):
        if ids[: len(cue_ids)] != cue_ids:
            raise UserError(
                f"model.tokenizer: merges {cue!r} and the answer {text!r} into shared tokens, expected separate ones. Choose "
                "another model."
            )
    return {text: ids[len(cue_ids) :] for text, ids in zip(distinct, joined, strict=True)}


def shares_prompts(model: Any) -> bool:
    """Whether the answers to a prompt can share what the model computed of it: keys and values of attention, in transformers'
    own cache.

    Convolutions, linear attention and state spaces (LFM2, Qwen3.5, Mamba, ...) have one state that every token changes. They
    read whole texts, padded on the right: some also take padding on the left for text. So do models whose code is their own.
    """
    plain = model.get_base_model() if hasattr(model, "get_base_model") else model  # without adapters
    if plain._is_stateful or "past_key_values" not in signature(type(plain).forward).parameters:
        return False
    if not any(kind.__module__.startswith("transformers.models.") for kind in type(plain).__mro__):
        return False
    try:
        layers = DynamicCache(config=plain.config).layers
    except KeyError:  # layers of a kind that this cache does not know
        return False
    return all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers)


def _prompts_with_answers(loaded: Loaded, pairs: Sequence[tuple[list[int], list[int]]], pad_left: bool) -> Batch:
    """Prompts, each with one answer: the model's inputs, labels (pairs, tokens), and how many logits are needed."""
    rows = [prompt + answer for prompt, answer in pairs]
    inputs = _left_padded(loaded, rows) if pad_left else _right_padded(loaded, rows)
    labels = torch.full_like(inputs["input_ids"], IGNORED)
    width = labels.shape[1]
    for number, (prompt, answer) in enumerate(pairs):
        end = width if pad_left else len(prompt) + len(answer)
        labels[number, end - len(answer) : end] = torch.tensor(answer)
    first = int((labels != IGNORED).any(dim=0).int().argmax())
    return {**inputs, "logits_to_keep": width - first + 1, "labels": labels}


def _left_padded(loaded: Loaded, rows: Sequence[list[int]]) -> dict[str, Tensor]:
    """Inputs (rows, tokens), padded on the left; positions count from each row's first token."""
    width = max(map(len, rows))
    pad = loaded.tokenizer.pad_token_id
    ids = torch.tensor([[pad] * (width - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    return {"input_ids": ids, "attention_mask": mask, "position_ids": (mask.cumsum(dim=1) - 1).clamp(min=0)}


def _right_padded(loaded: Loaded, rows: Sequence[list[int]]) -> dict[str, Tensor]:
    """Inputs (rows, tokens), padded on the right, where no earlier token sees it."""
    width = max(map(len, rows))
    pad = loaded.tokenizer.pad_token_id
    ids = torch.tensor([row + [pad] * (width - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    return {"input_ids": ids, "attention_mask": mask}
