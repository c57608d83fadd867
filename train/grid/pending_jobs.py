"""What there is to train: the cells that are not done, with the rows of each. No model is loaded here."""

import logging
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from targen.config.groups.training import Train
from targen.config.settings import Settings
from targen.runtime.progress import Progress
from targen.runtime.signals import StopRequest
from train.grid.cells import check_unchanged, done, trained_cells
from train.grid.checkers import Job, job_of
from train.grid.encoding import examples_of
from train.grid.mixture import epoch_counts
from train.models.checkpoints import Checkpoint, complete, keep
from train.runtime.processes import Processes

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Surroundings:
    """What is the same for all cells of a start."""

    processes: Processes
    stop: StopRequest
    progress: Progress


def jobs_of(settings: Settings, processes: Processes) -> list[Job]:
    """What is to be trained, checkers before the cells that they weigh.

    Raises: UserError where what is there was made with other settings or rows.
    """
    found: dict[str, Job] = {}
    skipped = 0
    for cell in trained_cells(settings):
        folder, marker = settings.paths.model(cell.name), done(settings.paths, cell)
        if marker is not None and processes.first:
            keep(folder, set())  # a kill may have come before they went
        if marker is not None and cell.arm == "original" and not settings.train.equal_size:
            continue  # original data do not change, and ReCoRD's take a while to read
        job = job_of(settings, cell)
        if job is None:
            skipped += 1
        elif marker is not None:
            check_unchanged(folder, marker["fingerprint"], job.mark)
        else:
            waiting = [one for one in job.checkers if done(settings.paths, one.cell) is None]
            found |= {one.cell.name: one for one in [*waiting, job]}
    for job in found.values():
        _check_resumable(job, processes)
    if skipped and processes.first:
        log.warning("train: the original data are not at hand, so %d cells that need them are left out", skipped)
    return list(found.values())


def _check_resumable(job: Job, processes: Processes) -> None:
    if (checkpoint := resumable(job)) is not None:
        check_unchanged(checkpoint.folder, checkpoint.fingerprint, job.mark)
        check_unchanged(checkpoint.folder, {"sharding": checkpoint.sharding}, {"sharding": processes.sharding})


def resumable(job: Job) -> Checkpoint | None:
    """The checkpoint that a start of the cell would go on from."""
    return next(iter(complete(job.settings.paths.model(job.cell.name))[-1:]), None)


def steps(train: Train, examples: int) -> int:
    """Optimizer steps for so many examples an epoch."""
    return math.ceil(train.epochs * -(-examples // train.batch_size))


def steps_left(jobs: Sequence[Job]) -> int:
    """Steps of all these cells that no checkpoint has."""
    found = 0
    for job in jobs:
        sizes: Counter[str] = Counter()
        for part in job.parts:
            sizes[part.task.name] += len(examples_of(part))
        checkpoint = resumable(job)
        all_of_them = steps(job.settings.train, epoch_size(job.settings.train, list(sizes.values())))
        found += all_of_them - (checkpoint.step if checkpoint else 0)
    return found


def epoch_size(train: Train, sizes: Sequence[int]) -> int:
    """Examples of an epoch with so many of each task."""
    if train.setting == "single":
        return sum(sizes)
    capped = [min(size, train.mixture_cap or size) for size in sizes]
    return sum(epoch_counts(capped, train.mixture, train.mixture_temperature))
