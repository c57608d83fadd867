"""The train phase: `python -m train.run +experiment=quickstart`."""

import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from targen.cli import main
from targen.config import Settings, Train
from targen.generate import CHECK
from targen.jsonl import Json, write_jsonl, write_text
from targen.progress import Progress
from targen.run_dir import open_run
from targen.run_lock import locked
from targen.slots import rng
from targen.task import Row, TaskSpec
from train.cells import DONE, Cell, cells, check_trained, check_unchanged, done, fingerprint, training_rows
from train.families import family as family_named
from train.render import fewer_choices

if TYPE_CHECKING:
    from transformers import TrainingArguments

log = logging.getLogger(__name__)


def train(settings: Settings) -> None:
    """Trains every cell that is not done. All rows are read and checked before the first model is loaded."""
    todo: list[tuple[Cell, TaskSpec, tuple[Row, ...], Json]] = []
    skipped = 0
    for cell in cells(settings):
        marker = done(settings.paths, cell)
        if marker is not None and cell.arm == "original":
            continue  # original data do not change, and ReCoRD's take a while to read
        found = training_rows(settings, cell)
        if found is None:
            skipped += 1
            continue
        task, rows = found
        mark = fingerprint(settings, cell, rows)
        if marker is None:
            todo.append((cell, task, rows, mark))
        else:
            check_unchanged(settings, cell, marker, mark)
    if skipped:
        log.warning("train: the original data are not at hand, so %d cells of the original arm are left out", skipped)
    with Progress("train", "cells", len(todo)) as progress:
        for cell, task, rows, mark in todo:
            seconds, steps, last_loss = train_cell(settings, cell, task, rows, mark)
            log.info(
                "train: %s: %d rows, %d steps in %.0f s, last loss %.3f",
                cell.name,
                len(rows),
                steps,
                seconds,
                last_loss,
            )
            progress.advance(cell.name)


def train_cell(
    settings: Settings, cell: Cell, task: TaskSpec, rows: tuple[Row, ...], mark: Json
) -> tuple[float, int, float]:
    """Trains one cell and writes models/<cell>/, the done marker last; seconds, steps and last loss."""
    from transformers import PrinterCallback, Trainer, set_seed

    family = family_named(settings.model.family)
    folder = settings.paths.model(cell.name)
    if folder.exists():
        shutil.rmtree(folder)  # without its done marker it is the rest of a killed start
    set_seed(cell.seed)
    loaded = family.load_pretrained(settings.model, task)
    examples = [example for row in rows for example in task.code.examples(task, row)]
    if task.choices == "texts" and family.SCORES_CHOICES:
        drawn = rng(cell.seed, cell.task, cell.arm, "choices")
        examples = [fewer_choices(example, settings.train.max_choices, drawn) for example in examples]
    encoded = family.encode(loaded, task, examples, settings.train.max_length)
    with wandb_run(settings, cell):
        trainer = Trainer(
            model=loaded.model,
            args=training_arguments(settings, cell, len(encoded), max(one.at_once for one in encoded)),
            train_dataset=encoded,
            data_collator=family.collator(loaded),
            compute_loss_func=family.loss,
        )
        trainer.pop_callback(PrinterCallback)  # it prints every step; the log goes to train_log.jsonl
        result = trainer.train()
    loaded.model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    history = trainer.state.log_history
    write_jsonl(folder / "train_log.jsonl", history)
    losses = [entry["loss"] for entry in history if "loss" in entry]
    marker = {"cell": cell.name, "rows": len(rows), "steps": trainer.state.global_step, "fingerprint": mark}
    write_text(folder / DONE, json.dumps(marker, indent=2) + "\n")
    return result.metrics["train_runtime"], trainer.state.global_step, losses[-1]


def training_arguments(settings: Settings, cell: Cell, examples: int, sequences: int) -> "TrainingArguments":
    """The Trainer's arguments for so many examples of at most so many sequences each."""
    from transformers import TrainingArguments

    train = settings.train
    at_once, parts = _parts(train, sequences)
    steps = -(-examples // train.batch_size) * train.epochs
    arguments = TrainingArguments(
        output_dir=str(settings.paths.model(cell.name)),
        num_train_epochs=train.epochs,
        per_device_train_batch_size=at_once,
        gradient_accumulation_steps=parts,
        learning_rate=train.learning_rate,
        warmup_steps=int(train.warmup_ratio * steps),
        weight_decay=train.weight_decay,
        bf16=train.precision == "bf16",
        seed=cell.seed,
        logging_steps=1 if steps < 200 else 20,
        save_strategy="no",
        report_to=[] if settings.wandb.mode == "disabled" else ["wandb"],
        run_name=cell.name,
        remove_unused_columns=False,
        disable_tqdm=True,
        dataloader_pin_memory=False,
        log_level="error",
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # a process trains on one device: DataParallel would multiply the batch
    return arguments


@contextmanager
def wandb_run(settings: Settings, cell: Cell) -> Iterator[None]:
    """A Weights & Biases run around the training of a cell, with the whole configuration; nothing where it is disabled."""
    if settings.wandb.mode == "disabled":
        yield
        return
    import wandb

    run = wandb.init(
        project=settings.wandb.project,
        mode=settings.wandb.mode,
        name=cell.name,
        dir=settings.run.dir,
        config=asdict(settings),
        settings=wandb.Settings(silent=True),
    )
    try:
        yield
    finally:
        run.finish()


def _parts(settings: Train, sequences: int) -> tuple[int, int]:
    """(examples in memory at once, parts of a batch) where an example has so many sequences."""
    room = max(1, settings.device_batch_size // sequences)
    at_once = next(size for size in range(min(room, settings.batch_size), 0, -1) if settings.batch_size % size == 0)
    return at_once, settings.batch_size // at_once


def phase(cfg: Any, overrides: list[str]) -> int:
    only_check = bool(os.environ.get(CHECK))
    settings = open_run(cfg, check_trained, write=not only_check)
    if only_check:
        return 0
    with locked(settings.paths.root):
        train(settings)
    return 0


if __name__ == "__main__":
    main("train.run", "finetunes every cell of the grid", phase)
