"""Llama-2-7B with adapters: LoRA in bf16, and QLoRA; training, reload, merge."""

import importlib.util
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from gpu_checks.runs import Json, boolq_rows, fresh, log_of, overrides, settings, written_model

from targen.config.settings import Settings
from train.families.registry import family_of
from train.grid.cells import cells
from train.grid.encoding import encode_for_prediction
from train.loop.saving import load_cell_to_device
from train.models.loading import Loaded
from train.plan import plan
from train.run import train

COMPARED_ROWS = 16  # rows on which reloaded and merged models are compared


def lora(cpu: bool, scratch: Path) -> Iterator[Json]:
    """LoRA beside bf16 weights, reloaded and merged."""
    yield from _train_adapters(cpu, scratch, "lora", "train.precision=bf16_weights", "train.merge_export=true")


def qlora(cpu: bool, scratch: Path) -> Iterator[Json]:
    """LoRA beside weights of 4 bits, reloaded."""
    if cpu or importlib.util.find_spec("bitsandbytes") is None:
        yield {"skipped": "needs a GPU" if cpu else "bitsandbytes is not installed"}
        return
    yield from _train_adapters(cpu, scratch, "qlora", "train.precision=bf16", "train.quantize=4bit")


def _train_adapters(cpu: bool, scratch: Path, name: str, *more: str) -> Iterator[Json]:
    begun = time.monotonic()
    base = written_model(scratch / "models", "llama2_7b", cpu)
    result: Json = {"seconds_to_write_the_base": round(time.monotonic() - begun, 1)}
    tokens, steps, batch = (32, 3, 4) if cpu else (300, 20, 16)
    rows = boolq_rows([3 * tokens] * batch * steps)
    arguments = overrides(fresh(scratch / name), "llama2_7b", cpu, rows, path=base)
    shape = [f"train.max_length={tokens}", f"train.batch_size={batch}", f"train.device_batch_size={batch}"]
    run = settings([*arguments, *shape, "train.lora=default", *more])
    (planned,) = plan(run)
    assert planned.size is not None
    assert planned.size.memory is not None
    result["planned_gib"] = round(planned.size.memory.total / 2**30, 2)
    yield result
    train(run)
    log = [entry for entry in log_of(run) if "tokens_per_second" in entry]
    result |= {
        "tokens_per_second": log[len(log) // 2]["tokens_per_second"],
        "mfu": log[len(log) // 2]["mfu"],
        "last_loss": log[-1]["loss"],
    }
    result["peak_gib"] = round(max(entry["peak_cuda_mib"] or 0 for entry in log) / 1024, 2)
    yield result
    (cell,) = cells(run)
    begun = time.monotonic()
    loaded = load_cell_to_device(run, cell)
    result["seconds_to_reload"] = round(time.monotonic() - begun, 1)
    reloaded = _scores(run, loaded)
    yield result
    merged = run.paths.model(cell.name) / "merged"
    if merged.is_dir():
        device = next(loaded.model.parameters()).device
        del loaded
        loaded_merged = family_of(run).load_trained(merged)
        loaded_merged.model.to(device=device, dtype=torch.bfloat16)
        result["merged_apart"] = max(
            abs(a - b)
            for before, after in zip(reloaded, _scores(run, loaded_merged), strict=True)
            for a, b in zip(before, after, strict=True)
        )
    yield result


def _scores(run: Settings, loaded: Loaded) -> list[list[float]]:
    """Log-probabilities of the answers to some rows."""
    (cell,), task = cells(run), run.tasks["boolq"]
    examples = [example for row in boolq_rows([150] * COMPARED_ROWS) for example in task.examples(row)]
    encoded = encode_for_prediction(run, cell, loaded, (), task, examples)
    return [scores for _, scores in sorted(family_of(run).predict(loaded, encoded, COMPARED_ROWS))]
