"""The train phase: `python -m train.run +experiment=quickstart`.

In several processes: `accelerate launch --config_file conf/accelerate/ddp.yaml -m train.run +experiment=quickstart`, or
`train.launch=ddp` for the whole run.
"""

import logging
import os
from contextlib import ExitStack
from typing import Any

from targen.config.run_directory import open_run
from targen.config.settings import Settings
from targen.runtime.cli import CHECK, REQUEUE, main
from targen.runtime.progress import Progress
from targen.runtime.run_lock import locked
from targen.runtime.signals import Stopped, StopRequest
from train.grid.cells import check_trained, done, trained_cells
from train.grid.encoding import check_room
from train.grid.pending_jobs import Surroundings, jobs_of, steps_left
from train.loop.saving import export_merged
from train.models.loading import check_loadable
from train.runtime.processes import Processes, together

log = logging.getLogger(__name__)


def train(settings: Settings, processes: Processes | None = None, stop: StopRequest | None = None) -> None:
    """Trains every cell that is not done. All rows are read and checked before the first model is loaded.

    Raises: Stopped after a signal.
    """
    processes, stop = processes or Processes(), stop or StopRequest()
    with ExitStack() as shared:
        if settings.cell is not None and settings.train.loss != "ce" and processes.first:
            shared.enter_context(locked(settings.paths.root, _checkers_lock(settings), wait=True))
        processes.wait()
        _train(settings, processes, stop, shared)
    if processes.agree(int(stop.requested)):
        raise Stopped
    for cell in trained_cells(settings) if processes.first else ():
        if done(settings.paths, cell) is not None:
            export_merged(settings, cell)


def _checkers_lock(settings: Settings) -> str:
    """Cells that are trained at once share checkers only where task and seed are the same."""
    (cell,) = trained_cells(settings)
    return f"checkers-{cell.task}-s{cell.seed}"


def _train(settings: Settings, processes: Processes, stop: StopRequest, shared: ExitStack) -> None:
    """Trains what is not done; `shared` is closed when what other processes may be waiting for is trained."""
    jobs = jobs_of(settings, processes)
    for own in {job.settings.model.name: job.settings for job in jobs}.values():
        check_loadable(own.model, own.train)
    for job in jobs:
        check_room(job.settings, job.cell, job.parts)
    steps = steps_left(jobs) if processes.first else 0
    processes.wait()  # nothing is written while another still reads what is there
    with Progress("train", "steps", steps) as progress:
        for job in jobs:
            from train.loop.finetune import train_cell  # torch, only where something is trained

            if processes.agree(int(stop.requested)):
                raise Stopped
            if job.cell.name == settings.cell:
                shared.close()
            found = train_cell(Surroundings(processes, stop, progress), job)
            if processes.first:
                log.info(
                    "train: %s: %d rows, %d steps in %.0f s, last loss %.3f",
                    job.cell.name,
                    job.rows,
                    found.steps,
                    found.seconds,
                    found.last_loss,
                )


def phase(cfg: Any, overrides: list[str]) -> int:
    only_check = bool(os.environ.get(CHECK))
    if only_check:
        open_run(cfg, check_trained, write=False)
        return 0
    if cfg.plan:
        from train.plan import lines, plan

        settings = open_run(cfg, check_trained, write=False)
        print("\n".join(lines(settings, plan(settings))))  # noqa: T201
        return 0
    with StopRequest() as stop, together(cfg, check_trained) as (settings, processes):
        try:
            train(settings, processes, stop)
        except Stopped:
            if processes.first:
                log.warning("train: told to stop; what was done is saved, the same command goes on")
            return REQUEUE
    return 0


if __name__ == "__main__":
    main("train.run", "finetunes every cell of the grid", phase)
