"""What a metric is computed from: single rows, pairs or groups of rows, or counts per class."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, TypeAlias

from targen.runtime.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Prediction:
    """What a model answered to one example. `gold` are the right answers: one label, or several texts (ReCoRD)."""

    idx: int
    gold: tuple[str, ...]
    prediction: str | None
    scores: dict[str, float]
    text: str | None = None  # what the model wrote, with eval.scoring=generate
    cut: bool = False  # whether the text reached eval.max_new_tokens before its end
    groups: tuple[int, ...] = ()  # as those of its Example


@dataclass(frozen=True)
class ClassCounts:
    """Per class, (..., classes): rows answered right, rows that were given this answer, rows with this gold label.

    For ordered labels also, (...,), the distances between answer and gold label, in labels, and their squares, summed over rows.
    An unreadable answer is as far off as an answer can be.
    """

    right: "Floats"
    answered: "Floats"
    gold: "Floats"
    off: "Floats"
    off_squared: "Floats"


@dataclass(frozen=True)
class Metric(ABC):
    """One metric: its name in a task's `metrics`, its title in tables and figures, and its range.

    Subclasses define what it is computed from, and thus how it is resampled.
    """

    name: str
    title: str
    _: KW_ONLY
    lowest: float = 0.0
    highest: float = 1.0
    in_task_score: bool = True  # whether it counts in the score of a task

    @abstractmethod
    def __call__(self, predictions: Sequence[Prediction], labels: Sequence[str], /) -> float:
        """The value for these predictions; `labels` are those of the task, empty if it has none."""


@dataclass(frozen=True)
class RowMetric(Metric):
    """The mean over rows of `of_row`."""

    of_row: Callable[[Prediction], float]

    def __call__(self, predictions: Sequence[Prediction], _labels: Sequence[str], /) -> float:
        return sum(map(self.of_row, predictions)) / len(predictions)


@dataclass(frozen=True)
class PairMetric(Metric):
    """The mean over pairs of rows of `of_pair`; rows 2k and 2k+1 are a pair."""

    of_pair: Callable[[Prediction, Prediction], float]

    def __call__(self, predictions: Sequence[Prediction], _labels: Sequence[str], /) -> float:
        """Raises: UserError if the rows are not in pairs."""
        pairs = self.pairs(predictions)
        return sum(self.of_pair(first, second) for first, second in pairs) / len(pairs)

    def pairs(self, predictions: Sequence[Prediction]) -> list[tuple[Prediction, Prediction]]:
        """The predictions as pairs. Raises: UserError if the rows are not in pairs."""
        if len(predictions) % 2:
            raise UserError(
                f"{self.name}: got {len(predictions)} rows, expected an even number, since rows 2k and 2k+1 are a pair. "
                "Add the missing row."
            )
        pairs = list(zip(predictions[::2], predictions[1::2], strict=True))
        for first, second in pairs:
            if first.idx % 2 or second.idx != first.idx + 1:
                raise UserError(
                    f"{self.name}: got the rows {first.idx} and {second.idx} side by side, expected rows 2k and 2k+1, which are "
                    "a pair. Put the rows in their official order."
                )
        return pairs


@dataclass(frozen=True)
class GroupMetric(Metric):
    """The mean over groups of rows, such as the answers to a question, of `of_group`."""

    of_group: Callable[[Sequence[Prediction]], float]

    def __call__(self, predictions: Sequence[Prediction], _labels: Sequence[str], /) -> float:
        """Raises: UserError if the rows do not say to which group they belong."""
        groups = self.groups(predictions)
        return sum(map(self.of_group, groups)) / len(groups)

    def groups(self, predictions: Sequence[Prediction]) -> list[list[Prediction]]:
        """The predictions by their smallest group. Raises: UserError if one has no group."""
        by_group: dict[tuple[int, ...], list[Prediction]] = {}
        for prediction in predictions:
            if not prediction.groups:
                raise UserError(
                    f"{self.name}: row {prediction.idx}: got no group, expected that of its question. Name it."
                )
            by_group.setdefault(prediction.groups, []).append(prediction)
        return list(by_group.values())


@dataclass(frozen=True)
class ClassMetric(Metric):
    """A function of the counts per class over all rows, not a mean over rows."""

    of_counts: Callable[[ClassCounts], "Floats"]  # (..., classes) -> (...,)

    def __call__(self, predictions: Sequence[Prediction], labels: Sequence[str], /) -> float:
        """Raises: UserError if the task has no labels."""
        import numpy as np

        if not labels:
            raise UserError(f"metrics: {self.without_labels()}")
        distances = [places_off(labels, p.gold[0], p.prediction) for p in predictions]
        counts = [
            [float(sum(p.prediction == label and p.gold[0] == label for p in predictions)) for label in labels],
            [float(sum(p.prediction == label for p in predictions)) for label in labels],
            [float(sum(p.gold[0] == label for p in predictions)) for label in labels],
            float(sum(distances)),
            float(sum(distance**2 for distance in distances)),
        ]
        return float(self.of_counts(ClassCounts(*map(np.array, counts))))

    def without_labels(self) -> str:
        """What is wrong with this metric for a task without labels."""
        return f"got {self.name} for a task without labels, expected a metric of single rows, such as record_f1. Change it."


def places_off(labels: Sequence[str], gold: str, answer: str | None) -> int:
    """How many labels lie between answer and gold, in the order of the labels; an unreadable answer is as far off as possible."""
    position = labels.index(gold)
    return abs(labels.index(answer) - position) if answer in labels else max(position, len(labels) - 1 - position)
