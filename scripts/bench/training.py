"""How fast training is: ratios measured in one run, on this machine, on the same rows, batches and loss.

    python scripts/bench/training.py                        # all
    python scripts/bench/training.py tiny_encoder start     # some; more: minilm, tiny_seq2seq, tiny_decoder

Rows are RTE's own training rows where `RTE_TRAIN` names a file of them in the official format, else this project's few rows
again and again. The Trainer beside ours gets the same examples, batch size, loss and optimizer: once padded to the full
length, as the GLUE example of transformers does it, once padded to the longest of a batch with batches of like length.
The three take turns and the best of each counts, so that other work on the machine falls on all.
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
STARTED = time.monotonic()

from targen.runtime.subprocesses import MALLOC

if __name__ == "__main__" and not MALLOC.items() <= os.environ.items():  # for all three, as the phases of a run have it
    os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **MALLOC})  # read when a process starts

import torch
from transformers import PrinterCallback, Trainer, TrainingArguments, set_seed

from targen.config.loading import settings_from
from targen.config.losses import LOSSES
from targen.config.settings import Settings
from targen.data.original import FIXTURE, read_rows
from targen.runtime.cli import compose
from targen.runtime.progress import Progress
from targen.runtime.signals import StopRequest
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

LENGTH = 128  # tokens, of the GLUE example
BYTES = 512  # for the models whose tokens are bytes


class _Items(list[dict[str, Any]]):
    """Examples as the plain Trainer takes them."""


def plain(settings: Settings, ready: PreparedCell, length: int | None, folder: Path) -> Trainer:
    """The Trainer as it comes, with our loss, padded to `length`, or to the longest of a batch."""
    pad = ready.loaded.tokenizer.pad_token_id
    before = settings.model.family == "decoder"  # a decoder's answers stand at the end

    def collated(batch: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        found: dict[str, torch.Tensor] = ready.collate([item["example"] for item in batch])
        names = {"input_ids": pad, "attention_mask": 0, "token_type_ids": 0}
        names |= {"position_ids": 0, "labels": IGNORED} if before else {}
        for name, filler in names.items() if length is not None else ():
            if name in found:
                short = length - found[name].shape[1]
                found[name] = torch.nn.functional.pad(found[name], (short, 0) if before else (0, short), value=filler)
        return found

    items = _Items({"example": one, "input_ids": range(one.length)} for one in ready.epoch.encoded)
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=1,
        per_device_train_batch_size=settings.train.batch_size,
        learning_rate=settings.train.learning_rate,
        weight_decay=settings.train.weight_decay,
        train_sampling_strategy="group_by_length" if length is None else "random",
        save_strategy="no",
        report_to=[],
        remove_unused_columns=False,
        disable_tqdm=True,
        dataloader_pin_memory=False,
        logging_steps=20,
        log_level="error",
        use_cpu=True,
    )
    trainer = Trainer(
        model=ready.loaded.model,
        args=arguments,
        train_dataset=items,
        data_collator=collated,
        compute_loss_func=ready.loss,
    )
    trainer.pop_callback(PrinterCallback)
    return trainer


def ratios(name: str, rows: int, rounds: int) -> None:
    """Prints rows/s of ours over those of both others."""
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
        ready = PreparedCell(loaded, data, None, family.collator(loaded), cell_loss(family, LOSSES["ce"], 0.0))
        settings.paths.model(cell.name).mkdir(parents=True)

        def ours() -> Trainer:
            with Progress("bench", "steps", 0) as progress:
                return CellTrainer(TrainContext(Processes(), StopRequest(), progress), job, ready)

        def other(fixed: bool) -> Callable[[], Trainer]:
            return lambda: plain(settings, ready, length if fixed else None, Path(folder) / "other")

        makers = {"ours": ours, "fixed": other(True), "grouped": other(False)}
        best = dict.fromkeys(makers, 0.0)
        for _ in range(rounds):
            for kind, make in makers.items():
                set_seed(0)
                trainer = make()
                begun = time.monotonic()
                trainer.train()
                best[kind] = max(best[kind], len(encoded) / (time.monotonic() - begun))
    print(
        f"{name}: {best['ours']:.1f} rows/s of {len(encoded)}; versus fixed-length padding {best['ours'] / best['fixed']:.2f} "
        f"(at least 1.5), versus dynamic padding and length grouping {best['ours'] / best['grouped']:.2f} (at least 1.0)",
        flush=True,
    )


def rte_rows(task: Any, count: int) -> tuple[dict[str, Any], ...]:
    named = os.environ.get("RTE_TRAIN")
    rows = read_rows(Path(named) if named else FIXTURE / "RTE" / "val.jsonl", task, labelled=True)
    return tuple(rows[number % len(rows)] for number in range(count))


def start() -> None:
    """Prints the seconds from the start of training to its first step, beyond importing torch and loading the model."""
    with tempfile.TemporaryDirectory() as folder:
        overrides = [
            "+experiment=quickstart",
            "task=rte",
            "arms=[synthetic]",
            "data.source=fixture",
            f"run.dir={folder}",
        ]
        settings = settings_from(compose([*overrides, "train.epochs=1", "train.max_length=32"]))
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
    for name in sys.argv[1:] or ["start", "tiny_encoder", "tiny_seq2seq", "tiny_decoder", "minilm"]:
        if name == "start":
            start()
        else:
            ratios(name, *((320, 2) if name == "minilm" else (2490 if name == "tiny_encoder" else 320, 3)))


if __name__ == "__main__":
    main()
