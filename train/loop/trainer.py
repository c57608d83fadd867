"""The transformers Trainer with this project's batches, checkpoints, validation and log."""

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from transformers import PrinterCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from targen.config.settings import Settings
from targen.runtime.errors import UserError
from targen.runtime.jsonl import dumps, write_jsonl
from train.data.batches import Batching, Parts
from train.families.base import Encoded
from train.families.base import family as family_named
from train.families.losses import WeighingTrainer
from train.grid.cells import Cell
from train.grid.checkers import Job
from train.grid.pending_jobs import Surroundings
from train.loop.predictions import best_step, predicted, validation
from train.loop.preparation import Prepared
from train.loop.saving import save_weights
from train.loop.throughput import Throughput
from train.models.checkpoints import PREFIX, keep, seal, writing

IGNORED = -100  # a label that counts nothing
LOG = "train_log.jsonl"


def batching(settings: Settings, encoded: Sequence[Encoded], processes: int) -> Batching:
    """How these examples are dealt out. Raises: UserError where a process would get none."""
    train = settings.train
    if train.batch_size < processes:
        raise UserError(
            f"train.batch_size: got {train.batch_size} with {processes} processes, expected at least one example for "
            f"each. Set train.batch_size={processes}, or take fewer processes."
        )
    room = max(1, train.device_batch_size // max(one.at_once for one in encoded))
    return Batching(train.batch_size, min(room, -(-train.batch_size // processes)), processes, train.group_by_length)


def training_arguments(settings: Settings, cell: Cell, dealt: Batching, examples: int) -> TrainingArguments:
    """The Trainer's arguments for so many examples."""
    train = settings.train
    steps = dealt.steps(examples) * train.epochs
    arguments = TrainingArguments(
        output_dir=str(settings.paths.model(cell.name)),
        num_train_epochs=train.epochs,
        per_device_train_batch_size=-(-dealt.batch_size // (dealt.processes * dealt.parts)),
        gradient_accumulation_steps=dealt.parts,
        learning_rate=train.learning_rate,
        warmup_steps=int(train.warmup_ratio * steps),
        weight_decay=train.weight_decay,
        bf16=train.precision != "fp32",
        gradient_checkpointing=train.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False} if train.gradient_checkpointing else None,
        use_cpu=not torch.accelerator.is_available(),
        seed=cell.seed,
        logging_steps=1 if steps < 100 else 20,
        logging_nan_inf_filter=False,  # a loss that is no number ends the run, see training_step
        save_strategy="no",  # the callback decides
        eval_strategy="no" if train.validate_every is None else "steps",
        eval_steps=train.validate_every,
        report_to=[] if settings.wandb.mode == "disabled" else ["wandb"],
        run_name=cell.name,
        remove_unused_columns=False,
        disable_tqdm=True,
        dataloader_pin_memory=False,
        ddp_find_unused_parameters=False,  # every part goes through the whole model
        log_level="error",
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # a process trains on one device: DataParallel would multiply the batch
    return arguments


class CellTrainer(WeighingTrainer):
    """Trains one cell, which is `ready`."""

    def __init__(self, around: Surroundings, job: Job, ready: Prepared) -> None:
        self.ready, self._around, self._job = ready, around, job
        settings, cell, processes = job.settings, job.cell, around.processes
        dealt = batching(settings, ready.data.encoded, processes.count)
        lengths = [one.length for one in ready.data.encoded]
        self._parts = Parts(lengths, dealt, cell.seed, cell.name, processes.index)
        super().__init__(
            model=ready.loaded.model,
            args=training_arguments(settings, cell, dealt, len(lengths)),
            train_dataset=_Places(len(lengths)),
            eval_dataset=None if ready.held is None else _Places(len(ready.held.examples)),
            data_collator=self._batch,
            compute_loss_func=ready.loss,
            callbacks=[_Conductor(around, job)],
        )
        self.pop_callback(PrinterCallback)  # it prints every line; the log goes to train_log.jsonl
        self._throughput = Throughput(ready.loaded.model, processes, settings.train.precision != "fp32")

    def get_train_dataloader(self) -> "DataLoader[int]":
        """The parts of this process; they are moved to the device by the Trainer's own step."""
        return _Loader(_Places(len(self.ready.data.encoded)), batch_sampler=self._parts, collate_fn=self._batch)

    def _batch(self, places: list[int]) -> dict[str, Any]:
        """The tensors of a part, and `places` for what has to be said about it."""
        filled = places[0] >= 0
        chosen = [place if filled else ~place for place in places]
        batch: dict[str, Any] = self.ready.collate([self.ready.data.encoded[place] for place in chosen])
        if not filled:
            batch["labels"] = torch.full_like(batch["labels"], IGNORED)
        return {**batch, "places": chosen}

    def training_step(
        self, model: torch.nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """The Trainer's, with a count of tokens. Raises: UserError for a loss that is no number, or too large a part."""
        places = inputs.pop("places")
        self._throughput.add(inputs)
        try:
            loss: Tensor = super().training_step(model, inputs, num_items_in_batch)
        except torch.OutOfMemoryError:
            train = self._job.settings.train
            raise UserError(
                f"train.device_batch_size: got {train.device_batch_size}, and a batch does not fit into the memory of the "
                f"device at step {self.state.global_step + 1}. Set a smaller one, or train.max_length below {train.max_length}."
            ) from None
        if not torch.isfinite(loss):
            ids = ", ".join(str(self.ready.data.examples[place].id) for place in places)
            first = self.state.global_step == 0
            cause = "Look at the weights of the model" if first else "Lower train.learning_rate"
            raise UserError(
                f"train: the loss is {loss.item()} at step {self.state.global_step + 1}, on the rows with idx {ids}. "
                f"{cause}, or set train.precision=fp32."
            )
        return loss

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """None: Throughput counts them, and the Trainer walks through all modules for each part, a tenth of a small step."""
        return 0

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Accuracy and log-loss on the held-out rows; a new best one is saved where train.select=best."""
        settings, held = self._job.settings, self.ready.held
        assert held is not None
        family, at_once = family_named(settings.model.family), settings.eval.batch_size
        scores = predicted(family, self.ready.loaded, held.encoded, at_once, self._around.processes)
        found = validation(held.examples, scores)
        self.log(found)
        if settings.train.select == "best" and best_step(self.state.log_history) == self.state.global_step:
            self.control.should_save = True
        self._throughput.start()
        return found

    def log(self, logs: dict[str, Any], start_time: float | None = None) -> None:
        super().log(logs | self._throughput.take() if "loss" in logs else logs, start_time)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """The weights alone: not the Trainer's arguments, a pickle that nobody reads."""
        if self.args.should_save:
            folder = Path(output_dir or self.args.output_dir)
            # the Trainer reads a checkpoint by the names in memory
            save_weights(self.accelerator.unwrap_model(self.model), folder, state_dict, folder.name.startswith(PREFIX))

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        """Raises: RuntimeError where a checkpoint lacks weights, of which the Trainer only warns."""
        lacking = sorted({*load_result.missing_keys} - {*self.model.all_tied_weights_keys})
        if lacking or load_result.unexpected_keys:
            raise RuntimeError(f"the checkpoint lacks {lacking} and has {load_result.unexpected_keys}")

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        """The Trainer's checkpoint, sealed when it is complete; then the ones before it go."""
        root, processes = Path(self.args.output_dir), self._around.processes
        folder = root / f"{PREFIX}{self.state.global_step}"
        try:
            with writing(folder):
                super()._save_checkpoint(model, trial)
                processes.wait()
                if processes.first:
                    seal(folder, self._job.mark, processes.sharding)
        except UserError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        if processes.first:
            best = best_step(self.state.log_history) if self._job.settings.train.select == "best" else None
            keep(root, {self.state.global_step} | ({best} if best is not None else set()))
        processes.wait()

    def load_best(self) -> None:
        """Takes the weights of the best validation back from their checkpoint."""
        best = best_step(self.state.log_history)
        if best != self.state.global_step:
            self.state.best_model_checkpoint = str(Path(self.args.output_dir) / f"{PREFIX}{best}")
            self._load_best_model()


class _Conductor(TrainerCallback):  # type: ignore[misc]
    """Says after each step whether to save or to end, the same in all processes; keeps the log on the disk."""

    def __init__(self, around: Surroundings, job: Job) -> None:
        self._around, self._cell, self._train = around, job.cell, job.settings.train
        self._path = job.settings.paths.model(job.cell.name) / LOG
        self._saved = time.monotonic()

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self._around.processes.first:
            with writing(self._path):
                write_jsonl(self._path, state.log_history)

    def on_log(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self._around.processes.first:
            with writing(self._path), self._path.open("a", encoding="utf-8") as file:
                file.write(dumps(state.log_history[-1]) + "\n")

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self._around.processes.first:
            losses = [entry["loss"] for entry in state.log_history[-2:] if "loss" in entry]
            self._around.progress.advance(f"{self._cell.name}{f', loss {losses[-1]:.3f}' if losses else ''}")
        last = state.global_step >= state.max_steps
        wanted = 2 if self._around.stop.requested else int(self._due(state.global_step))
        agreed = self._around.processes.agree(wanted)
        control.should_evaluate |= last and self._train.validate_every is not None
        if agreed and not last:  # the last step's weights are the model's
            control.should_save = True
            self._saved = time.monotonic()
        control.should_training_stop |= agreed == 2

    def _due(self, step: int) -> bool:
        every = self._train.save_every
        if isinstance(every, str):
            return time.monotonic() - self._saved >= 60 * int(every.removesuffix("m"))
        return every is not None and step % every == 0


class _Places(Dataset[int]):
    """0, 1, 2, ...: which example is which; ~place is one that counts nothing."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, place: int) -> int:
        return place


class _Loader(DataLoader[int]):
    """Passes the epoch on to the parts."""

    def set_epoch(self, epoch: int) -> None:
        self.batch_sampler.set_epoch(epoch)  # type: ignore[union-attr]
