"""Speed of training as ratios, measured in one run on the same rows with the same batch size and loss.

    python scripts/bench/training.py                        # everything
    python scripts/bench/training.py tiny_encoder start     # some of: start, tiny_encoder, tiny_seq2seq, tiny_decoder, minilm

`RTE_TRAIN` names a file of RTE's training rows in the official format; without it, the few rows of this project's fixture
are repeated. Our trainer is compared with the plain transformers Trainer on the same examples, loss and optimizer: once
padded to a fixed length, as in the GLUE example of transformers, and once padded to the longest example of a batch, with
examples of similar length batched together. The three take turns, and the best round of each counts, so that other load
on the machine affects all of them.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

from targen.runtime.subprocesses import MALLOC

if __name__ == "__main__" and not MALLOC.items() <= os.environ.items():  # as in the phases of a run
    # the allocator reads these variables only at the start of a process
    os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **MALLOC})

import torch
from transformers import PrinterCallback, Trainer, TrainingArguments, set_seed

from targen.config.loading import settings_from
from targen.config.losses import LOSSES
from targen.config.settings import Settings
from targen.data.original import FIXTURE, read_rows
from targen.runtime.cli import compose
from targen.runtime.progress import Progress
from targen.runtime.signals import StopRequest
from targen.tasks.task import Row, Task
from train.families.base import IGNORED
from train.families.registry import family_named
from train.grid.cells import cells
from train.grid.checkers import TrainingJob
from train.grid.encoding import encode_for_training
from train.grid.pending_jobs import TrainContext
from train.grid.rows import TaskRows
from train.loop.losses import cell_loss
from train.loop.preparation import PreparedCell
from train.loop.trainer import CellTrainer
from train.run import train
from train.runtime.processes import Processes

LENGTH = 128  # tokens, as in the GLUE example
BYTES = 512  # tokens, for the models with one token per byte


class _Items(list[dict[str, Any]]):
    """Examples in the form that the plain Trainer takes."""


def plain(
    settings: Settings, prepared: PreparedCell, length: int | None, folder: Path, micro_batch_size: int | None = None
) -> Trainer:
    """The unchanged Trainer with our loss; batches are padded to `length` tokens, or to their longest example if it is None.
    `at_once`: examples of a micro-batch, if these are not whole batches."""
    pad = prepared.loaded.tokenizer.pad_token_id
    pads_left = settings.model.family == "decoder"  # the answers of a decoder are at the end

    def collate(batch: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        tensors: dict[str, torch.Tensor] = prepared.collate([item["example"] for item in batch])
        names = {"input_ids": pad, "attention_mask": 0, "token_type_ids": 0}
        names |= {"position_ids": 0, "labels": IGNORED} if pads_left else {}
        for name, filler in names.items() if length is not None else ():
            if name in tensors:
                short = length - tensors[name].shape[1]
                tensors[name] = torch.nn.functional.pad(
                    tensors[name], (short, 0) if pads_left else (0, short), value=filler
                )
        return tensors

    micro_batch_size = micro_batch_size or settings.train.batch_size
    items = _Items({"example": example, "input_ids": range(example.length)} for example in prepared.epoch.encoded)
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=1,
        per_device_train_batch_size=micro_batch_size,
        gradient_accumulation_steps=settings.train.batch_size // micro_batch_size,
        bf16=settings.train.precision == "bf16",
        learning_rate=settings.train.learning_rate,
        weight_decay=settings.train.weight_decay,
        train_sampling_strategy="group_by_length" if length is None else "random",
        save_strategy="no",
        report_to=[],
        remove_unused_columns=False,
        disable_tqdm=True,
        dataloader_pin_memory=torch.cuda.is_available(),
        logging_steps=20,
        log_level="error",
        use_cpu=not torch.cuda.is_available(),
    )
    trainer = Trainer(
        model=prepared.loaded.model,
        args=arguments,
        train_dataset=items,
        data_collator=collate,
        compute_loss_func=prepared.loss,
    )
    trainer.pop_callback(PrinterCallback)
    return trainer


def ratios(name: str, rows: int, rounds: int) -> None:
    """Prints the rows per second of our trainer, and their ratio to those of the other two."""
    with tempfile.TemporaryDirectory() as folder:
        length = LENGTH if name in ("minilm", "tiny_encoder") else BYTES
        overrides = ["+experiment=quickstart", f"model={name}", "task=rte", "seeds=[0]", f"train.max_length={length}"]
        overrides += ["arms=[synthetic]", "data.source=fixture", f"run.dir={folder}"]
        overrides += ["train.epochs=1", "train.batch_size=16", "train.device_batch_size=16"]
        settings = settings_from(compose(overrides))
        task, (cell,) = settings.tasks["rte"], cells(settings)
        family = family_named(settings.model.family)
        job = TrainingJob(settings, cell, (TaskRows(task, rte_rows(task, rows), real=False),), (), {})
        loaded = family.load_pretrained(settings.model, task)
        (data,) = encode_for_training(settings, cell, loaded, job.rows)
        encoded = data.encoded
        prepared = PreparedCell(loaded, data, None, family.collator(loaded), cell_loss(family, LOSSES["ce"], 0.0))
        settings.paths.model(cell.name).mkdir(parents=True)

        def ours() -> Trainer:
            with Progress("bench", "steps", 0) as progress:
                return CellTrainer(TrainContext(Processes(), StopRequest(), progress), job, prepared)

        def plain_trainer(fixed: bool) -> Callable[[], Trainer]:
            return lambda: plain(settings, prepared, length if fixed else None, Path(folder) / "plain")

        makers = {"ours": ours, "fixed": plain_trainer(True), "grouped": plain_trainer(False)}
        best = dict.fromkeys(makers, 0.0)
        for _ in range(rounds):
            for trainer_name, make in makers.items():
                set_seed(0)
                trainer = make()
                begun = time.monotonic()
                trainer.train()
                best[trainer_name] = max(best[trainer_name], len(encoded) / (time.monotonic() - begun))
    print(
        f"{name}: {best['ours']:.1f} rows/s of {len(encoded)}; versus fixed-length padding {best['ours'] / best['fixed']:.2f} "
        f"(at least 1.5), versus dynamic padding and length grouping {best['ours'] / best['grouped']:.2f} (at least 1.0)",
        flush=True,
    )


def rte_rows(task: Task, count: int) -> tuple[Row, ...]:
    """`count` rows of RTE, repeated if there are fewer."""
    path = os.environ.get("RTE_TRAIN")
    rows = read_rows(Path(path) if path else FIXTURE / "RTE" / "val.jsonl", task, labelled=True)
    return tuple(rows[number % len(rows)] for number in range(count))


def start() -> None:
    """Prints the seconds from the start of training to its first step, beyond importing torch and loading the model."""
    with tempfile.TemporaryDirectory() as folder:
        overrides = ["+experiment=quickstart", "task=rte", "arms=[synthetic]", "data.source=fixture"]
        overrides += [f"run.dir={folder}", "train.epochs=1", "train.max_length=32"]
        settings = settings_from(compose(overrides))
        path = settings.paths.synthetic("rte") / "train.jsonl"
        path.parent.mkdir(parents=True)
        path.write_bytes((FIXTURE / "RTE" / "val.jsonl").read_bytes())
        family = family_named(settings.model.family)
        begun = time.monotonic()
        family.load_pretrained(settings.model, settings.tasks["rte"])
        loading = time.monotonic() - begun
        first: list[float] = []
        step = CellTrainer.training_step

        def timed(self: CellTrainer, *arguments: Any, **named: Any) -> Any:
            first.append(time.monotonic())
            return step(self, *arguments, **named)

        CellTrainer.training_step = timed  # type: ignore[method-assign]
        begun = time.monotonic()
        train(settings)
        CellTrainer.training_step = step  # type: ignore[method-assign]
    print(f"start: {first[0] - begun - loading:.2f} s to the first step beyond loading the model (under 5)", flush=True)


def main() -> None:
    """Prints what the arguments name; without arguments everything."""
    for name in sys.argv[1:] or ["start", "tiny_encoder", "tiny_seq2seq", "tiny_decoder", "minilm"]:
        if name == "start":
            start()
        else:
            ratios(name, *((320, 2) if name == "minilm" else (2490 if name == "tiny_encoder" else 320, 3)))


if __name__ == "__main__":
    main()
