"""Predictions of examples that are distributed over the processes, and their validation scores."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TypeVar

from targen.tasks.task import Example
from train.families.base import Encoded, Family
from train.inference.batching import in_batches
from train.models.loading import Loaded
from train.runtime.processes import Processes

Value = TypeVar("Value")


def predict_scores(
    family: Family, loaded: Loaded, encoded: Sequence[Encoded], batch_size: int | None, processes: Processes
) -> list[list[float]]:
    """Log-probabilities of the possible answers, in the order of the examples, the same in every process."""
    return predict_distributed(partial(family.predict, loaded), encoded, batch_size, processes)


def predict_distributed(
    predict: Callable[[Sequence[Encoded], int], Iterable[tuple[int, Value]]],
    encoded: Sequence[Encoded],
    batch_size: int | None,
    processes: Processes,
) -> list[Value]:
    """What `predict` yields for each example by its index, in their order, the same in every process. `batch_size`: eval.batch_size.

    Each example is computed once. If the weights are sharded every process computes all, since a forward pass needs all
    processes.
    """

    def compute(share: Sequence[Encoded]) -> list[Value]:
        return in_batches(predict, share, batch_size)

    return compute(encoded) if processes.sharding != "none" else processes.distribute(encoded, compute)


def validation_scores(examples: Sequence[Example], scores: Sequence[Sequence[float]]) -> dict[str, float]:
    """Accuracy and log-loss (nats) of each task, and their means over the tasks, as the Trainer's log names them."""
    right: dict[str, list[bool]] = defaultdict(list)
    losses: dict[str, list[float]] = defaultdict(list)
    for example, log_probabilities in zip(examples, scores, strict=True):
        best = max(range(len(log_probabilities)), key=log_probabilities.__getitem__)
        right[example.task].append(best in example.gold)
        losses[example.task].append(-log_probabilities[example.gold[0]])
    measured: dict[str, float] = {}
    for task in right:
        measured[f"eval_{task}_accuracy"] = sum(right[task]) / len(right[task])
        measured[f"eval_{task}_loss"] = sum(losses[task]) / len(losses[task])
    for measure in ("accuracy", "loss"):
        measured[f"eval_{measure}"] = sum(measured[f"eval_{task}_{measure}"] for task in right) / len(right)
    return measured


def best_step(history: Sequence[dict[str, float]]) -> int | None:
    """The step of the best validation in a Trainer's log: by accuracy, then by log-loss; the first of equals."""
    validated = [entry for entry in history if "eval_accuracy" in entry]
    if not validated:
        return None
    return int(max(validated, key=lambda entry: (entry["eval_accuracy"], -entry["eval_loss"]))["step"])
