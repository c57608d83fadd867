"""Encoder-decoder models: the answer is a text, predictions rank what may be answered by its log-likelihood."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForSeq2SeqLM

from targen.config.groups.training import Model
from targen.tasks.task import Example, Task
from train.data.rendering import CUE, answers, instruction, prompt, with_cue
from train.data.truncation import Positive, Text, check_answers, fitted
from train.families.losses import PerExample, Weigh, total
from train.inference.generation import batches_to_write, greedy_texts
from train.inference.ranking import ranked
from train.models.loading import PLAIN, Loaded, Loading, load, load_folder

SCORES_CHOICES = False
LORA_TASK = "SEQ_2_SEQ_LM"
IGNORED = -100  # label of padding
END = 1  # tokens at the end of a prompt that are never cut: its end


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
        return len(self.prompt)


def load_pretrained(model: Model, *tasks: Task, loading: Loading = PLAIN) -> Loaded:
    """The pretrained model, the same for all tasks. Raises: UserError where it is missing or not what its checksum says."""
    built = {"decoder_start_token_id": 0} if model.config is not None else {}  # T5 starts with its padding
    return load(AutoModelForSeq2SeqLM, model, loading, **built)


def load_trained(folder: Path, loading: Loading = PLAIN) -> Loaded:
    return load_folder(AutoModelForSeq2SeqLM, folder, loading)


def encode(
    loaded: Loaded,
    task: Task,
    examples: Sequence[Example],
    max_length: int,
    positive: Sequence[Positive] | None = None,
    solved: Sequence[Positive] | None = None,
) -> list[Encoded]:
    """Token ids of prompts, at most `max_length`, and of all possible answers, which are never cut."""

    def tokenize(texts: list[str]) -> list[list[int]]:
        ids: list[list[int]] = loaded.tokenizer(texts)["input_ids"]
        return ids

    text: Text = _plain if positive is None else instruction
    tail = END
    if solved is not None:
        text, tail = with_cue, len(tokenize([CUE])[0])
    prompts, cut = fitted(tokenize, text, task, examples, positive or solved or (), max_length, tail)
    possible = [answers(task, example) for example in examples]
    different = list(dict.fromkeys(answer for own in possible for answer in own))
    ids = dict(zip(different, loaded.tokenizer(text_target=different)["input_ids"], strict=True))
    end = loaded.tokenizer.eos_token_id
    check_answers(task, [(answer, [one for one in own if one != end]) for answer, own in ids.items()], max_length)
    return [
        Encoded(asked, tuple(ids[answer] for answer in own), example.gold[0] if example.gold else -1, is_cut)
        for asked, own, example, is_cut in zip(prompts, possible, examples, cut, strict=True)
    ]


def _plain(task: Task, example: Example, positive: Positive) -> str:
    return prompt(task, example)


def collator(loaded: Loaded) -> Callable[[list[Encoded]], dict[str, Tensor]]:
    """Training batches: input_ids (examples, tokens), decoder_input_ids and labels (examples, answer tokens)."""

    def collate(batch: list[Encoded]) -> dict[str, Tensor]:
        labels = _padded([one.answers[one.gold] for one in batch], IGNORED)
        return {**_prompts(loaded, [one.prompt for one in batch]), **_decoder(loaded, labels), "labels": labels}

    return collate


def _prompts(loaded: Loaded, prompts: Sequence[list[int]]) -> dict[str, Tensor]:
    return dict(loaded.tokenizer.pad([{"input_ids": one} for one in prompts], return_tensors="pt"))


def _decoder(loaded: Loaded, labels: Tensor) -> dict[str, Tensor]:
    inputs: Tensor = loaded.model.prepare_decoder_input_ids_from_labels(labels=labels)
    return {"decoder_input_ids": inputs}


def _padded(rows: Sequence[list[int]], value: int) -> Tensor:
    return nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=value)


def per_example(outputs: Any, labels: Tensor, smoothing: float) -> PerExample:
    """Sums over the tokens of each answer, its end included."""
    return token_sums(outputs.logits, labels, smoothing)


def token_sums(logits: Tensor, labels: Tensor, smoothing: float) -> PerExample:
    """Cross-entropy and log-probability of each row's labels (examples, tokens), summed over those that count."""
    rows, targets = logits.float().transpose(1, 2), labels.to(logits.device)

    def entropy(smoothed: float) -> Tensor:
        by_token = nn.functional.cross_entropy(
            rows, targets, ignore_index=IGNORED, reduction="none", label_smoothing=smoothed
        )
        return by_token.sum(dim=1)

    plain = entropy(0.0)
    return PerExample(entropy(smoothing) if smoothing else plain, -plain)


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
    """As `ranked` has it. The encoder, and the decoder's first step with its keys and values of the prompt, run once."""
    loaded.model.eval()
    device = next(loaded.model.parameters()).device
    return ranked(partial(answer_scores, loaded), encoded, batch_size, device, by_token)


def answer_scores(
    loaded: Loaded, prompts: Sequence[list[int]], answers: Sequence[Sequence[list[int]]]
) -> tuple[Tensor, ...]:
    """Per prompt the log-probability of each answer."""
    model, device, counts = loaded.model, next(loaded.model.parameters()).device, [len(own) for own in answers]
    asked = {name: values.to(device) for name, values in _prompts(loaded, prompts).items()}
    hidden = model.get_encoder()(**asked).last_hidden_state
    labels = _padded([answer for own in answers for answer in own], IGNORED).to(device)
    shown = _decoder(loaded, labels)[
        "decoder_input_ids"
    ]  # the start, which is every answer's, and the answer but its end
    first = model(
        encoder_outputs=(hidden,),
        attention_mask=asked["attention_mask"],
        decoder_input_ids=shown[:1, :1].expand(len(prompts), 1),
        use_cache=True,
    )
    owner = torch.arange(len(prompts), device=device).repeat_interleave(torch.tensor(counts, device=device))
    logits = first.logits[owner]
    if labels.shape[1] > 1:
        cache = first.past_key_values
        cache.batch_select_indices(owner)
        later = model(
            encoder_outputs=(hidden[owner],),
            attention_mask=asked["attention_mask"][owner],
            decoder_input_ids=shown[:, 1:],
            past_key_values=cache,
            use_cache=True,
        )
        logits = torch.cat([logits, later.logits], dim=1)
    return torch.split(token_sums(logits, labels, 0.0).log_probability.cpu(), counts)


def write(
    loaded: Loaded, encoded: Sequence[Encoded], batch_size: int, max_new_tokens: int
) -> Iterator[tuple[int, str]]:
    """(place, what the model writes), long prompts first."""
    loaded.model.eval()
    for places, tokens in batches_to_write(encoded, batch_size, max_new_tokens, None):
        inputs = _prompts(loaded, [encoded[place].prompt for place in places])
        yield from zip(places, greedy_texts(loaded, inputs, tokens), strict=True)
