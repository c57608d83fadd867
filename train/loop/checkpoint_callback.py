"""When training saves, validates or stops, and the log of a cell."""

import time
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState

from targen.runtime.jsonl import dumps, write_jsonl
from train.grid.checkers import TrainingJob
from train.grid.pending_jobs import TrainContext
from train.models.checkpoints import reporting_write_errors

LOG = "train_log.jsonl"
GO_ON, SAVE, STOP = range(3)  # what a process asks for after a step; all do what the most demanding one asks


class CheckpointCallback(TrainerCallback):  # type: ignore[misc]
    """Decides after each step whether to save or stop, the same in all processes; writes train_log.jsonl."""

    def __init__(self, context: TrainContext, job: TrainingJob) -> None:
        self._context, self._cell, self._train = context, job.cell, job.settings.train
        self._path = job.settings.paths.model(job.cell.name) / LOG
        self._saved = time.monotonic()

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Writes the log up to the checkpoint that training resumes from; empty for a new cell."""
        if self._context.processes.first:
            with reporting_write_errors(self._path):
                write_jsonl(self._path, state.log_history)

    def on_log(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Appends the newest entry to the log."""
        if self._context.processes.first:
            with reporting_write_errors(self._path), self._path.open("a", encoding="utf-8") as file:
                file.write(dumps(state.log_history[-1]) + "\n")

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Reports progress, and sets in `control` what all processes do next: validate, save or stop."""
        if self._context.processes.first:
            losses = [entry["loss"] for entry in state.log_history[-2:] if "loss" in entry]
            self._context.progress.advance(f"{self._cell.name}{f', loss {losses[-1]:.3f}' if losses else ''}")
        last = state.global_step >= state.max_steps
        request = STOP if self._context.stop.requested else SAVE if self._due(state.global_step) else GO_ON
        agreed = self._context.processes.largest(request)
        control.should_evaluate |= last and self._train.validate_every is not None
        if agreed != GO_ON and not last:  # the weights of the last step are the model
            control.should_save = True
            self._saved = time.monotonic()
        control.should_training_stop |= agreed == STOP

    def _due(self, step: int) -> bool:
        interval = self._train.save_every  # steps, or "15m"
        if isinstance(interval, str):
            return time.monotonic() - self._saved >= 60 * int(interval.removesuffix("m"))
        return interval is not None and step % interval == 0
