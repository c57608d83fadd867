"""Frozen encoders (train.freeze): a linear layer on the embeddings of an example's two texts, by an encoder that stays as it is.

The features of the embeddings u and v are [u, v, |u - v|, u * v], as those of the small students: on MiniLM and 250 rows
of six tasks they were no worse than the embedding of both texts as one sequence, and a text is embedded once, whatever it is
paired with. An empty text is a zero vector.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from targen.config.groups.training import Model
from targen.quality.encoder import EmbeddingCache, Numbers
from targen.quality.students import pair_features
from targen.tasks.encoder_texts import encoder_texts
from targen.tasks.task import Example, Task
from train.families.base import Batch, Encoded, FewShot, gold_of, of_type
from train.families.encoder import (
    EncodedForHead,
    EncoderFamily,
    collated_labels,
    head_columns,
    head_labels,
    head_names,
)
from train.models.embeddings import embeddings
from train.models.loading import PLAIN, Loaded, Loading, config_of, load_folder, quiet

log = logging.getLogger(__name__)
BLOCKS = 4  # of the features, each as wide as an embedding


@dataclass(frozen=True)
class EmbeddedPairs(EncodedForHead):
    """One example as features (sequences, width). Whether it is truncated is not known: the encoder reads the beginning of a long
    text."""

    features: NDArray[np.float32]

    @property
    def has_equal_options(self) -> bool:
        """Whether two choices have the same features."""
        return len(np.unique(self.features, axis=0)) < len(self.features)

    @property
    def sequence_count(self) -> int:
        """Pairs of texts of the example."""
        return len(self.features)

    @property
    def length(self) -> int:
        """Equal for all: features are as wide for a long text as for a short one."""
        return 1


class LinearConfig(PretrainedConfig):  # type: ignore[misc]
    """`width` is the number of features; the labels are named as in any classification head."""

    model_type = "targen_linear"
    width: int = 0


class LinearHead(PreTrainedModel):  # type: ignore[misc]
    """A linear layer, saved and loaded as transformers does with its models."""

    config_class = LinearConfig

    def __init__(self, config: LinearConfig) -> None:
        super().__init__(config)
        self.classifier = nn.Linear(config.width, config.num_labels)
        self.post_init()

    def forward(self, features: Tensor) -> SequenceClassifierOutput:
        """Logits (sequences, columns) of features (sequences, width)."""
        return SequenceClassifierOutput(logits=self.classifier(features))


class FrozenFamily(EncoderFamily):
    """Linear layers on embeddings by `body`, which are kept in `folder`."""

    auto_class = LinearHead

    def __init__(self, body: Model, folder: Path) -> None:
        self._body, self._folder = body, folder

    def load_pretrained(self, model: Model, *tasks: Task, loading: Loading = PLAIN) -> Loaded:
        """A new layer for these tasks. Raises: UserError if the encoder is missing or its checksum is wrong."""
        quiet()
        width = BLOCKS * config_of(model, loading.weights).hidden_size
        return Loaded(
            LinearHead(LinearConfig(width=width, **head_labels(head_names(tasks)))), None, embeddings=self._cache()
        )

    def load_trained(self, folder: Path, loading: Loading = PLAIN) -> Loaded:
        """A layer that was trained here. Raises: UserError if it cannot be read."""
        return Loaded(load_folder(LinearHead, folder, PLAIN, has_tokenizer=False).model, None, embeddings=self._cache())

    def _cache(self) -> EmbeddingCache:
        return EmbeddingCache(self._folder, self._body, self._embed)

    def _embed(self, texts: Sequence[str]) -> Numbers:
        log.info("%s: embedding %d texts, once", self._body.name, len(texts))
        return embeddings(self._body, texts)

    def encode(
        self, loaded: Loaded, task: Task, examples: Sequence[Example], max_length: int, few_shot: FewShot | None = None
    ) -> list[EmbeddedPairs]:
        """The features of the examples; of each text the encoder reads its first 256 tokens, whatever `max_length` is."""
        assert loaded.embeddings is not None
        columns = head_columns(loaded.model, task)
        groups = [encoder_texts(task, example) for example in examples]
        features = _features([pair for group in groups for pair in group], loaded.embeddings, loaded.model.config.width)
        ends = np.cumsum([len(group) for group in groups])[:-1]
        return [
            EmbeddedPairs(*columns, part, gold=gold_of(example))
            for part, example in zip(np.split(features, ends), examples, strict=True)
        ]

    def collator(self, loaded: Loaded) -> Callable[[Sequence[Encoded]], Batch]:
        """Batches of the `features` (sequences, width) of all examples; `labels` as those of encoders."""

        def collate(batch: Sequence[Encoded]) -> Batch:
            examples = of_type(EmbeddedPairs, batch)
            features = np.concatenate([example.features for example in examples])
            return {"features": torch.from_numpy(features), "labels": collated_labels(examples)}

        return collate


def _features(pairs: Sequence[tuple[str, str]], cache: EmbeddingCache, width: int) -> NDArray[np.float32]:
    """The features (pairs, width). All texts are embedded together, since a start of the encoder takes a second."""
    texts = list(dict.fromkeys(text for pair in pairs for text in pair if text))
    rows = {text: row for row, text in enumerate(texts)}
    vectors = np.zeros((len(texts) + 1, width // BLOCKS))  # the last row stands for empty texts
    if texts:
        vectors[:-1] = cache.embed(texts)
    first, second = (vectors[[rows.get(pair[number], -1) for pair in pairs]] for number in range(2))
    return pair_features([first, second]).astype(np.float32)
