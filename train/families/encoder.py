"""Encoder models: a head over labels, or one score per choice (COPA, ReCoRD).

A model of several tasks has one encoder and one head over all (task, label) pairs, of which an example sees the columns
of its own task only: the same as a head of its own per task over a shared encoder, for the rows of one linear layer do
not touch. One softmax over all tasks' labels would teach it to tell tasks apart, which nobody asks it.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase

from targen.config.groups.training import Model
from targen.runtime.errors import UserError
from targen.tasks.task import Example, Task
from train.data.rendering import encoder_texts
from train.families.losses import PerExample, Weigh, total
from train.inference.batching import Size, batches
from train.models.loading import PLAIN, Loaded, Loading, config_of, load, load_folder

log = logging.getLogger(__name__)
SCORES_CHOICES = True
LORA_TASK = "SEQ_CLS"
IGNORED = -100  # labels of a part that counts nothing
TRUNCATION = {"first": "only_first", "second": "only_second", "longest": "longest_first"}


@dataclass(frozen=True)
class Encoded:
    """One example as token ids: one sequence, or one per choice; `gold` indexes labels or choices, -1: hidden.

    `first` and `count` are the columns of the head that are its task's: the labels', or the one score.
    """

    sequences: tuple[dict[str, list[int]], ...]
    gold: int
    first: int
    count: int
    cut: bool = False

    @property
    def at_once(self) -> int:
        """Sequences that go through the model together."""
        return len(self.sequences)

    @property
    def length(self) -> int:
        return max(len(sequence["input_ids"]) for sequence in self.sequences)


def head_names(tasks: Sequence[Task]) -> list[str]:
    """What the head's outputs stand for: labels or `score`, with the task before it where there are several.

    AX-g shares the head of RTE, its stand-in for training: the labels mean the same.
    """
    by_head = {_head(task): task for task in tasks}
    names = {head: [label.name for label in task.labels] for head, task in by_head.items() if task.choices == "labels"}
    pairs = [(head, name) for head in by_head for name in names.get(head, ["score"])]
    return [name if len(by_head) == 1 else f"{head}.{name}" for head, name in pairs]


def _head(task: Task) -> str:
    return task.original_train or task.name


def load_pretrained(model: Model, *tasks: Task, loading: Loading = PLAIN) -> Loaded:
    """The pretrained model with a head for these tasks. Of a head that it has already, labels of the same name are kept.

    A head with its labels in another order (MNLI: entailment, neutral, contradiction) is so never read by position.
    Raises: UserError where the model is missing or not what its checksum says.
    """
    names = head_names(tasks)
    old = _trained_head(model)
    loaded = load(AutoModelForSequenceClassification, model, loading, **_labels(old or names))
    if old and old != names:
        _refit_head(loaded.model, old, names)
    return loaded


def load_trained(folder: Path, loading: Loading = PLAIN) -> Loaded:
    return load_folder(AutoModelForSequenceClassification, folder, loading)


def _labels(names: Sequence[str]) -> dict[str, Any]:
    return {
        "num_labels": len(names),
        "id2label": dict(enumerate(names)),
        "label2id": {name: number for number, name in enumerate(names)},
    }


def _trained_head(model: Model) -> list[str]:
    """The labels of the classification head that a checkpoint has, in its order; empty: it has none."""
    config = config_of(model)
    if not any(str(name).endswith("ForSequenceClassification") for name in config.architectures or []):
        return []
    return [str(config.id2label[number]) for number in range(len(config.id2label))]


def _refit_head(model: PreTrainedModel, old: Sequence[str], new: Sequence[str]) -> None:
    """Replaces the head's last layer: rows of labels by the same name are kept, the others drawn anew."""
    inside = f"{model.base_model_prefix}."
    layers = [
        (name, layer)
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear) and layer.out_features == len(old) and not name.startswith(inside)
    ]
    name, layer = layers[-1]
    fresh = nn.Linear(layer.in_features, len(new), bias=layer.bias is not None, dtype=layer.weight.dtype)
    model._init_weights(fresh)
    kept = [(place, old_place) for place, one in enumerate(new) for old_place in _places(one, old)]
    with torch.no_grad():
        for place, old_place in kept:
            fresh.weight[place] = layer.weight[old_place]
            if layer.bias is not None:
                fresh.bias[place] = layer.bias[old_place]
    model.set_submodule(name, fresh)
    for key, value in _labels(new).items():
        setattr(model.config, key, value)
    model.num_labels = len(new)
    log.info(
        "train: of the head for %s, labels kept by name: %s", "/".join(old), [new[place] for place, _ in kept] or "none"
    )


def _places(name: str, old: Sequence[str]) -> list[int]:
    """Where the old head has this label: by its whole name, or by its bare one where either names no task."""
    exact = [place for place, other in enumerate(old) if other.lower() == name.lower()]
    bare = [
        place
        for place, other in enumerate(old)
        if ("." in other) != ("." in name) and other.rpartition(".")[2].lower() == name.rpartition(".")[2].lower()
    ]
    return exact[:1] or bare[:1]


def columns(model: PreTrainedModel, task: Task) -> tuple[int, int]:
    """(first, count) of the task's columns of the head. Raises: UserError where the head has not the task's labels."""
    labels = [str(model.config.id2label[number]) for number in range(model.config.num_labels)]
    own = head_names([task])
    for names in (own, [f"{_head(task)}.{name}" for name in own]):
        if names[0] in labels and labels[(first := labels.index(names[0])) : first + len(names)] == names:
            return first, len(names)
    raise UserError(
        f"model.path: its head has the labels {', '.join(labels[:8])}, expected {', '.join(own)} of {task.name} in this order. "
        "Train a cell on this task first."
    )


def encode(
    encoder: Loaded,
    task: Task,
    examples: Sequence[Example],
    max_length: int,
    positive: Sequence[Sequence[Example]] | None = None,
    solved: Sequence[Sequence[Example]] | None = None,
) -> list[Encoded]:
    """Token ids of the examples, cut at `max_length` tokens where the task says; an encoder is shown no other examples."""
    own = columns(encoder.model, task)
    pairs = [encoder_texts(task, example) for example in examples]
    flat = [pair for group in pairs for pair in group]
    first, second = [pair[0] for pair in flat], [pair[1] for pair in flat]
    fitting = _fits(encoder.tokenizer, first if task.encoder.truncate == "second" else second, max_length)
    encoder.tokenizer.truncation_side = "left" if task.encoder.cut == "beginning" else "right"
    sequences: list[tuple[dict[str, list[int]], bool]] = []
    for one, two, fits in zip(first, second, fitting, strict=True):
        how = TRUNCATION[task.encoder.truncate] if fits else "longest_first"
        found = encoder.tokenizer(one, two, truncation=how, max_length=max_length)
        sequences.append((dict(found), bool(found.encodings and found.encodings[0].overflowing)))
    places = iter(sequences)
    groups = [[next(places) for _ in group] for group in pairs]
    return [
        Encoded(
            tuple(ids for ids, _ in group), example.gold[0] if example.gold else -1, *own, any(cut for _, cut in group)
        )
        for group, example in zip(groups, examples, strict=True)
    ]


def _fits(tokenizer: PreTrainedTokenizerBase, kept: list[str], max_length: int) -> list[bool]:
    """Whether the text that must survive leaves room for the other one."""
    room = max_length - tokenizer.num_special_tokens_to_add(pair=True) - 1
    return [len(ids) < room for ids in tokenizer(kept, add_special_tokens=False)["input_ids"]]


def collator(encoder: Loaded) -> Callable[[list[Encoded]], dict[str, Tensor]]:
    """Batches: all sequences (sequences, tokens), padded to the longest; `labels` (examples, 4) are gold, sequence count,
    first column and column count."""

    def collate(batch: list[Encoded]) -> dict[str, Tensor]:
        sequences = [sequence for encoded in batch for sequence in encoded.sequences]
        padded = encoder.tokenizer.pad(sequences, return_tensors="pt")
        labels = torch.tensor([[one.gold, len(one.sequences), one.first, one.count] for one in batch])
        return {**padded, "labels": labels}

    return collate


def example_logits(logits: Tensor, labels: Tensor) -> Tensor:
    """Scores (examples, most choices) from model logits (sequences, columns): the columns of an example's task, or its
    sequences' scores; padded with -inf."""
    sizes, first, count = labels[:, 1:2], labels[:, 2:3], labels[:, 3:4]
    several = count > 1  # labels; otherwise each sequence is a choice
    choices = torch.where(several, count, sizes)
    place = torch.arange(int(choices.max()), device=logits.device).expand(len(labels), -1)
    row = sizes.cumsum(dim=0) - sizes + torch.where(several, 0, place)
    column = first + torch.where(several, place, 0)
    real = place < choices
    return logits[row.where(real, 0), column.where(real, 0)].masked_fill(~real, float("-inf"))


def per_example(outputs: Any, labels: Tensor, smoothing: float) -> PerExample:
    """Cross-entropy of the label or of the choice; smoothing spreads its share over the example's own choices."""
    log_probabilities = example_logits(outputs.logits.float(), labels).log_softmax(dim=1)
    right = log_probabilities.gather(1, labels[:, :1]).squeeze(1)
    if not smoothing:
        return PerExample(-right, right)
    real = log_probabilities > float("-inf")
    uniform = log_probabilities.where(real, 0.0).sum(dim=1) / real.sum(dim=1)
    return PerExample(-(1 - smoothing) * right - smoothing * uniform, right)


def loss(
    outputs: Any,
    labels: Tensor,
    num_items_in_batch: Tensor | int | None = None,
    smoothing: float = 0.0,
    weigh: Weigh | None = None,
) -> Tensor:
    """Cross-entropy averaged over the examples of the whole batch.

    `num_items_in_batch` counts the entries of `labels` over all accumulated parts, several an example, so that a batch
    gives the same loss and gradient in one part and in several. A part whose labels are all -100 counts nothing.
    """
    if (labels == IGNORED).all():
        nothing: Tensor = outputs.logits.sum() * 0.0
        return nothing
    summed = total(per_example(outputs, labels, smoothing), weigh)
    return summed / (len(labels) if num_items_in_batch is None else num_items_in_batch / labels.shape[1])


def predict(encoder: Loaded, encoded: Sequence[Encoded], batch_size: int) -> Iterator[tuple[int, list[float]]]:
    """(place, log-probability per label or choice) of every example; long ones first, at most `batch_size` sequences at once."""
    collate = collator(encoder)
    device = next(encoder.model.parameters()).device
    encoder.model.eval()
    sizes = [Size(one.length, one.at_once, one.at_once) for one in encoded]
    for places in batches(sizes, batch_size, device):
        batch = collate([encoded[place] for place in places])
        labels = batch.pop("labels")
        with torch.inference_mode():
            logits = encoder.model(**{name: values.to(device) for name, values in batch.items()}).logits.float().cpu()
        scores = example_logits(logits, labels).log_softmax(dim=1)
        for row, place in enumerate(places):
            one = encoded[place]
            yield place, scores[row, : one.count if one.count > 1 else len(one.sequences)].tolist()
