"""The loss of a batch, weighted by the log-probabilities that checkers give its examples."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import Tensor
from transformers import Trainer

from targen.config.losses import LogWeights, Loss
from train.families.base import IGNORED, Encoded, ExampleLosses, Family
from train.inference.arithmetic import inference_context
from train.models.loading import Loaded

CHECKERS = "checkers"  # of a batch, (examples,): see LogWeights; NaN for an example that is not weighted
COUNTS = "counts"  # of a batch: False if its examples only keep a process in step with others
# Larger weights are meaningless, and overflow fp32 if P_theta gives an answer almost no probability.
MAX_LOG_WEIGHT = 20.0


def example_weights(log_weights: LogWeights, checkers: Tensor, losses: ExampleLosses) -> Tensor:
    """Weights (examples,), without gradient; 1 where `checkers` is NaN."""
    logs = log_weights(checkers.to(losses.loss.device), losses.log_probability.detach())
    return logs.nan_to_num(0.0).clamp(max=MAX_LOG_WEIGHT).exp()


def batch_loss(
    family: Family,
    outputs: Any,
    labels: Tensor,
    num_items_in_batch: Tensor | int | None = None,
    smoothing: float = 0.0,
    log_weights: LogWeights | None = None,
    checkers: Tensor | None = None,
    counts: bool = True,
) -> Tensor:
    """Cross-entropy averaged over the items of the whole batch: examples of an encoder, answer tokens of other families.

    `num_items_in_batch` counts the labels of all micro-batches of the batch, so that loss and gradient of a batch do not
    depend on how it is split. A micro-batch that does not count has labels that are all IGNORED.
    """
    if not counts:
        nothing: Tensor = outputs.logits.sum() * 0.0
        return nothing
    losses = family.example_losses(outputs, labels, smoothing)
    loss = losses.loss
    if log_weights is not None and checkers is not None:
        loss = loss * example_weights(log_weights, checkers, losses)
    counted = (labels != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch
    return loss.sum() / (counted / family.labels_per_item)


def cell_loss(family: Family, loss: Loss, smoothing: float) -> Callable[..., Tensor]:
    """The loss as the Trainer calls it: (outputs, labels, num_items_in_batch=, checkers=, counts=)."""
    return partial(batch_loss, family, smoothing=smoothing, log_weights=loss.log_weights)


class WeightedLossTrainer(Trainer):  # type: ignore[misc]
    """Passes a batch's `checkers`, and whether it counts, to the loss; the model does not see them."""

    compute_loss_func: Any

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """The Trainer's loss; a batch without `checkers` is not weighted."""
        checkers, counts = inputs.pop(CHECKERS, None), inputs.pop(COUNTS, True)
        unweighted: Any = self.compute_loss_func
        self.compute_loss_func = partial(unweighted, checkers=checkers, counts=counts)
        try:
            return super().compute_loss(model, inputs, *args, **kwargs)
        finally:
            self.compute_loss_func = unweighted


def log_probabilities(family: Family, loaded: Loaded, encoded: Sequence[Encoded], batch_size: int) -> list[float]:
    """log P(right answer | example) in nats, in the order of the examples: of the label or choice, or the product over the
    answer's tokens."""
    collate = family.collator(loaded)
    device = next(loaded.model.parameters()).device
    loaded.model.eval()
    order = sorted(range(len(encoded)), key=lambda index: (-encoded[index].length, index))
    by_index: dict[int, float] = {}
    for start in range(0, len(order), batch_size):
        indices = order[start : start + batch_size]
        batch = collate([encoded[index] for index in indices])
        inputs = {name: value.to(device) if isinstance(value, Tensor) else value for name, value in batch.items()}
        labels = inputs.pop("labels")
        with inference_context(loaded):
            losses = family.example_losses(loaded.model(**inputs), labels, 0.0)
        by_index |= zip(indices, losses.log_probability.cpu().tolist(), strict=True)
    return [by_index[index] for index in range(len(encoded))]
