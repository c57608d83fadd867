"""Encoder-decoder models: the answer is a text, predictions rank what may be answered by its log-likelihood."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from targen.config import Model
from targen.task import Example, TaskSpec
from train.pretrained import not_loaded, resolve
from train.render import answers, prompt

SCORES_CHOICES = False
IGNORED = -100  # label of padding


@dataclass(frozen=True)
class Seq2Seq:
    """A loaded model with its tokenizer."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


@dataclass(frozen=True)
class Encoded:
    """One example as token ids: the prompt, every possible answer with its end; `gold` indexes answers, -1: hidden."""

    prompt: list[int]
    answers: tuple[list[int], ...]
    gold: int

    @property
    def at_once(self) -> int:
        return 1


def load_pretrained(model: Model, task: TaskSpec) -> Seq2Seq:
    """The pretrained model. Raises: UserError where it is missing or not what its checksum says."""
    return _load(resolve(model))


def load_trained(folder: Path) -> Seq2Seq:
    return _load(str(folder))


def _load(path: str) -> Seq2Seq:
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(path)
        # T5's activations overflow in fp16; fp32 weights, with bf16 arithmetic where train.precision asks for it
        model = AutoModelForSeq2SeqLM.from_pretrained(path, use_safetensors=True, dtype=torch.float32)
    except OSError as err:
        raise not_loaded(path, err) from None
    return Seq2Seq(model, tokenizer)


def encode(loaded: Seq2Seq, task: TaskSpec, examples: Sequence[Example], max_length: int) -> list[Encoded]:
    """Token ids of prompts, at most `max_length`, and of all possible answers."""
    return [
        Encoded(
            fitted(loaded.tokenizer, task, example, max_length),
            tuple(loaded.tokenizer(text_target=answer)["input_ids"] for answer in answers(task, example)),
            example.gold[0] if example.gold else -1,
        )
        for example in examples
    ]


def fitted(tokenizer: PreTrainedTokenizerBase, task: TaskSpec, example: Example, max_length: int) -> list[int]:
    """The prompt's token ids; where they are too many, the task's long field is cut, the rest stays whole."""
    ids: list[int] = tokenizer(prompt(task, example))["input_ids"]
    text = example.fields[task.long_field]
    while len(ids) > max_length and text:
        share = 1 - (len(ids) - max_length) / len(tokenizer(text, add_special_tokens=False)["input_ids"] or [0])
        kept = max(0, min(len(text) - 1, int(len(text) * share)))
        text = text[len(text) - kept :] if task.encoder.cut == "beginning" else text[:kept]
        shorter = Example(example.task, example.id, {**example.fields, task.long_field: text}, example.choices, ())
        ids = tokenizer(prompt(task, shorter))["input_ids"]
    return ids[:max_length]


def collator(loaded: Seq2Seq) -> Callable[[list[Encoded]], dict[str, Tensor]]:
    """Training batches: input_ids (examples, tokens), decoder_input_ids and labels (examples, answer tokens)."""

    def collate(batch: list[Encoded]) -> dict[str, Tensor]:
        labels = _padded([one.answers[one.gold] for one in batch], IGNORED)
        return {**_prompts(loaded, batch), **_decoder(loaded, labels), "labels": labels}

    return collate


def _prompts(loaded: Seq2Seq, batch: Sequence[Encoded]) -> dict[str, Tensor]:
    return dict(loaded.tokenizer.pad([{"input_ids": one.prompt} for one in batch], return_tensors="pt"))


def _decoder(loaded: Seq2Seq, labels: Tensor) -> dict[str, Tensor]:
    inputs: Tensor = loaded.model.prepare_decoder_input_ids_from_labels(labels=labels)
    return {"decoder_input_ids": inputs}


def _padded(rows: Sequence[list[int]], value: int) -> Tensor:
    return nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=value)


def loss(outputs: Any, labels: Tensor, num_items_in_batch: Tensor | int | None = None) -> Tensor:
    """Cross-entropy averaged over the answer tokens of the whole batch, in one part or in several."""
    total = nn.functional.cross_entropy(
        outputs.logits.float().flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="sum"
    )
    return total / ((labels != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch)


def predict(loaded: Seq2Seq, encoded: Sequence[Encoded], batch_size: int) -> Iterator[tuple[int, list[float]]]:
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


def _answer_scores(loaded: Seq2Seq, batch: list[Encoded]) -> list[Tensor]:
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
