"""The processes that train together, as `accelerate launch` starts them; one, where nothing did."""

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
    """Which of how many this one is. The first writes all files, the others wait."""

    index: int = 0
    count: int = 1
    sharding: str = "none"  # of the weights: none, fsdp, deepspeed

    @property
    def first(self) -> bool:
        return self.index == 0

    def wait(self) -> None:
        """Returns when all are here."""
        if self.count > 1:
            from accelerate import PartialState

            PartialState().wait_for_everyone()

    def leave(self) -> None:
        """Ends the connection to the others: its threads abort a process that ends with it open."""
        if self.count > 1:
            from torch import distributed

            if distributed.is_initialized():
                distributed.destroy_process_group()

    def agree(self, value: int) -> int:
        """The largest value that one of them has, the same in all."""
        if self.count == 1:
            return value
        return max(self.gathered([value]))

    def of_first(self, value: Value) -> Value:
        """What the first one has."""
        return self.gathered([value])[0]

    def gathered(self, values: list[Value]) -> list[Value]:
        """All values of all processes, in their order."""
        if self.count == 1:
            return values
        from accelerate.utils import gather_object

        found: list[Value] = gather_object(values)
        return found

    def shared_out(self, items: Sequence[Item], compute: Callable[[list[Item]], Sequence[Value]]) -> list[Value]:
        """What `compute` says of each item, in their order: each process asks it for its share, and each gets all."""
        own = range(self.index, len(items), self.count)
        found = list(zip(own, compute([items[place] for place in own]), strict=True))
        return [value for _, value in sorted(self.gathered(found), key=lambda one: one[0])]


def join() -> Processes:
    """Joins the others. Torch is imported only where there are some."""
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
def together(cfg: DictConfig, check: Callable[[Settings], object]) -> Iterator[tuple[Settings, Processes]]:
    """The settings and the processes of a phase. The first one checks for all, writes config.yaml and holds the lock of the
    run, or that of the one cell that it works on."""
    processes = join()
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
        processes.wait()  # all end together, for one that is left alone by the others may abort
    finally:
        processes.leave()
