"""Encoder models: a classification head over labels, or one score per choice (COPA, ReCoRD).

A model of several tasks has one encoder and one head over all (task, label) pairs; an example uses the columns of its own
task only. This equals a head per task over a shared encoder, since the rows of a linear layer are independent. One softmax
over the labels of all tasks would also teach the model to tell the tasks apart, which is not part of any task.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase

from targen.config.groups.training import Model
from targen.runtime.errors import UserError
from targen.tasks.encoder_texts import encoder_texts
from targen.tasks.task import Example, Task
from train.families.base import Batch, Encoded, ExampleLosses, Family, FewShot, gold_of, of_type
from train.inference.arithmetic import inference_context
from train.inference.batching import ItemSize, length_batches
from train.models.embeddings import TRAITS
from train.models.loading import PLAIN, Loaded, Loading, config_of, load

log = logging.getLogger(__name__)
TRUNCATION = {"first": "only_first", "second": "only_second", "longest": "longest_first"}


@dataclass(frozen=True)
class EncodedForHead(Encoded):
    """One example as one sequence, or as one per choice; `first_column` and `column_count` are its task's columns of the head:
    those of the labels, or the one score."""

    first_column: int
    column_count: int

    @property
    def score_count(self) -> int:
        """Labels or choices that it has scores for."""
        return self.column_count if self.column_count > 1 else self.sequence_count


@dataclass(frozen=True)
class EncodedPairs(EncodedForHead):
    """One example as token ids."""

    sequences: tuple[dict[str, list[int]], ...]

    @property
    def has_equal_options(self) -> bool:
        """Whether two choices are the same tokens."""
        return len({tuple(sequence["input_ids"]) for sequence in self.sequences}) < len(self.sequences)

    @property
    def sequence_count(self) -> int:
        """Sequences that the model reads for the example."""
        return len(self.sequences)

    @property
    def length(self) -> int:
        """Tokens of its longest sequence."""
        return max(len(sequence["input_ids"]) for sequence in self.sequences)


class EncoderFamily(Family):
    """BERT and similar models."""

    traits = TRAITS
    auto_class = AutoModelForSequenceClassification
    scores_choices = True
    lora_task = "SEQ_CLS"
    labels_per_item = 4  # the columns of `labels`; an item is an example

    def load_pretrained(self, model: Model, *tasks: Task, loading: Loading = PLAIN) -> Loaded:
        """The pretrained model with a head for these tasks. If it has a head already, labels of the same name are kept.

        So a head whose labels have another order (MNLI: entailment, neutral, contradiction) is never read by position.
        Raises: UserError if the model is missing or its checksum is wrong.
        """
        names = head_names(tasks)
        old = _trained_head(model, loading.weights)
        loaded = load(self.auto_class, model, self.traits, loading, **head_labels(old or names))
        if old and old != names:
            _refit_head(loaded.model, old, names)
        return loaded

    def encode(
        self, loaded: Loaded, task: Task, examples: Sequence[Example], max_length: int, few_shot: FewShot | None = None
    ) -> Sequence[EncodedForHead]:
        """Token ids of the examples, truncated to `max_length` as the task says; an encoder is shown no other examples."""
        tokenizer = loaded.tokenizer
        columns = head_columns(loaded.model, task)
        pairs = [encoder_texts(task, example) for example in examples]
        firsts = [first for group in pairs for first, _ in group]
        seconds = [second for group in pairs for _, second in group]
        fitting = _fits(tokenizer, firsts if task.encoder.truncate == "second" else seconds, max_length)
        tokenizer.truncation_side = "left" if task.encoder.cut == "beginning" else "right"
        sequences: list[tuple[dict[str, list[int]], bool]] = []
        for first, second, fits in zip(firsts, seconds, fitting, strict=True):
            strategy = TRUNCATION[task.encoder.truncate] if fits else "longest_first"
            encoding = tokenizer(first, second, truncation=strategy, max_length=max_length)
            sequences.append((dict(encoding), bool(encoding.encodings and encoding.encodings[0].overflowing)))
        remaining = iter(sequences)
        groups = [[next(remaining) for _ in group] for group in pairs]
        return [
            EncodedPairs(
                *columns,
                tuple(ids for ids, _ in group),
                gold=gold_of(example),
                truncated=any(truncated for _, truncated in group),
            )
            for group, example in zip(groups, examples, strict=True)
        ]

    def collator(self, loaded: Loaded) -> Callable[[Sequence[Encoded]], Batch]:
        """Batches of all sequences (sequences, tokens), padded to the longest; `labels` (examples, 4) are gold, number of
        sequences, first column and number of columns."""

        def collate(batch: Sequence[Encoded]) -> Batch:
            examples = of_type(EncodedPairs, batch)
            sequences = [sequence for example in examples for sequence in example.sequences]
            return {**loaded.tokenizer.pad(sequences, return_tensors="pt"), "labels": collated_labels(examples)}

        return collate

    def example_losses(self, outputs: Any, labels: Tensor, smoothing: float) -> ExampleLosses:
        """Cross-entropy of the label or choice; smoothing is spread over the example's own labels or choices."""
        log_probabilities = example_logits(outputs.logits.float(), labels).log_softmax(dim=1)
        right = log_probabilities.gather(1, labels[:, :1]).squeeze(1)
        if not smoothing:
            return ExampleLosses(-right, right)
        is_choice = log_probabilities > float("-inf")
        uniform = log_probabilities.where(is_choice, 0.0).sum(dim=1) / is_choice.sum(dim=1)
        return ExampleLosses(-(1 - smoothing) * right - smoothing * uniform, right)

    def predict(self, loaded: Loaded, encoded: Sequence[Encoded], batch_size: int) -> Iterator[tuple[int, list[float]]]:
        """(index, log-probability of each label or choice), longest examples first, at most `batch_size` sequences at once."""
        collate, examples = self.collator(loaded), of_type(EncodedForHead, encoded)  # type: ignore[type-abstract]
        device = next(loaded.model.parameters()).device
        loaded.model.eval()
        sizes = [ItemSize(example.length, example.sequence_count, example.sequence_count) for example in examples]
        for indices in length_batches(sizes, batch_size, device):
            batch = collate([examples[index] for index in indices])
            labels = batch.pop("labels")
            with inference_context(loaded):
                inputs = {name: values.to(device) for name, values in batch.items()}
                logits = loaded.model(**inputs).logits.float().cpu()
            scores = example_logits(logits, labels).log_softmax(dim=1)
            for row, index in enumerate(indices):
                yield index, scores[row, : examples[index].score_count].tolist()


FAMILY = EncoderFamily()


def head_names(tasks: Sequence[Task]) -> list[str]:
    """What the head's outputs stand for: labels or `score`, prefixed with the task if there are several.

    AX-g shares the head of RTE, its stand-in for training, since their labels mean the same.
    """
    by_head = {_head(task): task for task in tasks}
    names = {head: [label.name for label in task.classes] for head, task in by_head.items() if task.choices == "labels"}
    pairs = [(head, name) for head in by_head for name in names.get(head, ["score"])]
    return [name if len(by_head) == 1 else f"{head}.{name}" for head, name in pairs]


def _head(task: Task) -> str:
    return task.original_train or task.name


def head_labels(names: Sequence[str]) -> dict[str, Any]:
    """The labels as entries of a model's configuration."""
    return {
        "num_labels": len(names),
        "id2label": dict(enumerate(names)),
        "label2id": {name: index for index, name in enumerate(names)},
    }


def _trained_head(model: Model, weights: bool) -> list[str]:
    """The labels of a checkpoint's classification head in its order; empty if it has none."""
    config = config_of(model, weights)
    if not any(str(name).endswith("ForSequenceClassification") for name in config.architectures or []):
        return []
    return [str(config.id2label[index]) for index in range(len(config.id2label))]


def _refit_head(model: PreTrainedModel, old_labels: Sequence[str], new_labels: Sequence[str]) -> None:
    """Replaces the head's last layer: rows of labels with the same name are kept, the others are initialised again."""
    body = f"{model.base_model_prefix}."
    layers = [
        (name, layer)
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear) and layer.out_features == len(old_labels) and not name.startswith(body)
    ]
    name, layer = layers[-1]
    fresh = nn.Linear(layer.in_features, len(new_labels), bias=layer.bias is not None, dtype=layer.weight.dtype)
    model._init_weights(fresh)
    row_pairs = [(row, old_row) for row, label in enumerate(new_labels) for old_row in _row_of(label, old_labels)]
    with torch.no_grad():
        for row, old_row in row_pairs:
            fresh.weight[row] = layer.weight[old_row]
            if layer.bias is not None:
                fresh.bias[row] = layer.bias[old_row]
    model.set_submodule(name, fresh)
    for key, value in head_labels(new_labels).items():
        setattr(model.config, key, value)
    model.num_labels = len(new_labels)
    kept = [new_labels[row] for row, _ in row_pairs] or "none"
    log.info("train: labels kept by name from the head for %s: %s", "/".join(old_labels), kept)


def _row_of(label: str, old_labels: Sequence[str]) -> list[int]:
    """The old head's row of this label, if any: by its full name, or by its bare one if only one of the two names a task."""
    exact = [row for row, old_label in enumerate(old_labels) if old_label.lower() == label.lower()]
    bare = [
        row
        for row, old_label in enumerate(old_labels)
        if ("." in old_label) != ("." in label)
        and old_label.rpartition(".")[2].lower() == label.rpartition(".")[2].lower()
    ]
    return exact[:1] or bare[:1]


def head_columns(model: PreTrainedModel, task: Task) -> tuple[int, int]:
    """(first, count) of the task's columns of the head. Raises: UserError if the head lacks the task's labels."""
    labels = [str(model.config.id2label[index]) for index in range(model.config.num_labels)]
    expected = head_names([task])
    for names in (expected, [f"{_head(task)}.{name}" for name in expected]):
        if names[0] in labels and labels[(first := labels.index(names[0])) : first + len(names)] == names:
            return first, len(names)
    raise UserError(
        f"model.path: its head has the labels {', '.join(labels[:8])}, expected {', '.join(expected)} of {task.name} in this "
        "order. Train a cell on this task first."
    )


def _fits(tokenizer: PreTrainedTokenizerBase, texts: list[str], max_length: int) -> list[bool]:
    """Whether the text that must not be truncated leaves room for the other one."""
    room = max_length - tokenizer.num_special_tokens_to_add(pair=True) - 1
    return [len(ids) < room for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]


def collated_labels(examples: Sequence[EncodedForHead]) -> Tensor:
    """The labels of a batch (examples, 4): gold, number of sequences, first column and number of columns."""
    return torch.tensor(
        [[example.gold, example.sequence_count, example.first_column, example.column_count] for example in examples]
    )


def example_logits(logits: Tensor, labels: Tensor) -> Tensor:
    """Scores (examples, most choices) from the model's logits (sequences, columns) and `labels` as collated.

    An example's scores are the columns of its task, or the scores of its sequences; padding is -inf.
    """
    sequences, first, count = labels[:, 1:2], labels[:, 2:3], labels[:, 3:4]
    has_labels = count > 1  # otherwise each sequence is a choice
    choices = torch.where(has_labels, count, sequences)
    choice = torch.arange(int(choices.max()), device=logits.device).expand(len(labels), -1)
    row = sequences.cumsum(dim=0) - sequences + torch.where(has_labels, 0, choice)
    column = first + torch.where(has_labels, choice, 0)
    is_choice = choice < choices
    return logits[row.where(is_choice, 0), column.where(is_choice, 0)].masked_fill(~is_choice, float("-inf"))
