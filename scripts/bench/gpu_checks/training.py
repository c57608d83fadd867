"""Training on one device, by this project's own loop: speed, memory beside the plan, a profile, a stop and a resume, sharding."""

import importlib.util
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate.utils.memory import clear_device_cache
from gpu_checks.profiles import summary
from gpu_checks.runs import Json, boolq_rows, command, fresh, log_of, one_process_environment, overrides, settings
from safetensors.torch import load_file
from transformers import TrainerCallback

from targen.runtime.cli import REQUEUE
from targen.runtime.progress import Progress
from targen.runtime.signals import StopRequest
from train.grid.cells import cells
from train.grid.checkers import training_job
from train.grid.pending_jobs import TrainContext
from train.loop.preparation import prepare
from train.loop.trainer import CellTrainer
from train.plan import plan
from train.run import train
from train.runtime.processes import Processes

GIB = 2**30
TOKENS = 300  # of a row


def training(cpu: bool, scratch: Path) -> Iterator[Json]:
    """Flan-T5-large by sequences at once."""
    results: Json = {}
    for sequences in ("8", "16", "32", "null"):
        name = "auto" if sequences == "null" else sequences
        results[name] = trained(cpu, scratch / "training", "flan_t5_large", f"train.device_batch_size={sequences}")
        yield results


def checkpointing(cpu: bool, scratch: Path) -> Iterator[Json]:
    """Flan-T5-large with gradient checkpointing."""
    more = ("train.device_batch_size=32", "train.gradient_checkpointing=true")
    yield trained(cpu, scratch / "checkpointing", "flan_t5_large", *more)


def compile(cpu: bool, scratch: Path) -> Iterator[Json]:
    """Flan-T5-large with torch.compile."""
    smaller = ["++model.config.num_layers=1", "++model.config.num_decoder_layers=1"] if cpu else []
    more = ("train.device_batch_size=32", "train.compile=true", *smaller)
    yield trained(cpu, scratch / "compile", "flan_t5_large", *more)


def t5_3b(cpu: bool, scratch: Path) -> Iterator[Json]:
    """T5-3B at 4 x 512, and what its checkpoint takes."""
    more = ("train.device_batch_size=4", f"train.save_every={1 if cpu else 12}")
    yield trained(cpu, scratch / "t5_3b", "t5_3b", *more, tokens=512, steps=24, batch=16)


def trained(
    cpu: bool, folder: Path, model: str, *more: str, tokens: int = TOKENS, steps: int | None = None, batch: int = 32
) -> Json:
    """A training of rows of equal length in bf16, by its own log; the memory beside the plan."""
    if cpu:
        tokens, steps, batch = 24, 2, 8
    steps = steps or 120
    shape = [f"train.batch_size={batch}", f"train.max_length={tokens}", f"train.precision={'fp32' if cpu else 'bf16'}"]
    rows = boolq_rows([3 * tokens] * (batch * steps))  # cut at train.max_length
    arguments = overrides(fresh(folder), model, cpu, rows)
    run = settings([*arguments, *shape, *more])
    (planned,) = plan(run)
    assert planned.size is not None
    assert planned.size.memory is not None
    clear_device_cache(garbage_collection=True)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    begun = time.monotonic()
    train(run)
    log = [entry for entry in log_of(run) if "tokens_per_second" in entry]
    settled = log[1:-1] or log  # the first line has the start, the last may have fewer steps
    per_second = statistics.median(entry["padded_tokens_per_second"] for entry in settled)
    peaks = [entry["peak_cuda_mib"] for entry in log if entry.get("peak_cuda_mib")]
    utilisation = [entry["mfu"] for entry in settled if entry.get("mfu")]
    padded = (planned.tokens or 0) * (1 + (planned.padding or 0))
    result: Json = {
        "steps": planned.steps,
        "tokens_a_row": tokens,
        "planned_sequences_at_once": planned.size.at_once,
        "tokens_per_second": round(per_second, 1),
        "seconds_a_step": round(padded / log[-1]["step"] / per_second, 4),
        "rows_per_second": round(batch * log[-1]["step"] * per_second / padded, 2),
        "mfu": round(statistics.median(utilisation), 4) if utilisation else None,
        "peak_gib": round(max(peaks) * 2**20 / GIB, 2) if peaks else None,
        "planned_gib": round(planned.size.memory.total / GIB, 2),
        "last_loss": [entry["loss"] for entry in log][-1],
        "seconds_in_all": round(time.monotonic() - begun, 1),
    }
    result["planned_of_peak"] = round(result["planned_gib"] / result["peak_gib"], 3) if peaks else None
    return result


def profile(cpu: bool, scratch: Path) -> Iterator[Json]:
    """Two steps of Flan-T5-large after some that warm up."""
    from torch.profiler import ProfilerActivity, schedule
    from torch.profiler import profile as profiler

    tokens, sequences = (24, 4) if cpu else (TOKENS, 32)
    rows = boolq_rows([3 * tokens] * sequences * 8)
    arguments = overrides(fresh(scratch / "profile"), "flan_t5_large", cpu, rows)
    shape = [f"train.max_length={tokens}", f"train.batch_size={sequences}", f"train.device_batch_size={sequences}"]
    run = settings([*arguments, *shape, f"train.precision={'fp32' if cpu else 'bf16'}"])
    job = training_job(run, cells(run)[0])
    assert job is not None
    run.paths.model(job.cell.name).mkdir(parents=True)
    activities = [ProfilerActivity.CPU, *([] if cpu else [ProfilerActivity.CUDA])]
    with Progress("bench", "steps", 0) as progress:
        trainer = CellTrainer(TrainContext(Processes(), StopRequest(), progress), job, prepare(job))
        with profiler(activities=activities, schedule=schedule(wait=4, warmup=1, active=2)) as recorded:
            trainer.add_callback(_Steps(recorded))
            trainer.train()
    yield summary(recorded.events(), cpu, steps=2)


class _Steps(TrainerCallback):  # type: ignore[misc]
    """Marks the end of each step for the profiler."""

    def __init__(self, recorded: Any) -> None:
        self._recorded = recorded

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:  # noqa: ARG002
        self._recorded.step()


def resume(cpu: bool, scratch: Path) -> Iterator[Json]:
    """SIGTERM at step 20, the same training again, and a run that is never stopped: the distance of weights and losses."""
    tokens, steps, rows_a_step = (16, 25, 2) if cpu else (TOKENS, 40, 32)
    rows = boolq_rows([3 * tokens] * rows_a_step * steps)
    shape = [f"train.max_length={tokens}", f"train.batch_size={rows_a_step}", "train.device_batch_size=32"]
    shape += [f"train.precision={'fp32' if cpu else 'bf16'}"]
    runs = {
        name: [*overrides(fresh(scratch / "resume" / name), "flan_t5_large", cpu, rows), *shape]
        for name in ("whole", "stopped")
    }
    result: Json = {"stopped_at": None}
    stopped, first = settings(runs["stopped"]), command("train", runs["stopped"])
    log = stopped.paths.model(cells(stopped)[0].name) / "train_log.jsonl"
    while first.poll() is None and not (log.is_file() and log.read_text(encoding="utf-8").count('"loss"') >= 20):
        time.sleep(0.02)
    signalled = time.monotonic()
    first.send_signal(signal.SIGTERM)
    output, _ = first.communicate()
    result |= {"exit_code": first.returncode, "seconds_to_save": round(time.monotonic() - signalled, 2)}
    if first.returncode != REQUEUE:
        raise RuntimeError(f"expected exit code {REQUEUE}, got {first.returncode}: {output[-2000:]}")
    result["stopped_at"] = log_of(stopped)[-1]["step"]
    yield result
    unstopped = settings(runs["whole"])
    for run in (stopped, unstopped):
        train(run)
    paths = [run.paths.model(cells(run)[0].name) / "model.safetensors" for run in (unstopped, stopped)]
    weights = [load_file(path) for path in paths]
    result["same_bytes"] = paths[0].read_bytes() == paths[1].read_bytes()
    result["weights_apart"] = max(float((weights[0][key] - weights[1][key]).abs().max()) for key in weights[0])
    losses = [[entry["loss"] for entry in log_of(run) if "loss" in entry] for run in (unstopped, stopped)]
    result["losses_apart"] = max(abs(a - b) for a, b in zip(*losses, strict=True))
    yield result


def fsdp(cpu: bool, scratch: Path) -> Iterator[Json]:
    """FSDP with one process."""
    yield _train_launched(cpu, scratch / "fsdp", "fsdp")


def zero2(cpu: bool, scratch: Path) -> Iterator[Json]:
    """ZeRO-2 with one process."""
    yield _train_launched(cpu, scratch / "zero2", "deepspeed_zero2")


def zero3(cpu: bool, scratch: Path) -> Iterator[Json]:
    """ZeRO-3 with one process."""
    yield _train_launched(cpu, scratch / "zero3", "deepspeed_zero3")


def _train_launched(cpu: bool, folder: Path, launch: str) -> Json:
    """A decoder of half a billion parameters, trained by `train.launch` with one process; its losses, its files."""
    if launch.startswith("deepspeed") and importlib.util.find_spec("deepspeed") is None:
        return {"skipped": "deepspeed is not installed"}
    tokens, count = (16, 8) if cpu else (TOKENS, 32 * 20)
    rows = boolq_rows([3 * tokens] * count)
    half = ["++model.config.num_hidden_layers=2", f"train.max_length={tokens}"]
    half += ["train.batch_size=4"] if cpu else ["train.device_batch_size=32", "train.precision=bf16"]
    arguments = [*overrides(fresh(folder), "llama2_7b", cpu, rows), *half]
    if cpu:  # where accelerate makes plain DDP of it, unless it is told otherwise
        from tests.support.sharded_training import Sharded, train_sharded

        train_sharded(folder, launch, {"tiny": Sharded(arguments)}, sys.executable)
    else:
        words = [sys.executable, "-m", "train.launch", launch, *arguments]
        done = subprocess.run(words, env=one_process_environment(), text=True, capture_output=True, check=False)
        if done.returncode:
            raise RuntimeError((done.stdout + done.stderr)[-4000:])
    run = settings(arguments)
    log = [entry for entry in log_of(run) if "loss" in entry]
    files = {path.name: path.stat().st_size for path in run.paths.model(cells(run)[0].name).glob("*.safetensors")}
    return {
        "losses": [log[0]["loss"], log[-1]["loss"]],
        "tokens_per_second": log[-1]["tokens_per_second"],
        "peak_gib": round(max(entry["peak_cuda_mib"] or 0 for entry in log) / 1024, 2),
        "mfu": log[-1]["mfu"],
        "files": files,
    }
