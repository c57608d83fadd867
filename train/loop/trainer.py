"""The transformers Trainer with this project's batches, checkpoints and validation."""

import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from transformers import PrinterCallback, TrainingArguments

from targen.config.settings import Settings
from targen.runtime.errors import UserError
from train.data.batches import Batching, MicroBatchSampler
from train.families.base import IGNORED, Batch, Encoded
from train.families.registry import family_of
from train.grid.cells import Cell
from train.grid.checkers import TrainingJob
from train.grid.pending_jobs import TrainContext
from train.loop.checkpoint_callback import CheckpointCallback
from train.loop.losses import COUNTS, WeightedLossTrainer
from train.loop.predictions import best_step, predict_scores, validation_scores
from train.loop.preparation import PreparedCell
from train.loop.saving import save_weights
from train.loop.sharding import divided_by_blocks, gathered_weights, loads_once, root_gathered, set_precision
from train.loop.throughput import Throughput
from train.models.checkpoints import PREFIX, keep_steps, mark_complete, reporting_write_errors
from train.planning.fitting import ON_CPU
from train.runtime.devices import DeviceChoices, own_device_choices, use_tf32

CHECKED_TOGETHER = 64  # losses on a GPU that are checked together: each check waits for the GPU


def batching_of(settings: Settings, encoded: Sequence[Encoded], processes: int) -> Batching:
    """How these examples are batched. Raises: UserError if a process would get none."""
    train = settings.train
    if train.batch_size < processes:
        raise UserError(
            f"train.batch_size: got {train.batch_size} with {processes} processes, expected at least one example for "
            f"each. Set train.batch_size={processes}, or use fewer processes."
        )
    room = max(1, (train.device_batch_size or ON_CPU) // max(example.sequence_count for example in encoded))
    return Batching(train.batch_size, min(room, -(-train.batch_size // processes)), processes, train.group_by_length)


def training_arguments(
    settings: Settings, cell: Cell, batching: Batching, examples: int, sharding: str, choices: DeviceChoices
) -> TrainingArguments:
    """The Trainer's arguments for so many examples."""
    train = settings.train
    steps = batching.steps(examples) * train.epochs
    arguments = TrainingArguments(
        output_dir=str(settings.paths.model(cell.name)),
        num_train_epochs=train.epochs,
        per_device_train_batch_size=-(-batching.batch_size // (batching.processes * batching.micro_batches)),
        gradient_accumulation_steps=batching.micro_batches,
        # else FSDP would hold whole gradients between micro-batches, whatever the number of processes
        accelerator_config={"gradient_accumulation_kwargs": {"sync_each_batch": sharding == "fsdp"}},
        learning_rate=train.learning_rate,
        warmup_steps=int(train.warmup_ratio * steps),
        weight_decay=train.weight_decay,
        optim=choices.optimizer,
        # DeepSpeed would make the weights bf16, too: see set_precision
        bf16=train.precision == "bf16_weights" or (train.precision == "bf16" and sharding != "deepspeed"),
        gradient_checkpointing=train.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False} if train.gradient_checkpointing else None,
        use_cpu=not torch.accelerator.is_available(),
        seed=cell.seed,
        logging_steps=1 if steps < 100 else 20,
        logging_nan_inf_filter=False,  # training_step ends the run if the loss is not finite
        save_strategy="no",  # the callback decides
        eval_strategy="no" if train.validate_every is None else "steps",
        eval_steps=train.validate_every,
        report_to=[] if settings.wandb.mode == "disabled" else ["wandb"],
        run_name=cell.name,
        remove_unused_columns=False,
        disable_tqdm=True,
        dataloader_pin_memory=False,  # _Loader does
        torch_compile=train.compile,
        ddp_find_unused_parameters=False,  # every micro-batch uses all parameters
        log_level="error",
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # a process trains on one device: DataParallel would multiply the batch
    return arguments


class DeviceFull(UserError):
    """A batch does not fit into the memory of the device."""


class CellTrainer(WeightedLossTrainer):
    """Trains one prepared cell."""

    def __init__(self, context: TrainContext, job: TrainingJob, prepared: PreparedCell) -> None:
        self.prepared, self._context, self._job = prepared, context, job
        settings, cell, processes = job.settings, job.cell, context.processes
        batching = batching_of(settings, prepared.epoch.encoded, processes.count)
        lengths = [example.length for example in prepared.epoch.encoded]
        self._choices = own_device_choices()
        use_tf32(self._choices)
        self._sampler = MicroBatchSampler(lengths, batching, cell.seed, cell.name, processes.index)
        super().__init__(
            model=prepared.loaded.model,
            args=training_arguments(settings, cell, batching, len(lengths), processes.sharding, self._choices),
            train_dataset=_Indices(len(lengths)),
            eval_dataset=None if prepared.held_out is None else _Indices(len(prepared.held_out.examples)),
            data_collator=self._batch,
            compute_loss_func=prepared.loss,
            callbacks=[CheckpointCallback(context, job)],
        )
        self.pop_callback(PrinterCallback)  # it prints every line of the log, which train_log.jsonl has
        self._throughput = Throughput(prepared.loaded.model, processes, settings.train.precision != "fp32")
        self._unchecked: list[tuple[int, list[int], Tensor]] = []  # step, indices and loss of micro-batches
        set_precision(self, settings.train.precision)
        if self.is_fsdp_enabled:
            self.accelerator.state.fsdp_plugin.cpu_ram_efficient_loading = loads_once(settings, processes)

    def _prepare_for_training(self, *args: Any, **kwargs: Any) -> Any:
        with divided_by_blocks(self):
            return super()._prepare_for_training(*args, **kwargs)

    def get_train_dataloader(self) -> "DataLoader[int]":
        """The micro-batches of this process; the Trainer's own step moves them to the device."""
        examples = _Indices(len(self.prepared.epoch.encoded))
        return _Loader(
            examples,
            batch_sampler=self._sampler,
            collate_fn=self._batch,
            pin_memory=self._choices.pinned,
            num_workers=self._choices.workers,
        )

    def _prepare_input(self, data: Any) -> Any:
        """As the Trainer's, without waiting for the GPU."""
        if isinstance(data, Tensor) and data.is_pinned():
            return data.to(self.args.device, non_blocking=True)
        return super()._prepare_input(data)

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Tensor | int | None:
        """As the Trainer's; a single process counts labels where they are, on the CPU."""
        if self._context.processes.count > 1:
            of_all: Tensor | int | None = super()._get_num_items_in_batch(batch_samples, device)
            return of_all
        return sum(int((batch["labels"] != IGNORED).sum()) for batch in batch_samples)

    def _batch(self, indices: list[int]) -> Batch:
        """The tensors of a micro-batch, and the `indices` of its examples for error messages."""
        counts = indices[0] >= 0
        chosen = [index if counts else ~index for index in indices]
        batch = self.prepared.collate([self.prepared.epoch.encoded[index] for index in chosen])
        if not counts:
            batch["labels"] = torch.full_like(batch["labels"], IGNORED)
        return {**batch, COUNTS: counts, "indices": chosen}

    def training_step(
        self, model: torch.nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """The Trainer's step, with a count of tokens. Raises: UserError if the loss is not finite, or memory is too small."""
        indices = inputs.pop("indices")
        self._throughput.add(inputs)
        try:
            loss: Tensor = super().training_step(model, inputs, num_items_in_batch)
        except torch.OutOfMemoryError:
            train = self._job.settings.train
            raise DeviceFull(
                f"train.device_batch_size: got {train.device_batch_size}, and a batch does not fit into the memory of the "
                f"device at step {self.state.global_step + 1}. Set it smaller, or train.max_length below {train.max_length}."
            ) from None
        self._unchecked.append((self.state.global_step + 1, indices, loss.detach()))
        if loss.device.type == "cpu" or len(self._unchecked) >= CHECKED_TOGETHER:
            self._check_losses()
        return loss

    def _check_losses(self) -> None:
        """Raises: UserError for the first loss since the last check that is not finite."""
        unchecked, self._unchecked = self._unchecked, []
        if not unchecked:
            return
        for (step, indices, _), loss in zip(
            unchecked, torch.stack([loss for *_, loss in unchecked]).tolist(), strict=True
        ):
            if math.isfinite(loss):
                continue
            ids = ", ".join(str(self.prepared.epoch.examples[index].id) for index in indices)
            advice = "Check the weights of the model" if step == 1 else "Lower train.learning_rate"
            precision = self._job.settings.train.precision
            more = "" if precision == "fp32" else ", or set train.precision=fp32"
            raise UserError(
                f"train: the loss is {loss} at step {step}, on the rows with idx {ids} "
                f"(train.precision={precision}). {advice}{more}."
            )

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """0: Throughput counts them. The Trainer's count visits all modules for each micro-batch, a tenth of a small step."""
        return 0

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Accuracy and log-loss on the held-out rows; with train.select=best a new best is saved."""
        settings, held_out = self._job.settings, self.prepared.held_out
        assert held_out is not None
        family, batch_size = family_of(settings), settings.eval.batch_size
        if self._context.processes.sharding != "none":
            # a process whose memory runs out cannot halve alone, and the others wait inside the model: so many fit in training
            batch_size = batch_size or settings.train.device_batch_size
        with root_gathered(self.model):
            scores = predict_scores(family, self.prepared.loaded, held_out.encoded, batch_size, self._context.processes)
        measured = validation_scores(held_out.examples, scores)
        self.log(measured)
        if settings.train.select == "best" and best_step(self.state.log_history) == self.state.global_step:
            self.control.should_save = True
        self._throughput.start()
        return measured

    def log(self, logs: dict[str, Any], start_time: float | None = None) -> None:
        """Logs the figures, those of a training step with throughput and memory. Raises: UserError as _check_losses."""
        self._check_losses()
        super().log(logs | self._throughput.take() if "loss" in logs else logs, start_time)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """The Trainer's, and of sharded weights those of the optimizer. A checkpoint has its shards, and no second copy."""
        if not (self.is_fsdp_enabled or self.is_deepspeed_enabled):
            super().save_model(output_dir, _internal_call)
        elif not _internal_call:
            weights = gathered_weights(self, self._context.processes.first)
            if self._job.settings.train.precision == "bf16_weights" and self._job.settings.train.lora is None:
                weights = {name: value.bfloat16() for name, value in weights.items()}
            self._save(output_dir, weights)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """Only the weights, not the Trainer's arguments, an unused pickle."""
        if self.args.should_save:
            folder = Path(output_dir or self.args.output_dir)
            # the Trainer reads checkpoints by the names in memory
            save_weights(self.accelerator.unwrap_model(self.model), folder, state_dict, folder.name.startswith(PREFIX))

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        """Raises: RuntimeError if a checkpoint lacks weights; the Trainer only warns."""
        missing = sorted({*load_result.missing_keys} - {*self.model.all_tied_weights_keys})
        if missing or load_result.unexpected_keys:
            raise RuntimeError(f"the checkpoint lacks {missing} and has unknown {load_result.unexpected_keys}")

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        """Writes the Trainer's checkpoint, marks it as complete, then removes the ones before it."""
        self._check_losses()
        root, processes = Path(self.args.output_dir), self._context.processes
        folder = root / f"{PREFIX}{self.state.global_step}"
        try:
            with reporting_write_errors(folder):
                super()._save_checkpoint(model, trial)
                processes.wait()
                if processes.first:
                    mark_complete(folder, self._job.fingerprint, processes.sharding)
        except UserError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        if processes.first:
            best = best_step(self.state.log_history) if self._job.settings.train.select == "best" else None
            keep_steps(root, {self.state.global_step} | ({best} if best is not None else set()))
        processes.wait()

    def load_best(self) -> None:
        """Loads the weights of the best validation from their checkpoint."""
        best = best_step(self.state.log_history)
        if best != self.state.global_step:
            self.state.best_model_checkpoint = str(Path(self.args.output_dir) / f"{PREFIX}{best}")
            self._load_best_model()


class _Indices(Dataset[int]):
    """0, 1, 2, ...: the indices of the examples; ~index is an example that counts nothing."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> int:
        return index


class _Loader(DataLoader[int]):
    """Passes the epoch on to the sampler."""

    def set_epoch(self, epoch: int) -> None:
        self.batch_sampler.set_epoch(epoch)  # type: ignore[union-attr]
