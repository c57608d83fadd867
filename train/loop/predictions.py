"""What a model answers, whoever computes it: the examples are shared out over the processes and gathered by their place."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from targen.tasks.task import Example
from train.families.base import Encoded, Family
from train.models.loading import Loaded
from train.runtime.processes import Processes

Value = TypeVar("Value")


def predicted(
    family: Family, loaded: Loaded, encoded: Sequence[Encoded], batch_size: int, processes: Processes
) -> list[list[float]]:
    """Log-probabilities of what can be answered, in the order of the examples, the same in every process."""
    return answered(lambda own: family.predict(loaded, own, batch_size), encoded, processes)


def answered(
    ask: Callable[[Sequence[Encoded]], Iterable[tuple[int, Value]]], encoded: Sequence[Encoded], processes: Processes
) -> list[Value]:
    """What `ask` says of each example by its place, in their order, the same in every process.

    No example is computed twice. Where the weights are sharded each process computes all, since a forward pass needs
    all processes.
    """

    def compute(own: Sequence[Encoded]) -> list[Value]:
        return [value for _, value in sorted(ask(own), key=lambda one: one[0])]

    return compute(encoded) if processes.sharding != "none" else processes.shared_out(encoded, compute)


def validation(examples: Sequence[Example], scores: Sequence[Sequence[float]]) -> dict[str, float]:
    """Accuracy and log-loss (nats) of each task, and their means over the tasks, as the Trainer's log names them."""
    right: dict[str, list[bool]] = defaultdict(list)
    lost: dict[str, list[float]] = defaultdict(list)
    for example, own in zip(examples, scores, strict=True):
        right[example.task].append(max(range(len(own)), key=own.__getitem__) in example.gold)
        lost[example.task].append(-own[example.gold[0]])
    found: dict[str, float] = {}
    for task in right:
        found[f"eval_{task}_accuracy"] = sum(right[task]) / len(right[task])
        found[f"eval_{task}_loss"] = sum(lost[task]) / len(lost[task])
    for measure in ("accuracy", "loss"):
        found[f"eval_{measure}"] = sum(found[f"eval_{task}_{measure}"] for task in right) / len(right)
    return found


def best_step(history: Sequence[dict[str, float]]) -> int | None:
    """The step of the best validation in a Trainer's log: by accuracy, then by log-loss, the first among equals."""
    validated = [entry for entry in history if "eval_accuracy" in entry]
    if not validated:
        return None
    return int(max(validated, key=lambda entry: (entry["eval_accuracy"], -entry["eval_loss"]))["step"])
