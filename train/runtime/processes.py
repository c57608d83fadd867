"""The processes that train together, as `accelerate launch` starts them; a single one otherwise."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from omegaconf import DictConfig

from targen.config.run_directory import open_run
from targen.config.settings import Settings
from targen.runtime.run_lock import lock_of, locked

Item = TypeVar("Item")
Value = TypeVar("Value")


@dataclass(frozen=True)
class Processes:
    """This process among all of a phase: its index and their count. The first writes all files, the others wait."""

    index: int = 0
    count: int = 1
    sharding: str = "none"  # of the weights: none, fsdp, deepspeed

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and reports."""
        return self.index == 0

    def wait(self) -> None:
        """Returns when all processes have called it."""
        if self.count > 1:
            from accelerate import PartialState

            PartialState().wait_for_everyone()

    def leave(self) -> None:
        """Closes the connection to the others: its threads abort a process that ends with it open."""
        if self.count > 1:
            from torch import distributed

            if distributed.is_initialized():
                distributed.destroy_process_group()

    def largest(self, value: int) -> int:
        """The largest value of any process, the same in all."""
        if self.count == 1:
            return value
        return max(self.gather([value]))

    def broadcast(self, value: Value) -> Value:
        """The first process's value, the same in all."""
        return self.gather([value])[0]

    def gather(self, values: list[Value]) -> list[Value]:
        """All values of all processes, in the order of the processes."""
        if self.count == 1:
            return values
        from accelerate.utils import gather_object

        gathered: list[Value] = gather_object(values)
        return gathered

    def distribute(self, items: Sequence[Item], compute: Callable[[list[Item]], Sequence[Value]]) -> list[Value]:
        """The values that `compute` returns for the items, in their order: each process computes a share, and gets all."""
        share = range(self.index, len(items), self.count)
        indexed = list(zip(share, compute([items[index] for index in share]), strict=True))
        return [value for _, value in sorted(self.gather(indexed), key=lambda pair: pair[0])]


def join_processes() -> Processes:
    """The processes that this one belongs to. Torch is imported only if there are several."""
    sharding = next(
        (name for name in ("fsdp", "deepspeed") if os.environ.get(f"ACCELERATE_USE_{name.upper()}") == "true"), "none"
    )
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Processes(sharding=sharding)
    import torch
    from accelerate import PartialState

    state = PartialState(cpu=not torch.accelerator.is_available())
    return Processes(state.process_index, state.num_processes, sharding)


@contextmanager
def open_run_together(cfg: DictConfig, check: Callable[[Settings], object]) -> Iterator[tuple[Settings, Processes]]:
    """The settings and the processes of a phase. The first process checks for all, writes config.yaml and holds the lock of
    the run, or that of the one cell it works on."""
    processes = join_processes()
    try:
        if not processes.first:
            processes.wait()
            yield open_run(cfg, check, write=False), processes
            processes.wait()
            return
        settings = open_run(cfg, check)
        with locked(settings.paths.root, lock_of(settings.cell)):
            processes.wait()
            yield settings, processes
        processes.wait()  # all end together: a process whose peers are gone may abort
    finally:
        processes.leave()
