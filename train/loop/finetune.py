"""Trains one cell from its rows to models/<cell>/, resuming where an earlier start was stopped."""

import json
import logging
import time
from contextlib import nullcontext
from dataclasses import dataclass, replace

from accelerate.utils.memory import clear_device_cache
from transformers import set_seed

from targen.runtime.jsonl import write_jsonl, write_text
from targen.runtime.signals import Stopped
from train.grid.cells import DONE
from train.grid.checkers import TrainingJob
from train.grid.pending_jobs import TrainContext
from train.loop.checkpoint_callback import LOG
from train.loop.logistic_regression import fit
from train.loop.preparation import PreparedCell, prepare
from train.loop.saving import load_shapes, save_weights
from train.loop.sharding import forget_deepspeed
from train.loop.trainer import CellTrainer, DeviceFull
from train.models.adapters import BASE
from train.models.checkpoints import complete_checkpoints, keep_only_checkpoints, keep_steps, reporting_write_errors
from train.planning.fitting import (
    ON_CPU,
    check_fits,
    longest_example,
    size_of,
    this_device,
    with_device_batch,
    with_sequences,
)
from train.runtime.wandb_run import WANDB, wandb_run

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """The figures that the log reports of a trained cell."""

    seconds: float
    steps: int
    last_loss: float


def train_cell(context: TrainContext, job: TrainingJob) -> Outcome:
    """Trains the cell from its newest checkpoint and writes models/<cell>/, the done marker last. Its model leaves the device.

    Raises: Stopped after a signal, once a checkpoint is on disk.
    """
    settings, processes = job.settings, context.processes
    folder = settings.paths.model(job.cell.name)
    if processes.first:
        keep_only_checkpoints(folder, BASE, WANDB)
    processes.wait()  # what a killed start left is gone before another process looks for it
    if settings.train.freeze:
        return _fit(context, job)
    outcome = _train_until_it_fits(context, job)
    # a Trainer refers to itself, and so holds its model until it is collected
    clear_device_cache(garbage_collection=True)
    return outcome


def _train_until_it_fits(context: TrainContext, job: TrainingJob) -> Outcome:
    """Trains with fewer sequences at once where memory runs out after all, if their number was not set."""
    processes = context.processes
    may_shrink = job.settings.train.device_batch_size is None and processes.count == 1
    while True:
        prepared = prepare(job, processes)
        job = _with_device_batch(context, job, prepared)
        try:
            return _train(context, job, prepared)
        except DeviceFull as err:
            sequences = max(example.sequence_count for example in prepared.epoch.encoded)
            examples = (job.settings.train.device_batch_size or ON_CPU) // sequences
            if not may_shrink or examples <= 1:
                raise
            fewer = examples // 2 * sequences
            log.warning("%s Going on with train.device_batch_size=%d.", str(err).partition(".")[0], fewer)
            job = replace(job, settings=with_sequences(job.settings, fewer))
        del prepared
        clear_device_cache(garbage_collection=True)


def _with_device_batch(context: TrainContext, job: TrainingJob, prepared: PreparedCell) -> TrainingJob:
    """The job with train.device_batch_size, the same in all processes. Raises: UserError if a batch cannot fit."""
    processes, settings = context.processes, job.settings
    device = this_device(processes)
    if device.memory is None:
        return job
    example = size_of(prepared.collate([longest_example(prepared.epoch.encoded)]))
    shapes = load_shapes(settings, job.cell)
    sequences = with_device_batch(settings, shapes, example, device).train.device_batch_size or ON_CPU
    settings = with_sequences(settings, -processes.largest(-sequences))
    check_fits(settings, shapes, example, device)
    if processes.first and job.settings.train.device_batch_size is None:
        log.info("train: %s: %d sequences at once", job.cell.name, settings.train.device_batch_size)
    return replace(job, settings=settings)


def _train(context: TrainContext, job: TrainingJob, prepared: PreparedCell) -> Outcome:
    settings, cell, processes = job.settings, job.cell, context.processes
    folder = settings.paths.model(cell.name)
    checkpoints = processes.broadcast(complete_checkpoints(folder))
    with wandb_run(settings, folder, cell.name) if processes.first else nullcontext():
        trainer = CellTrainer(context, job, prepared)
        if processes.count > 1:
            set_seed((cell.seed + 7919 * processes.index) % 2**32)  # so that dropout differs between processes
        result = trainer.train(resume_from_checkpoint=str(checkpoints[-1].folder) if checkpoints else None)
        if trainer.state.global_step < trainer.state.max_steps:
            raise Stopped
        if settings.train.select == "best":
            trainer.load_best()
    history = trainer.state.log_history
    losses = [entry["loss"] for entry in history if "loss" in entry]
    steps = trainer.state.global_step
    with reporting_write_errors(folder):
        trainer.save_model(str(folder))  # all processes take part in gathering sharded weights
        if processes.first:
            prepared.loaded.tokenizer.save_pretrained(folder)
    forget_deepspeed(processes)
    _mark_as_done(context, job, steps)
    return Outcome(result.metrics["train_runtime"], steps, losses[-1])


def _fit(context: TrainContext, job: TrainingJob) -> Outcome:
    """The linear layer of train.freeze. It takes seconds, so that there are no checkpoints: a killed fit starts anew."""
    folder, start = job.settings.paths.model(job.cell.name), time.monotonic()
    prepared = prepare(job, context.processes)
    fitted = fit(prepared)
    outcome = Outcome(time.monotonic() - start, fitted.steps, fitted.loss)
    if context.processes.first:
        entry = {"step": fitted.steps, "loss": fitted.loss, "train_runtime": round(outcome.seconds, 3)}
        with reporting_write_errors(folder), wandb_run(job.settings, folder, job.cell.name) as run:
            save_weights(prepared.loaded.model, folder)
            write_jsonl(folder / LOG, [entry])
            if run is not None:
                run.log({f"train/{name}": value for name, value in entry.items()})
        context.progress.advance(f"{job.cell.name}, loss {fitted.loss:.3f}")
    _mark_as_done(context, job, fitted.steps)
    return outcome


def _mark_as_done(context: TrainContext, job: TrainingJob, steps: int) -> None:
    """Writes the done marker, then removes the checkpoints."""
    folder = job.settings.paths.model(job.cell.name)
    with reporting_write_errors(folder):
        if context.processes.first:
            marker = {
                "cell": job.cell.name,
                "rows": job.row_count,
                "real_rows": job.real_row_count,
                "checkers": [checker.cell.name for checker in job.checkers],
                "init_from": job.settings.train.init_from,
                "steps": steps,
                "fingerprint": job.fingerprint,
            }
            write_text(folder / DONE, json.dumps(marker, indent=2) + "\n")
            keep_steps(folder, set())
    context.processes.wait()
