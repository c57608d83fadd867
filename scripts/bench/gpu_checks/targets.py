"""The two targets of speed: rows a second beside the plain transformers Trainer, and seconds to the first step."""

import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import torch
from accelerate.utils.memory import clear_device_cache
from gpu_checks.runs import Json, boolq_rows, command, fresh, log_of, overrides, settings, written_model
from training import plain as plain_trainer
from transformers import set_seed

from train.grid.cells import cells
from train.grid.checkers import training_job
from train.loop.preparation import prepare
from train.run import train

MOST_SECONDS = 20  # from the command to the first step


def plain(cpu: bool, scratch: Path) -> Iterator[Json]:
    """Flan-T5-large on rows as long as BoolQ's: this project with the sequences at once that it chooses itself, and the plain
    Trainer by sequences at once, with examples of similar length together. They take turns, and the best round counts."""
    draws, (rows, batch, rounds) = Random(0), (16, 8, 1) if cpu else (1280, 32, 2)
    lengths = [min(480, max(40, round(draws.lognormvariate(4.9, 0.5)))) for _ in range(rows)]
    folder, best = scratch / "plain", dict[str, float]()
    for _ in range(rounds):
        arguments = overrides(fresh(folder), "flan_t5_large", cpu, boolq_rows(lengths))
        shape = [f"train.batch_size={batch}", "train.max_length=512", f"train.precision={'fp32' if cpu else 'bf16'}"]
        run = settings([*arguments, *shape])
        job = training_job(run, cells(run)[0])
        assert job is not None
        for sequences in (batch, batch // 2, batch // 4)[: 1 if cpu else 3]:
            set_seed(0)
            trainer = plain_trainer(run, prepare(job), None, folder / "plain", sequences)
            name = f"plain, {sequences} at once"
            try:
                seconds = trainer.train().metrics["train_runtime"]
                best[name] = max(best.get(name, 0.0), round(rows / seconds, 2))
            except torch.OutOfMemoryError:
                best.setdefault(name, 0.0)
            del trainer
            clear_device_cache(garbage_collection=True)
        train(run)
        seconds = next(entry["train_runtime"] for entry in log_of(run) if "train_runtime" in entry)
        best["ours"] = max(best.get("ours", 0.0), round(rows / seconds, 2))
        fastest = max(value for name, value in best.items() if name != "ours")
        yield {"rows_per_second": best, "ours_of_plain": round(best["ours"] / fastest, 3), "expected": "at least 1"}


def start(cpu: bool, scratch: Path) -> Iterator[Json]:
    """Seconds from `targen train` with Flan-T5-large to the end of its first step; the first start reads files from the disk."""
    path = written_model(scratch / "start" / "model", "flan_t5_large", cpu)
    seconds: list[float] = []
    for _ in range(1 if cpu else 3):
        rows = boolq_rows([300] * 32 * 2)
        arguments = overrides(fresh(scratch / "start" / "run"), "flan_t5_large", cpu, rows, path=path)
        shape = ["train.max_length=300", f"train.precision={'fp32' if cpu else 'bf16'}"]
        run = settings([*arguments, *shape])
        log = run.paths.model(cells(run)[0].name) / "train_log.jsonl"
        begun = time.monotonic()
        running = command("train", [*arguments, *shape])
        while running.poll() is None and not (log.is_file() and '"loss"' in log.read_text(encoding="utf-8")):
            time.sleep(0.05)
        seconds.append(round(time.monotonic() - begun, 2))
        output, _ = running.communicate()
        if running.returncode:
            raise RuntimeError(output[-2000:])
        yield {"seconds": seconds, "expected": f"under {MOST_SECONDS}", "met": min(seconds) < MOST_SECONDS}
