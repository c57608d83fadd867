"""The cells that are still to be trained, with the rows of each. No model is loaded here."""

import logging
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from targen.config.groups.training import Train
from targen.config.settings import Settings
from targen.runtime.progress import Progress
from targen.runtime.signals import StopRequest
from train.grid.cells import check_unchanged, read_done_marker, trained_cells
from train.grid.checkers import TrainingJob, training_job
from train.grid.mixture import epoch_counts
from train.grid.selection import forget_selections, write_selection
from train.models.checkpoints import Checkpoint, complete_checkpoints, keep_steps
from train.runtime.processes import Processes

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainContext:
    """What all cells of one start share."""

    processes: Processes
    stop: StopRequest
    progress: Progress


def pending_jobs(settings: Settings, processes: Processes) -> list[TrainingJob]:
    """What is still to be trained, checkers before the cells that they weigh.

    Raises: UserError if trained cells or checkpoints were made with other settings or rows.
    """
    if settings.train.select_rows is None:
        return _pending_jobs(settings, processes)
    if processes.first:  # the others read which rows it chose
        forget_selections(settings)
        jobs = _pending_jobs(settings, processes)
        for job in jobs:
            write_selection(settings, job.cell, job.rows)
    processes.wait()
    return jobs if processes.first else _pending_jobs(settings, processes)


def _pending_jobs(settings: Settings, processes: Processes) -> list[TrainingJob]:
    pending: dict[str, TrainingJob] = {}
    skipped = 0
    for cell in trained_cells(settings):
        folder, marker = settings.paths.model(cell.name), read_done_marker(settings.paths, cell)
        if marker is not None and processes.first:
            keep_steps(folder, set())  # a start may have been killed before it removed them
        if marker is not None and cell.arm == "original" and not settings.train.equal_size:
            continue  # original data do not change, and ReCoRD's take a while to read
        job = training_job(settings, cell)
        if job is None:
            skipped += 1
        elif marker is not None:
            check_unchanged(folder, marker["fingerprint"], job.fingerprint)
            if processes.first:
                write_selection(settings, cell, job.rows)  # its list may be damaged
        else:
            checkers = [checker for checker in job.checkers if read_done_marker(settings.paths, checker.cell) is None]
            pending |= {needed.cell.name: needed for needed in [*checkers, job]}
    for job in pending.values():
        _check_checkpoint(job, processes)
    if skipped and processes.first:
        log.warning("train: original data are not available, so %d cells that need them are skipped", skipped)
    return list(pending.values())


def _check_checkpoint(job: TrainingJob, processes: Processes) -> None:
    if (checkpoint := newest_checkpoint(job)) is not None:
        check_unchanged(checkpoint.folder, checkpoint.fingerprint, job.fingerprint)
        check_unchanged(checkpoint.folder, {"sharding": checkpoint.sharding}, {"sharding": processes.sharding})


def newest_checkpoint(job: TrainingJob) -> Checkpoint | None:
    """The checkpoint from which the cell's training would resume."""
    return next(iter(complete_checkpoints(job.settings.paths.model(job.cell.name))[-1:]), None)


def steps(train: Train, examples: int) -> int:
    """Optimizer steps in all for so many examples an epoch; a linear layer that is fitted counts as one."""
    return 1 if train.freeze else math.ceil(train.epochs * -(-examples // train.batch_size))


def steps_left(jobs: Sequence[TrainingJob]) -> int:
    """Steps of all these jobs that no checkpoint covers."""
    remaining = 0
    for job in jobs:
        sizes: Counter[str] = Counter()
        for source in job.rows:
            sizes[source.task.name] += len(source.examples())
        checkpoint = newest_checkpoint(job)
        total = steps(job.settings.train, epoch_size(job.settings.train, list(sizes.values())))
        remaining += total - (checkpoint.step if checkpoint else 0)
    return remaining


def epoch_size(train: Train, sizes: Sequence[int]) -> int:
    """Examples of an epoch with so many of each task."""
    if train.setting == "single":
        return sum(sizes)
    capped = [min(size, train.mixture_cap or size) for size in sizes]
    return sum(epoch_counts(capped, train.mixture, train.mixture_temperature))
