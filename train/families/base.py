"""What training and evaluation ask of a family of models."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from targen.config.groups.training import Model
from targen.tasks.task import Example, Task
from train.models.loading import PLAIN, FamilyTraits, Loaded, Loading, load, load_folder, load_tokenizer

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

IGNORED = -100  # a label that counts in no loss, as in torch's cross_entropy and the Trainer
UNWEIGHTED = float("nan")  # of an example from a real row: weights correct towards the distribution of real rows

Batch = dict[str, Any]  # tensors by the names of the model's arguments, and `labels`


@dataclass(frozen=True, kw_only=True)
class Encoded(ABC):
    """An example as token ids. `gold` is the index of the right label, choice or answer, -1: hidden; `truncated` whether it was
    longer than train.max_length; `checkers` its log-probability by its checkers (see targen.config.losses.LogWeights), NaN: not
    weighted."""

    gold: int
    truncated: bool = False
    checkers: float = UNWEIGHTED

    @property
    @abstractmethod
    def has_equal_options(self) -> bool:
        """Whether two of its options are the same tokens."""

    @property
    @abstractmethod
    def length(self) -> int:
        """Tokens of its longest sequence; a batch holds examples of similar length."""

    @property
    def sequence_count(self) -> int:
        """Sequences that go through the model for this example."""
        return 1


AnyEncoded = TypeVar("AnyEncoded", bound=Encoded)


def of_type(encoded_type: type[AnyEncoded], examples: Sequence[Encoded]) -> list[AnyEncoded]:
    """The same examples, known to be of this type. Raises: TypeError if another family encoded them."""
    narrowed = [example for example in examples if isinstance(example, encoded_type)]
    if len(narrowed) < len(examples):
        raise TypeError(
            f"expected examples of type {encoded_type.__name__}: encode them with the family that reads them"
        )
    return narrowed


def gold_of(example: Example) -> int:
    """`gold` of an example as token ids."""
    return example.gold[0] if example.gold else -1


@dataclass(frozen=True)
class FewShot:
    """For each example, those that are shown before it with their answers, in the instruction layout or in the plain one."""

    per_example: Sequence[Sequence[Example]]
    instructs: bool


@dataclass(frozen=True)
class ExampleLosses:
    """Loss and log-probability (nats) of the right answer of every example of a batch, both (examples,)."""

    loss: "Tensor"
    log_probability: "Tensor"


class Family(ABC):
    """A kind of model: how it is loaded, what it reads, what its loss is, what it predicts.

    A family is stateless. It may assume that the examples it gets are those it encoded.
    """

    traits: ClassVar[FamilyTraits]
    auto_class: ClassVar[Any]  # of transformers, which loads its models
    scores_choices: ClassVar[bool] = False  # whether each choice of COPA and ReCoRD is a sequence of its own
    lora_task: ClassVar[str]  # the task type by which peft knows it
    labels_per_item: ClassVar[int] = 1  # entries of `labels` behind one item of the loss's mean

    def load_pretrained(self, model: Model, *tasks: Task, loading: Loading = PLAIN) -> Loaded:
        """The model to be finetuned on these tasks. Raises: UserError if it is missing or its checksum is wrong."""
        return load(self.auto_class, model, self.traits, loading)

    def load_trained(self, folder: Path, loading: Loading = PLAIN) -> Loaded:
        """A model that was trained here. Raises: UserError if it cannot be read."""
        return load_folder(self.auto_class, folder, loading)

    def load_tokenizer(self, model: Model) -> "PreTrainedTokenizerBase":
        """The model's tokenizer. Raises: UserError if a special token that the family needs is missing."""
        return load_tokenizer(model, self.traits)

    @abstractmethod
    def encode(
        self, loaded: Loaded, task: Task, examples: Sequence[Example], max_length: int, few_shot: FewShot | None = None
    ) -> Sequence[Encoded]:
        """Token ids of the examples, truncated to `max_length`, in their order."""

    @abstractmethod
    def collator(self, loaded: Loaded) -> Callable[[Sequence[Encoded]], Batch]:
        """Makes training batches: the model's inputs and `labels`."""

    @abstractmethod
    def example_losses(self, outputs: Any, labels: "Tensor", smoothing: float) -> ExampleLosses:
        """The losses of a batch from the model's outputs; `smoothing`: train.label_smoothing."""

    @abstractmethod
    def predict(self, loaded: Loaded, encoded: Sequence[Encoded], batch_size: int) -> Iterator[tuple[int, list[float]]]:
        """(index of the example, log-probability of each label, choice or answer), longest examples first."""
