"""The losses `ce`, `imp` and `dimp`: cross-entropy, with weights per example where rows are synthetic.

IMP weighs by P'(y|x) / Q(y|x), DIMP by P'(y|x) / P_theta(y|x), where P' was trained on real rows, Q on the synthetic
ones and P_theta is the model being trained. Source: arXiv 2410.21526, for classifiers. Here also for models that answer
in words, with P the product over the answer's tokens; and weights change no normaliser, so that weights of 1 give `ce`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import Trainer

from train.families.base import Encoded, Family
from train.models.loading import Loaded

NO_WEIGHT = float("nan")  # stands in `checked` for a row that is not weighed: a real one
MAX_LOG_WEIGHT = (
    20.0  # e^20: a weight beyond it means nothing and overflows fp32 when P_theta gives an answer no chance
)


@dataclass(frozen=True)
class PerExample:
    """Of every example of a batch, its loss and the log-probability of its right answer; both (examples,)."""

    loss: Tensor
    log_probability: Tensor


Loss = Literal["ce", "imp", "dimp"]
Weigh = Callable[[PerExample], Tensor]  # -> weights (examples,), detached


def weigher(loss: Loss, checked: Tensor | None) -> Weigh | None:
    """The weights of a batch. `checked`, (examples,): IMP log P' - log Q, DIMP log P', NaN: not weighed; None: no weights.

    A real row has weight 1: it is a draw from the distribution towards which the weights correct.
    """
    if checked is None:
        return None

    def weigh(own: PerExample) -> Tensor:
        log_weight = checked.to(own.loss.device)
        if loss == "dimp":
            log_weight = log_weight - own.log_probability.detach()
        return log_weight.nan_to_num(0.0).clamp(max=MAX_LOG_WEIGHT).exp()

    return weigh


def total(own: PerExample, weigh: Weigh | None) -> Tensor:
    """The sum of the batch's losses, each with its weight."""
    return own.loss.sum() if weigh is None else (own.loss * weigh(own)).sum()


class WeighingTrainer(Trainer):  # type: ignore[misc]
    """Hands a batch's `checked` to the loss; the model does not see it."""

    compute_loss_func: Any

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        checked = inputs.pop("checked", None)
        plain: Any = self.compute_loss_func
        self.compute_loss_func = partial(plain, checked=checked)
        try:
            return super().compute_loss(model, inputs, *args, **kwargs)
        finally:
            self.compute_loss_func = plain


def cell_loss(family: Family, loss: Loss, smoothing: float) -> Callable[..., Tensor]:
    """The loss as the trainer calls it: (outputs, labels, num_items_in_batch, checked)."""

    def compute(
        outputs: Any, labels: Tensor, num_items_in_batch: Tensor | int | None = None, checked: Tensor | None = None
    ) -> Tensor:
        return family.loss(outputs, labels, num_items_in_batch, smoothing, weigher(loss, checked))

    return compute


def log_probabilities(family: Family, loaded: Loaded, encoded: Sequence[Encoded], batch_size: int) -> list[float]:
    """log P(right answer | example), as the loss has it: over labels or choices, or the product over the answer's tokens."""
    collate = family.collator(loaded)
    device = next(loaded.model.parameters()).device
    loaded.model.eval()
    order = sorted(range(len(encoded)), key=lambda place: (-encoded[place].length, place))
    found = [0.0] * len(encoded)
    for start in range(0, len(order), batch_size):
        places = order[start : start + batch_size]
        batch = collate([encoded[place] for place in places])
        inputs = {name: value.to(device) if isinstance(value, Tensor) else value for name, value in batch.items()}
        labels = inputs.pop("labels")
        with torch.inference_mode():
            own = family.per_example(loaded.model(**inputs), labels, 0.0).log_probability.cpu()
        for place, value in zip(places, own.tolist(), strict=True):
            found[place] = value
    return found
