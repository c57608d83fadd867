"""The processes that train together, as `accelerate launch` starts them; a single one otherwise."""

import logging
import os
import select
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from threading import Thread
from typing import TypeVar

from omegaconf import DictConfig

from targen.config.run_directory import open_run
from targen.config.settings import Settings
from targen.runtime.cli import INTERRUPTED, REQUEUE
from targen.runtime.errors import UserError, one_line
from targen.runtime.lock.run_lock import LONGEST_WAIT, hold_lock, lock_of
from targen.runtime.signals import STOP_SIGNALS

Item = TypeVar("Item")
Value = TypeVar("Value")
log = logging.getLogger(__name__)
LAUNCHED = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")  # variables that a launcher sets
# For which the processes wait for one of them: it may wait for a lock, or read, encode or save for all. NCCL's own limit is ten
# minutes.
LONGEST_SILENCE = timedelta(seconds=2 * LONGEST_WAIT)
SECONDS_BEFORE_A_LINE = 10.0  # of waiting for other processes


@dataclass(frozen=True)
class Processes:
    """This process among all of a phase: its index and their count. The first writes all files, the others wait."""

    index: int = 0
    count: int = 1
    sharding: str = "none"  # of the weights: none, fsdp, deepspeed
    zero_stage: int = 2  # of DeepSpeed: 3 divides the weights, too

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
    """The processes that this one belongs to. Torch is imported only if there are several.

    Raises: UserError if the variables of a launcher are incomplete, or the processes do not find each other.
    """
    sharding = next(
        (name for name in ("fsdp", "deepspeed") if os.environ.get(f"ACCELERATE_USE_{name.upper()}") == "true"), "none"
    )
    if sharding == "fsdp":
        os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"  # see train/loop/sharding.py instead
    stage = int(os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE") or 2)  # 2 is accelerate's own default
    size = _world_size()
    if size == 1:
        return Processes(sharding=sharding, zero_stage=stage)
    import torch
    from accelerate import PartialState

    address = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    try:
        with _watched(f"the other {size - 1} of {size} processes (WORLD_SIZE) at {address} (MASTER_ADDR, MASTER_PORT)"):
            state = PartialState(cpu=not torch.accelerator.is_available(), timeout=LONGEST_SILENCE)
    except (RuntimeError, ValueError) as err:
        reason = one_line(err, 200)
        raise UserError(
            f"MASTER_ADDR: {size} processes did not come together at {address} ({reason}). Start all of them, or run unset "
            "WORLD_SIZE for a single one."
        ) from None
    return Processes(state.process_index, state.num_processes, sharding, stage)


def _world_size() -> int:
    """The number of processes that a launcher started. For a single one, what else a platform left in the environment is
    forgotten, since libraries would look for other processes. Raises: UserError if something is missing or no number."""
    variables = {name: os.environ.get(name, "") for name in LAUNCHED}
    missing = [name for name in LAUNCHED if not variables[name]]
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_PORT"):
        if variables[name] and not variables[name].isdecimal():
            raise UserError(f"{name}: got {variables[name]!r} in the environment, expected a number. Run unset {name}.")
    size = int(variables["WORLD_SIZE"] or 1)
    if size > 1 and missing:
        raise UserError(
            f"WORLD_SIZE: got {size} in the environment without {', '.join(missing)}, expected all that a launcher sets. Run "
            "unset WORLD_SIZE for a single process, or set train.launch=ddp for several."
        )
    if missing:
        for name in LAUNCHED:
            os.environ.pop(name, None)
    return max(1, size)


@contextmanager
def _watched(awaited: str) -> Iterator[None]:
    """Torch waits for other processes outside of Python, where no handler of a signal runs. Meanwhile a thread logs what is
    awaited, and ends the process at a signal to stop: nothing has been done yet."""
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    previous = signal.set_wakeup_fd(sender.fileno())  # gets the number of each signal at once

    def watch() -> None:
        if not select.select([receiver], [], [], SECONDS_BEFORE_A_LINE)[0]:
            log.warning("waiting for %s; run unset WORLD_SIZE for a single process", awaited)
        if signals := receiver.recv(1):
            os._exit(REQUEUE if signals[0] in STOP_SIGNALS else INTERRUPTED)

    thread = Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(previous)
        sender.close()
        thread.join()
        receiver.close()


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
        with hold_lock(settings.paths.root, lock_of(settings.cell)):
            processes.wait()
            yield settings, processes
        processes.wait()  # all end together: a process whose peers are gone may abort
    finally:
        processes.leave()
