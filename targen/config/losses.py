"""The losses `ce`, `imp` and `dimp`: cross-entropy, with a weight for each synthetic example.

To add a loss, add its function and its entry in LOSSES; train/loop/losses.py computes it.

IMP weighs by P'(y|x) / Q(y|x), DIMP by P'(y|x) / P_theta(y|x): the checker P' was trained on original rows, the checker Q
on synthetic ones, and P_theta is the model in training. Source: arXiv 2410.21526, for classifiers. Here also for models
that answer in words, with P the product over the answer's tokens; and weights do not enter the mean's denominator, so that
weights of 1 give `ce`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from targen.config.validation import name_in

if TYPE_CHECKING:
    from torch import Tensor

Checker = Literal["original", "synthetic"]  # the rows that it is trained on: P', Q
# (checkers, model) -> logarithms of the weights, all (examples,). `checkers`: log-probability of the right answer by the
# first checker minus that by the second, if there is one; `model`: by the model in training, without gradient.
LogWeights = Callable[["Tensor", "Tensor"], "Tensor"]


@dataclass(frozen=True)
class Loss:
    """Cross-entropy weighted with the help of checkers; without any, unweighted."""

    checkers: tuple[Checker, ...] = ()
    log_weights: LogWeights | None = None


def _importance(checkers: "Tensor", model: "Tensor") -> "Tensor":
    return checkers


def _dynamic_importance(checkers: "Tensor", model: "Tensor") -> "Tensor":
    return checkers - model


LOSSES: dict[str, Loss] = {
    "ce": Loss(),
    "imp": Loss(("original", "synthetic"), _importance),
    "dimp": Loss(("original",), _dynamic_importance),
}

LossName = Annotated[str, name_in(LOSSES)]
