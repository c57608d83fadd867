"""The train phase: `python -m train.run +experiment=quickstart`.

In several processes: `accelerate launch --config_file conf/accelerate/ddp.yaml -m train.run +experiment=quickstart`, or
`train.launch=ddp` for the whole run.
"""

import logging
import os
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from targen.config.run_directory import open_run
from targen.config.settings import Settings
from targen.pipeline.start import log_start
from targen.runtime.cli import CHECK, REQUEUE, main
from targen.runtime.lock.run_lock import hold_lock
from targen.runtime.progress import Progress
from targen.runtime.signals import Stopped, StopRequest
from train.families.checks import check_loadable
from train.grid.cells import check_trained, read_done_marker, trained_cells
from train.grid.checkers import TrainingJob
from train.grid.encoding import check_answer_room
from train.grid.pending_jobs import TrainContext, pending_jobs, steps_left
from train.grid.selection import check_selection
from train.runtime.processes import Processes, open_run_together

log = logging.getLogger(__name__)


def train(settings: Settings, processes: Processes | None = None, stop: StopRequest | None = None) -> None:
    """Trains every cell that is not done. All rows are read and checked before the first model is loaded.

    Raises: Stopped after a signal; UserError for rows, models or settings that cannot be trained.
    """
    processes, stop = processes or Processes(), stop or StopRequest()
    with ExitStack() as checkers_lock:
        if settings.cell is not None and settings.train.checkers and processes.first:
            checkers_lock.enter_context(hold_lock(settings.paths.root, _checkers_lock(settings), wait=True))
        processes.wait()
        _train(settings, processes, stop, checkers_lock)
    if processes.largest(int(stop.requested)):
        raise Stopped
    if settings.train.merge_export and processes.first:
        from train.loop.saving import export_merged  # torch

        for cell in trained_cells(settings):
            if read_done_marker(settings.paths, cell) is not None:
                export_merged(settings, cell)


def _checkers_lock(settings: Settings) -> str:
    """The name of a lock: cells trained at the same time share checkers only if task and seed are the same."""
    (cell,) = trained_cells(settings)
    return f"checkers-{cell.task}-s{cell.seed}"


def _train(settings: Settings, processes: Processes, stop: StopRequest, checkers_lock: ExitStack) -> None:
    """Trains what is not done; closes `checkers_lock`, for which other processes may wait, once the checkers are trained."""
    jobs = pending_jobs(settings, processes)
    _check_models(jobs)
    if processes.first:
        log_start(settings, ["train"])
    steps = steps_left(jobs) if processes.first else 0
    processes.wait()  # nothing is written while another process still reads
    with Progress("train", "steps", steps) as progress:
        for job in jobs:
            from train.loop.finetune import train_cell  # torch, only if something is trained

            if processes.largest(int(stop.requested)):
                raise Stopped
            if job.cell.name == settings.cell:
                checkers_lock.close()
            outcome = train_cell(TrainContext(processes, stop, progress), job)
            if processes.first:
                log.info(
                    "train: %s: %d rows, %d steps in %.0f s, last loss %.3f",
                    job.cell.name,
                    job.row_count,
                    outcome.steps,
                    outcome.seconds,
                    outcome.last_loss,
                )


def _check_models(jobs: Sequence[TrainingJob]) -> None:
    """Raises: UserError if a model cannot be loaded, or leaves no room for an answer."""
    for settings in {job.settings.model.name: job.settings for job in jobs}.values():
        check_loadable(settings.model, settings.train)
    for job in jobs:
        check_answer_room(job.settings, job.rows)


def _check(settings: Settings) -> None:
    """Raises: UserError if trained cells are of other settings, or rows cannot be selected on this machine."""
    check_trained(settings)
    check_selection(settings)


def phase(cfg: Any, overrides: list[str]) -> int:
    """The exit code of the train phase."""
    if os.environ.get(CHECK):
        open_run(cfg, _check, write=False)
        return 0
    if cfg.plan:
        from train.plan import lines, plan

        settings = open_run(cfg, _check, write=False)
        print("\n".join(lines(settings, plan(settings))))  # noqa: T201
        return 0
    with StopRequest() as stop, open_run_together(cfg, _check) as (settings, processes):
        try:
            train(settings, processes, stop)
        except Stopped:
            if processes.first:
                log.warning("train: told to stop. Progress is saved; rerun the command to resume.")
            return REQUEUE
    return 0


if __name__ == "__main__":
    main("train.run", "finetunes every cell of the grid", phase)
