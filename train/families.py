"""The families of models, by name. Each is one module with the functions named here."""

import importlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from targen.config import Model
from targen.task import Example, TaskSpec

if TYPE_CHECKING:
    from torch import Tensor


class Loaded(Protocol):
    """A model with its tokenizer."""

    model: Any
    tokenizer: Any


class Encoded(Protocol):
    """An example as token ids."""

    @property
    def at_once(self) -> int:
        """Sequences that go through the model together."""
        ...


class Family(Protocol):
    """What training and evaluation ask of a family."""

    SCORES_CHOICES: bool  # each choice of COPA and ReCoRD is a sequence of its own

    def load_pretrained(self, model: Model, task: TaskSpec) -> Loaded: ...

    def load_trained(self, folder: Path) -> Loaded: ...

    def encode(
        self, loaded: Loaded, task: TaskSpec, examples: Sequence[Example], max_length: int
    ) -> Sequence[Encoded]: ...

    def collator(self, loaded: Loaded) -> "Callable[[list[Any]], dict[str, Tensor]]": ...

    def loss(self, outputs: Any, labels: "Tensor", num_items_in_batch: "Tensor | int | None" = None) -> "Tensor": ...

    def predict(
        self, loaded: Loaded, encoded: Sequence[Encoded], batch_size: int
    ) -> Iterator[tuple[int, list[float]]]: ...


def family(name: str) -> Family:
    """The module of a family; torch is imported with it, and not before."""
    return cast(Family, importlib.import_module(f"train.{name}"))
