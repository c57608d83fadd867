"""One cell: from its rows to models/<cell>/, however often it was stopped in between."""

import json
from contextlib import nullcontext
from dataclasses import dataclass

from transformers import set_seed

from targen.runtime.jsonl import write_text
from targen.runtime.signals import Stopped
from train.grid.cells import DONE
from train.grid.checkers import Job
from train.grid.pending_jobs import Surroundings
from train.loop.preparation import prepared
from train.loop.trainer import CellTrainer
from train.models.adapters import BASE
from train.models.checkpoints import complete, keep, keep_only_checkpoints, writing
from train.runtime.wandb_run import WANDB, wandb_run


@dataclass(frozen=True)
class Outcome:
    """What is said of a trained cell."""

    seconds: float
    steps: int
    last_loss: float


def train_cell(around: Surroundings, job: Job) -> Outcome:
    """Trains the cell and writes models/<cell>/, the done marker last; goes on from the newest checkpoint.

    Raises: Stopped after a signal, when a checkpoint is on the disk.
    """
    settings, cell, processes = job.settings, job.cell, around.processes
    folder = settings.paths.model(cell.name)
    if processes.first:
        keep_only_checkpoints(folder, BASE, WANDB)
    checkpoints = processes.of_first(complete(folder))
    ready = prepared(job, processes)
    with wandb_run(settings, folder, cell.name) if processes.first else nullcontext():
        trainer = CellTrainer(around, job, ready)
        if processes.count > 1:
            set_seed(cell.seed + 7919 * processes.index)  # each drops out other places
        result = trainer.train(resume_from_checkpoint=str(checkpoints[-1].folder) if checkpoints else None)
        if trainer.state.global_step < trainer.state.max_steps:
            raise Stopped
        if settings.train.select == "best":
            trainer.load_best()
    history = trainer.state.log_history
    losses = [entry["loss"] for entry in history if "loss" in entry]
    _write(around, job, trainer)
    return Outcome(result.metrics["train_runtime"], trainer.state.global_step, losses[-1])


def _write(around: Surroundings, job: Job, trainer: CellTrainer) -> None:
    """The model, the tokenizer, the done marker; then the checkpoints go."""
    folder = job.settings.paths.model(job.cell.name)
    with writing(folder):
        trainer.save_model(str(folder))  # gathers sharded weights: all processes take part
        if around.processes.first:
            trainer.ready.loaded.tokenizer.save_pretrained(folder)
            marker = {
                "cell": job.cell.name,
                "rows": job.rows,
                "real_rows": job.real_rows,
                "checkers": [checker.cell.name for checker in job.checkers],
                "init_from": job.settings.train.init_from,
                "steps": trainer.state.global_step,
                "fingerprint": job.mark,
            }
            write_text(folder / DONE, json.dumps(marker, indent=2) + "\n")
            keep(folder, set())
    around.processes.wait()
