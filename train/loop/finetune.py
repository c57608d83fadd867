"""Trains one cell from its rows to models/<cell>/, resuming where an earlier start was stopped."""

import json
import time
from contextlib import nullcontext
from dataclasses import dataclass

from transformers import set_seed

from targen.runtime.jsonl import write_jsonl, write_text
from targen.runtime.signals import Stopped
from train.grid.cells import DONE
from train.grid.checkers import TrainingJob
from train.grid.pending_jobs import TrainContext
from train.loop.logistic_regression import fit
from train.loop.preparation import prepare
from train.loop.saving import save_weights
from train.loop.sharding import forget_deepspeed
from train.loop.trainer import LOG, CellTrainer
from train.models.adapters import BASE
from train.models.checkpoints import complete, keep, keep_only_checkpoints, writing
from train.runtime.wandb_run import WANDB, wandb_run


@dataclass(frozen=True)
class Outcome:
    """The figures that the log reports of a trained cell."""

    seconds: float
    steps: int
    last_loss: float


def train_cell(context: TrainContext, job: TrainingJob) -> Outcome:
    """Trains the cell from its newest checkpoint and writes models/<cell>/, the done marker last.

    Raises: Stopped after a signal, once a checkpoint is on disk.
    """
    settings, cell, processes = job.settings, job.cell, context.processes
    folder = settings.paths.model(cell.name)
    if processes.first:
        keep_only_checkpoints(folder, BASE, WANDB)
    if settings.train.freeze:
        return _fit(context, job)
    checkpoints = processes.broadcast(complete(folder))
    prepared = prepare(job, processes)
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
    with writing(folder):
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
        with writing(folder), wandb_run(job.settings, folder, job.cell.name) as run:
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
    with writing(folder):
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
            keep(folder, set())
    context.processes.wait()
