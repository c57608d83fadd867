"""Decoder models: the answer continues the prompt, only its tokens are learnt, predictions rank what may be answered.

Base and chat models get the same plain text. A chat model's template would say the same in its own words, but the two
could then not be compared, and after finetuning on thousands of rows the layout is one that the model was taught anyway.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase

from targen.config.groups.training import Model
from targen.runtime.errors import UserError
from targen.tasks.task import Example, Task
from train.data.rendering import CUE, INSTRUCTION_CUE, answers, instruction, with_cue
from train.data.truncation import Positive, check_answers, fitted
from train.families.losses import PerExample, Weigh, total
from train.families.seq2seq import IGNORED, token_sums
from train.inference.generation import LineEnds, batches_to_write, greedy_texts
from train.inference.ranking import ranked
from train.models.loading import PLAIN, Loaded, Loading, load, load_folder

SCORES_CHOICES = False
LORA_TASK = "CAUSAL_LM"


@dataclass(frozen=True)
class Encoded:
    """One example as token ids: the prompt, every possible answer with its end; `gold` indexes answers, -1: hidden."""

    prompt: list[int]
    answers: tuple[list[int], ...]
    gold: int
    cut: bool = False

    @property
    def at_once(self) -> int:
        return 1

    @property
    def length(self) -> int:
        return len(self.prompt) + max(map(len, self.answers))


def load_pretrained(model: Model, *tasks: Task, loading: Loading = PLAIN) -> Loaded:
    """The pretrained model, the same for all tasks. Raises: UserError where it is missing or not what its checksum says."""
    return load(AutoModelForCausalLM, model, loading)


def load_trained(folder: Path, loading: Loading = PLAIN) -> Loaded:
    return load_folder(AutoModelForCausalLM, folder, loading)


def encode(
    loaded: Loaded,
    task: Task,
    examples: Sequence[Example],
    max_length: int,
    positive: Sequence[Positive] | None = None,
    solved: Sequence[Positive] | None = None,
) -> list[Encoded]:
    """Token ids of prompts and of all possible answers; together they are at most `max_length`, no answer is cut."""
    tokenizer = loaded.tokenizer

    def tokenize(texts: list[str]) -> list[list[int]]:
        """With the beginning that the tokenizer may set, without an end: the text goes on."""
        return [ids[:-1] if ids[-1:] == [tokenizer.eos_token_id] else ids for ids in tokenizer(texts)["input_ids"]]

    cue, text = (CUE, with_cue) if positive is None else (INSTRUCTION_CUE, instruction)
    possible = [answers(task, example) for example in examples]
    ids = _answer_ids(tokenizer, cue, [answer for own in possible for answer in own])
    tail = len(tokenizer(cue, add_special_tokens=False)["input_ids"])
    longest = max(map(len, ids.values())) + 1
    check_answers(task, list(ids.items()), max_length - tail - 1)
    prompts, cut = fitted(tokenize, text, task, examples, positive or solved or (), max_length - longest, tail)
    ends = {answer: [*own, tokenizer.eos_token_id] for answer, own in ids.items()}
    return [
        Encoded(asked, tuple(ends[answer] for answer in own), example.gold[0] if example.gold else -1, is_cut)
        for asked, own, example, is_cut in zip(prompts, possible, examples, cut, strict=True)
    ]


def _answer_ids(tokenizer: PreTrainedTokenizerBase, cue: str, texts: Sequence[str]) -> dict[str, list[int]]:
    """The tokens of each answer as it stands behind the cue, the blank between them in its first token where it belongs.

    Raises: UserError for a tokenizer that joins the cue with what follows: prompt and answer could not be told apart.
    """
    different = list(dict.fromkeys(texts))
    before, *joined = tokenizer([cue, *(f"{cue} {text}" for text in different)], add_special_tokens=False)["input_ids"]
    for text, ids in zip(different, joined, strict=True):
        if ids[: len(before)] != before:
            raise UserError(
                f"model.tokenizer: joins {cue!r} with the answer {text!r} into other tokens, expected them apart. Take another "
                "model."
            )
    return {text: ids[len(before) :] for text, ids in zip(different, joined, strict=True)}


def collator(loaded: Loaded) -> Callable[[list[Encoded]], dict[str, Any]]:
    """Training batches: prompt and right answer, padded on the left, so that all answers stand at the end and only their
    logits are computed; labels (examples, tokens) count the answer's tokens, its end included."""

    def collate(batch: list[Encoded]) -> dict[str, Any]:
        right = [one.answers[one.gold] for one in batch]
        inputs = _padded(loaded, [one.prompt + answer for one, answer in zip(batch, right, strict=True)])
        labels = torch.full_like(inputs["input_ids"], IGNORED)
        for row, answer in enumerate(right):
            labels[row, -len(answer) :] = torch.tensor(answer)
        return {**inputs, "logits_to_keep": max(map(len, right)) + 1, "labels": labels}

    return collate


def _padded(loaded: Loaded, rows: Sequence[list[int]]) -> dict[str, Tensor]:
    """Rows padded on the left; positions count from each row's first token."""
    width = max(map(len, rows))
    pad = loaded.tokenizer.pad_token_id
    ids = torch.tensor([[pad] * (width - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    return {"input_ids": ids, "attention_mask": mask, "position_ids": (mask.cumsum(dim=1) - 1).clamp(min=0)}


def per_example(outputs: Any, labels: Tensor, smoothing: float) -> PerExample:
    """Sums over the tokens of each answer, its end included; the logits are those of the last tokens only."""
    return token_sums(outputs.logits[:, :-1], labels[:, 1 - outputs.logits.shape[1] :], smoothing)


def loss(
    outputs: Any,
    labels: Tensor,
    num_items_in_batch: Tensor | int | None = None,
    smoothing: float = 0.0,
    weigh: Weigh | None = None,
) -> Tensor:
    """Cross-entropy averaged over the answer tokens of the whole batch, in one part or in several."""
    summed = total(per_example(outputs, labels, smoothing), weigh)
    return summed / ((labels != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch)


def predict(
    loaded: Loaded, encoded: Sequence[Encoded], batch_size: int, by_token: bool = False
) -> Iterator[tuple[int, list[float]]]:
    """As `ranked` has it. Each prompt is computed once; its keys and values serve all its answers."""
    loaded.model.eval()
    device = next(loaded.model.parameters()).device
    return ranked(partial(answer_scores, loaded), encoded, batch_size, device, by_token)


def answer_scores(
    loaded: Loaded, prompts: Sequence[list[int]], answers: Sequence[Sequence[list[int]]]
) -> tuple[Tensor, ...]:
    """Per prompt the log-probability of each answer."""
    device, counts = next(loaded.model.parameters()).device, [len(own) for own in answers]
    inputs = {name: values.to(device) for name, values in _padded(loaded, prompts).items()}
    asked = loaded.model(**inputs, use_cache=True, logits_to_keep=1)
    owner = torch.arange(len(prompts), device=device).repeat_interleave(torch.tensor(counts, device=device))
    labels = torch.nn.utils.rnn.pad_sequence(
        [torch.tensor(answer) for own in answers for answer in own], batch_first=True, padding_value=IGNORED
    ).to(device)
    logits = asked.logits[owner]  # of the first token of every answer
    if labels.shape[1] > 1:
        cache = asked.past_key_values
        cache.batch_select_indices(owner)
        shown = labels[:, :-1]
        mask = torch.cat([inputs["attention_mask"][owner], (shown != IGNORED).long()], dim=1)
        start = inputs["position_ids"][owner, -1:] + 1
        later = loaded.model(
            input_ids=shown.clamp(min=0),
            attention_mask=mask,
            position_ids=start + torch.arange(shown.shape[1], device=device),
            past_key_values=cache,
            use_cache=True,
        )
        logits = torch.cat([logits, later.logits], dim=1)
    return torch.split(token_sums(logits, labels, 0.0).log_probability.cpu(), counts)


def write(
    loaded: Loaded, encoded: Sequence[Encoded], batch_size: int, max_new_tokens: int
) -> Iterator[tuple[int, str]]:
    """(place, what the model writes up to its end or that of the line), long prompts first."""
    loaded.model.eval()
    positions, line_ends = getattr(loaded.model.config, "max_position_embeddings", None), LineEnds(loaded.tokenizer)
    for places, tokens in batches_to_write(encoded, batch_size, max_new_tokens, positions):
        inputs = _padded(loaded, [encoded[place].prompt for place in places])
        del inputs["position_ids"]  # it counts them itself
        texts = greedy_texts(loaded, inputs, tokens, line_ends)
        yield from zip(places, texts, strict=True)
