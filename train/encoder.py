"""Encoder models: a head over labels, or one score per choice (COPA, ReCoRD)."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from targen.config import Model
from targen.task import Example, TaskSpec
from train.pretrained import not_loaded, resolve
from train.render import encoder_texts

SCORES_CHOICES = True
TRUNCATION = {"first": "only_first", "second": "only_second", "longest": "longest_first"}


@dataclass(frozen=True)
class Encoder:
    """A loaded model with its tokenizer."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


@dataclass(frozen=True)
class Encoded:
    """One example as token ids: one sequence, or one per choice; `gold` indexes labels or choices, -1: hidden."""

    sequences: tuple[dict[str, list[int]], ...]
    gold: int

    @property
    def at_once(self) -> int:
        """Sequences that go through the model together."""
        return len(self.sequences)


def load_pretrained(model: Model, task: TaskSpec) -> Encoder:
    """The pretrained model with a new head. Raises: UserError where it is missing or not what its checksum says."""
    names = [label.name for label in task.labels] if task.choices == "labels" else ["score"]
    config: dict[str, Any] = {"num_labels": len(names), "id2label": dict(enumerate(names))}
    config["label2id"] = {name: number for number, name in enumerate(names)}
    return _load(resolve(model), **config)


def load_trained(folder: Path) -> Encoder:
    return _load(str(folder))


def _load(path: str, **config: Any) -> Encoder:
    transformers_logging.set_verbosity_error()  # that the head is new is no news
    transformers_logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(path)
        model = AutoModelForSequenceClassification.from_pretrained(path, use_safetensors=True, **config)
    except OSError as err:
        raise not_loaded(path, err) from None
    return Encoder(model, tokenizer)


def encode(encoder: Encoder, task: TaskSpec, examples: Sequence[Example], max_length: int) -> list[Encoded]:
    """Token ids of the examples, cut at `max_length` tokens where the task says."""
    pairs = [encoder_texts(task, example) for example in examples]
    flat = [pair for group in pairs for pair in group]
    first, second = [pair[0] for pair in flat], [pair[1] for pair in flat]
    fitting = _fits(encoder.tokenizer, first if task.encoder.truncate == "second" else second, max_length)
    encoder.tokenizer.truncation_side = "left" if task.encoder.cut == "beginning" else "right"
    sequences: list[dict[str, list[int]]] = []
    for one, two, fits in zip(first, second, fitting, strict=True):
        cut = TRUNCATION[task.encoder.truncate] if fits else "longest_first"
        sequences.append(dict(encoder.tokenizer(one, two, truncation=cut, max_length=max_length)))
    places = iter(sequences)
    return [
        Encoded(tuple(next(places) for _ in group), example.gold[0] if example.gold else -1)
        for group, example in zip(pairs, examples, strict=True)
    ]


def _fits(tokenizer: PreTrainedTokenizerBase, kept: list[str], max_length: int) -> list[bool]:
    """Whether the text that must survive leaves room for the other one."""
    room = max_length - tokenizer.num_special_tokens_to_add(pair=True) - 1
    return [len(ids) < room for ids in tokenizer(kept, add_special_tokens=False)["input_ids"]]


def collator(encoder: Encoder) -> Callable[[list[Encoded]], dict[str, Tensor]]:
    """Batches: all sequences (sequences, tokens), padded to the longest; `labels` (examples, 2) are gold and sequence count."""

    def collate(batch: list[Encoded]) -> dict[str, Tensor]:
        sequences = [sequence for encoded in batch for sequence in encoded.sequences]
        padded = encoder.tokenizer.pad(sequences, return_tensors="pt")
        labels = torch.tensor([[encoded.gold, len(encoded.sequences)] for encoded in batch])
        return {**padded, "labels": labels}

    return collate


def example_logits(logits: Tensor, sizes: Tensor) -> Tensor:
    """Scores (examples, choices) from model logits: (examples, labels) as they are, (sequences, 1) by example, padded with -inf."""
    if logits.shape[1] > 1:
        return logits
    groups = torch.split(logits[:, 0], sizes.tolist())
    return nn.utils.rnn.pad_sequence(list(groups), batch_first=True, padding_value=float("-inf"))


def loss(outputs: Any, labels: Tensor, num_items_in_batch: Tensor | int | None = None) -> Tensor:
    """Cross-entropy of the label or of the choice, averaged over the examples of the whole batch.

    `num_items_in_batch` counts the entries of `labels` over all accumulated parts, two an example, so that a batch
    gives the same loss and gradient in one part and in several.
    """
    logits, gold = example_logits(outputs.logits, labels[:, 1]), labels[:, 0]
    total = nn.functional.cross_entropy(logits, gold, reduction="sum")
    return total / (len(gold) if num_items_in_batch is None else num_items_in_batch / labels.shape[1])


def predict(encoder: Encoder, encoded: Sequence[Encoded], batch_size: int) -> Iterator[tuple[int, list[float]]]:
    """(place, log-probability per label or choice) of every example; long ones first, `batch_size` sequences at once."""
    collate = collator(encoder)
    device = next(encoder.model.parameters()).device
    encoder.model.eval()
    for places in _batches(encoded, batch_size):
        batch = collate([encoded[place] for place in places])
        labels = batch.pop("labels")
        with torch.inference_mode():
            logits = encoder.model(**{name: values.to(device) for name, values in batch.items()}).logits.float().cpu()
        scores = example_logits(logits, labels[:, 1]).log_softmax(dim=1)
        for row, place in enumerate(places):
            count = scores.shape[1] if logits.shape[1] > 1 else len(encoded[place].sequences)
            yield place, scores[row, :count].tolist()


def _batches(encoded: Sequence[Encoded], batch_size: int) -> Iterator[list[int]]:
    """Places of examples of like length, at most so many sequences together."""
    lengths = [max(len(sequence["input_ids"]) for sequence in one.sequences) for one in encoded]
    batch: list[int] = []
    held = 0
    for place in sorted(range(len(encoded)), key=lambda place: (-lengths[place], place)):
        if batch and held + len(encoded[place].sequences) > batch_size:
            yield batch
            batch, held = [], 0
        batch.append(place)
        held += len(encoded[place].sequences)
    if batch:
        yield batch
