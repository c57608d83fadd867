"""Encoder-decoder models: the answer is a text, predictions rank what may be answered by its log-likelihood."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForSeq2SeqLM

from targen.finetuning import Model
from targen.task import Example, TaskSpec
from train.fitting import Positive, check_answers, fitted
from train.losses import PerExample, Weigh, total
from train.pretrained import PLAIN, Loaded, Loading, load, load_folder
from train.render import answers, instruction, prompt

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


def load_pretrained(model: Model, *tasks: TaskSpec, loading: Loading = PLAIN) -> Loaded:
    """The pretrained model, the same for all tasks. Raises: UserError where it is missing or not what its checksum says."""
    built = {"decoder_start_token_id": 0} if model.config is not None else {}  # T5 starts with its padding
    return load(AutoModelForSeq2SeqLM, model, loading, **built)


def load_trained(folder: Path, loading: Loading = PLAIN) -> Loaded:
    return load_folder(AutoModelForSeq2SeqLM, folder, loading)


def encode(
    loaded: Loaded,
    task: TaskSpec,
    examples: Sequence[Example],
    max_length: int,
    positive: Sequence[Positive] | None = None,
) -> list[Encoded]:
    """Token ids of prompts, at most `max_length`, and of all possible answers, which are never cut."""

    def tokenize(texts: list[str]) -> list[list[int]]:
        ids: list[list[int]] = loaded.tokenizer(texts)["input_ids"]
        return ids

    text = _plain if positive is None else instruction
    prompts, cut = fitted(tokenize, text, task, examples, positive or (), max_length, END)
    possible = [answers(task, example) for example in examples]
    different = list(dict.fromkeys(answer for own in possible for answer in own))
    ids = dict(zip(different, loaded.tokenizer(text_target=different)["input_ids"], strict=True))
    end = loaded.tokenizer.eos_token_id
    check_answers(task, [(answer, [one for one in own if one != end]) for answer, own in ids.items()], max_length)
    return [
        Encoded(asked, tuple(ids[answer] for answer in own), example.gold[0] if example.gold else -1, is_cut)
        for asked, own, example, is_cut in zip(prompts, possible, examples, cut, strict=True)
    ]


def _plain(task: TaskSpec, example: Example, positive: Positive) -> str:
    return prompt(task, example)


def collator(loaded: Loaded) -> Callable[[list[Encoded]], dict[str, Tensor]]:
    """Training batches: input_ids (examples, tokens), decoder_input_ids and labels (examples, answer tokens)."""

    def collate(batch: list[Encoded]) -> dict[str, Tensor]:
        labels = _padded([one.answers[one.gold] for one in batch], IGNORED)
        return {**_prompts(loaded, batch), **_decoder(loaded, labels), "labels": labels}

    return collate


def _prompts(loaded: Loaded, batch: Sequence[Encoded]) -> dict[str, Tensor]:
    return dict(loaded.tokenizer.pad([{"input_ids": one.prompt} for one in batch], return_tensors="pt"))


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


def predict(loaded: Loaded, encoded: Sequence[Encoded], batch_size: int) -> Iterator[tuple[int, list[float]]]:
    """(place, log-probability of each answer among the possible ones), long prompts first.

    An answer's score is the sum of its tokens' log-probabilities, its end included. The encoder runs once per prompt.
    """
    loaded.model.eval()
    order = sorted(range(len(encoded)), key=lambda place: (-len(encoded[place].prompt), place))
    for start in range(0, len(order), batch_size):
        places = order[start : start + batch_size]
        with torch.inference_mode():
            scores = _answer_scores(loaded, [encoded[place] for place in places])
        for place, own in zip(places, scores, strict=True):
            yield place, own.log_softmax(dim=0).tolist()


def _answer_scores(loaded: Loaded, batch: list[Encoded]) -> list[Tensor]:
    device = next(loaded.model.parameters()).device
    prompts = {name: values.to(device) for name, values in _prompts(loaded, batch).items()}
    hidden = loaded.model.get_encoder()(**prompts).last_hidden_state
    scores = []
    for number, one in enumerate(batch):
        labels = _padded(one.answers, IGNORED).to(device)
        count = len(one.answers)
        logits = loaded.model(
            encoder_outputs=(hidden[number : number + 1].expand(count, -1, -1),),
            attention_mask=prompts["attention_mask"][number : number + 1].expand(count, -1),
            **_decoder(loaded, labels),
        ).logits
        tokens = logits.float().log_softmax(dim=-1).gather(2, labels.clamp(min=0).unsqueeze(2)).squeeze(2)
        scores.append(tokens.masked_fill(labels == IGNORED, 0.0).sum(dim=1).cpu())
    return scores
