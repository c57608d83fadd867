"""The families of models, by name. Each is one module with the functions named here."""

import importlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from targen.config.groups.training import Model
from targen.tasks.task import Example, Task
from train.models.loading import PLAIN, Loaded, Loading

if TYPE_CHECKING:
    from torch import Tensor

    from train.families.losses import PerExample, Weigh


class Encoded(Protocol):
    """An example as token ids."""

    @property
    def gold(self) -> int:
        """Place of the right label, choice or answer; -1: hidden."""
        ...

    @property
    def cut(self) -> bool:
        """Whether it was longer than train.max_length."""
        ...

    @property
    def at_once(self) -> int:
        """Sequences that go through the model together."""
        ...

    @property
    def length(self) -> int:
        """Tokens of the longest of them: examples of like length are trained on together."""
        ...


class Family(Protocol):
    """What training and evaluation ask of a family."""

    SCORES_CHOICES: bool  # each choice of COPA and ReCoRD is a sequence of its own
    LORA_TASK: str  # as peft names it

    def load_pretrained(self, model: Model, *tasks: Task, loading: Loading = PLAIN) -> Loaded:
        """The model to be finetuned on these tasks."""
        ...

    def load_trained(self, folder: Path, loading: Loading = PLAIN) -> Loaded: ...

    def encode(
        self,
        loaded: Loaded,
        task: Task,
        examples: Sequence[Example],
        max_length: int,
        positive: Sequence[Sequence[Example]] | None = None,
        solved: Sequence[Sequence[Example]] | None = None,
    ) -> Sequence[Encoded]:
        """`positive`: per example those shown with their answers, in the layout of instructions; None: no instructions.

        `solved`: those shown with their answers in the plain layout; an encoder is shown none.
        """
        ...

    def collator(self, loaded: Loaded) -> "Callable[[list[Any]], dict[str, Any]]": ...

    def per_example(self, outputs: Any, labels: "Tensor", smoothing: float) -> "PerExample": ...

    def loss(
        self,
        outputs: Any,
        labels: "Tensor",
        num_items_in_batch: "Tensor | int | None" = None,
        smoothing: float = 0.0,
        weigh: "Weigh | None" = None,
    ) -> "Tensor": ...

    def predict(
        self, loaded: Loaded, encoded: Sequence[Encoded], batch_size: int
    ) -> Iterator[tuple[int, list[float]]]: ...


class WritingFamily(Family, Protocol):
    """A family whose models answer in words."""

    def predict(
        self, loaded: Loaded, encoded: Sequence[Encoded], batch_size: int, by_token: bool = False
    ) -> Iterator[tuple[int, list[float]]]:
        """`by_token`: answers are ranked by the mean over their tokens, not by the sum."""
        ...

    def write(
        self, loaded: Loaded, encoded: Sequence[Encoded], batch_size: int, max_new_tokens: int
    ) -> Iterator[tuple[int, str]]:
        """(place, what the model writes behind the prompt)."""
        ...


def writing_family(name: str) -> WritingFamily:
    return cast(WritingFamily, family(name))


def family(name: str) -> Family:
    """The module of a family; torch is imported with it, and not before."""
    return cast(Family, importlib.import_module(f"train.families.{name}"))
