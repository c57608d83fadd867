"""The plan of a cell, and its line."""

from dataclasses import dataclass

from train.planning.fitting import Device
from train.planning.memory import MIB, Disk, Memory

GIB = 2**30


@dataclass(frozen=True)
class Size:
    """How large a model is, and what its training takes with `at_once` sequences in memory. No memory: the model's code does
    not run on shapes alone."""

    parameters: int
    trainable: int
    memory: Memory | None
    disk: Disk
    at_once: int
    operations: tuple[float, float]  # of each input token, and of each token of a decoder beside it


@dataclass(frozen=True)
class CellPlan:
    """One line of the plan. None: unknown, since rows or the model are not on this machine or not generated yet."""

    cell: str
    state: str
    rows: int | None = None  # training examples, of which a row may have several
    steps: int | None = None
    size: Size | None = None
    tokens: int | None = None  # of all epochs, without padding
    padding: float | None = None  # padding tokens for each token that is not
    truncated: int | None = None
    missing: tuple[str, ...] = ()  # what the plan does without, and why
    frozen: bool = False  # only a linear layer is fitted
    about: bool = False  # whether rows and steps are estimates
    flops: float = 0.0  # operations of the training; at most, if the tokens are unknown


def line(cell_plan: CellPlan, device: Device) -> str:
    """The plan of a cell as text."""
    if cell_plan.rows is None:
        return f"{cell_plan.cell}: {cell_plan.state}"
    about = "about " if cell_plan.about else ""
    parts = [
        f"{cell_plan.cell}: {cell_plan.state}",
        f"{about}{cell_plan.rows} rows",
        f"{about}{cell_plan.steps} steps",
    ]
    if cell_plan.frozen:
        return ", ".join([*parts[:2], "a linear layer on kept embeddings"])
    if cell_plan.tokens is None:
        parts.append("tokens unknown")
    else:
        padding = f"plus {cell_plan.padding:.0%} padding"
        parts.append(f"{_short(cell_plan.tokens)} tokens ({padding}), {cell_plan.truncated} rows truncated")
    if (size := cell_plan.size) is None:
        return ", ".join([*parts, "parameters and memory unknown"])
    parts.insert(1, f"{_short(size.parameters)} parameters, {_short(size.trainable)} trained")
    parts.append(f"{size.at_once} sequences at once")
    disk = f"; disk {_mib(size.disk.kept)}, at most {_mib(size.disk.most)} while it trains"
    if (memory := size.memory) is None:
        return f"{', '.join(parts)}, memory unknown{disk}"
    note = "" if memory.accumulates else " (gradients take the place of activations)"
    does_not_fit = device.memory is not None and memory.total > device.memory
    warning = f"; DOES NOT FIT into {_mib(int(device.memory or 0))}" if does_not_fit else ""
    return (
        f"{', '.join(parts)}; per device {_mib(memory.total)} = weights {_mib(memory.weights)} + gradients "
        f"{_mib(memory.gradients + memory.whole_gradients)} + optimizer {_mib(memory.optimizer)} + activations {_mib(memory.activations)}{note}{warning}{disk}"
    )


def _short(count: int) -> str:
    """12345678 as 12.3M."""
    for size, letter in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if count >= size:
            return f"{count / size:.3g}{letter}"
    return str(count)


def _mib(size: int) -> str:
    return f"{size / GIB:,.1f} GiB" if size >= 10 * GIB else f"{size / MIB:,.{1 if size < 10 * MIB else 0}f} MiB"
