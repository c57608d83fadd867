"""What training would do: `python -m train.run plan=true`. Reads rows and the model's configuration, writes nothing."""

from collections.abc import Sequence
from dataclasses import dataclass

import psutil
import torch
import yaml

from targen.config.arms import ARMS
from targen.config.groups.training import launch_file
from targen.config.settings import Settings
from targen.tasks.task import Task
from train.data.batches import MicroBatchSampler
from train.families.base import IGNORED, Encoded
from train.families.registry import family_named
from train.grid.arms import mixed_count
from train.grid.cells import Cell, done, trained_cells
from train.grid.checkers import TrainingJob, training_job
from train.grid.encoding import encode_for_training
from train.grid.pending_jobs import epoch_size, newest_checkpoint, steps
from train.loop.memory import MIB, Memory, MicroBatchSize, peak
from train.loop.preparation import epoch_of
from train.loop.saving import load_shapes
from train.loop.trainer import batching_of
from train.models.loading import Loaded

NO_LIMIT = 1_000_000  # rows


@dataclass(frozen=True)
class CellPlan:
    """One line of the plan. None: unknown before the rows are generated."""

    cell: str
    state: str
    parameters: int
    trainable: int
    rows: int
    steps: int
    tokens: int | None  # of all epochs, without padding
    padding: float | None  # padding tokens for each token that is not
    truncated: int | None
    memory: Memory


def plan(settings: Settings) -> list[CellPlan]:
    """The plan of every cell, checkers before the cells that they weigh.

    Raises: UserError if the model's configuration or rows are not available.
    """
    plans: dict[str, CellPlan] = {}
    for cell in trained_cells(settings):
        if _awaits_rows(settings, cell):
            plans[cell.name] = _plan_before_generation(settings, cell)
        elif (job := training_job(settings, cell)) is not None:
            for needed in (*job.checkers, job):
                if needed.cell.name not in plans:
                    plans[needed.cell.name] = _plan_of_job(needed)
    return list(plans.values())


def lines(settings: Settings, plans: Sequence[CellPlan]) -> list[str]:
    """The plan as text."""
    processes, sharding = _launched(settings)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    libraries = psutil.Process().memory_info().rss / MIB
    text = [
        f"train: {len(plans)} cells of {settings.model.name} on {processes} x {device}, sharding {sharding}, "
        f"{settings.train.precision}, batches of {settings.train.batch_size}"
    ]
    text += [_line(cell_plan) for cell_plan in plans]
    text.append(f"In addition, each process needs memory for its libraries, here {libraries:,.0f} MiB of main memory.")
    return text


def _line(cell_plan: CellPlan) -> str:
    tokens, memory = "tokens unknown before the rows are generated", cell_plan.memory
    if cell_plan.tokens is not None:
        tokens = f"{_short(cell_plan.tokens)} tokens (plus {cell_plan.padding:.0%} padding), {cell_plan.truncated} rows truncated"
    return (
        f"{cell_plan.cell}: {cell_plan.state}, {_short(cell_plan.parameters)} parameters, {_short(cell_plan.trainable)} trained, "
        f"{cell_plan.rows} rows, {cell_plan.steps} steps, "
        f"{tokens}; per device {_mib(memory.total)} = weights {_mib(memory.weights)} + gradients {_mib(memory.gradients)} + optimizer "
        f"{_mib(memory.optimizer)} + activations {_mib(memory.activations)}"
    )


def _plan_of_job(job: TrainingJob) -> CellPlan:
    train, shapes = job.settings.train, load_shapes(job.settings, job.cell)
    by_source = encode_for_training(job.settings, job.cell, shapes, job.rows)
    encoded = epoch_of(job, by_source).encoded
    tokens, padded, largest = _count_tokens(shapes, job.settings, encoded)
    return CellPlan(
        cell=job.cell.name,
        state=_state(job),
        parameters=_count_parameters(shapes),
        trainable=_count_parameters(shapes, trained=True),
        rows=job.row_count,
        steps=steps(train, len(encoded)),
        tokens=int(tokens * train.epochs),
        padding=padded / tokens - 1,
        truncated=sum(example.truncated for source in by_source for example in source.encoded),
        memory=_memory(job.settings, shapes, largest),
    )


def _state(job: TrainingJob) -> str:
    if done(job.settings.paths, job.cell) is not None:
        return "done"
    checkpoint = newest_checkpoint(job)
    return "to train" if checkpoint is None else f"to resume from step {checkpoint.step}"


def _count_tokens(shapes: Loaded, settings: Settings, encoded: Sequence[Encoded]) -> tuple[int, int, MicroBatchSize]:
    """(tokens, tokens with padding, the largest micro-batch) of the first epoch."""
    processes, _ = _launched(settings)
    collate = family_named(settings.model.family).collator(shapes)
    batching, lengths = batching_of(settings, encoded, processes), [example.length for example in encoded]
    tokens = padded = 0
    largest = MicroBatchSize(0, 0)
    for process in range(processes):
        for indices in MicroBatchSampler(lengths, batching, 0, "plan", process):
            batch = collate([encoded[index] for index in indices if index >= 0] or [encoded[~indices[0]]])
            mask, decoder = batch["attention_mask"], batch.get("decoder_input_ids")
            answers = batch.get("logits_to_keep", 0) if decoder is None else decoder.shape[1]
            tokens += int(mask.sum()) + (int((batch["labels"] != IGNORED).sum()) if decoder is not None else 0)
            padded += mask.numel() + (decoder.numel() if decoder is not None else 0)
            size = MicroBatchSize(mask.shape[0], mask.shape[1], answers)
            largest = max(largest, size, key=lambda size: size.sequences * size.tokens)
    return tokens, padded, largest


def _awaits_rows(settings: Settings, cell: Cell) -> bool:
    """Whether synthetic rows that the cell needs are still to be generated."""
    arms = settings.arms if settings.train.equal_size else [cell.arm]
    needed = any(ARMS[arm].uses_synthetic for arm in arms)
    return needed and not all((settings.paths.synthetic(name) / "train.jsonl").is_file() for name in cell.tasks)


def _plan_before_generation(settings: Settings, cell: Cell) -> CellPlan:
    """The plan from the number of rows to be generated, each one example of train.max_length tokens."""
    train, tasks = settings.train, [settings.tasks[name] for name in cell.tasks]
    shapes, rows = load_shapes(settings, cell), [_rows_to_come(settings, cell, task) for task in tasks]
    by_choice = family_named(settings.model.family).scores_choices and any(task.choices == "texts" for task in tasks)
    sequences = min(train.device_batch_size, train.batch_size * (train.max_choices if by_choice else 1))
    return CellPlan(
        cell=cell.name,
        state="to train once its rows are generated",
        parameters=_count_parameters(shapes),
        trainable=_count_parameters(shapes, trained=True),
        rows=sum(rows),
        steps=steps(train, epoch_size(train, rows)),
        tokens=None,
        padding=None,
        truncated=None,
        memory=_memory(settings, shapes, MicroBatchSize(sequences, train.max_length, 8)),
    )


def _rows_to_come(settings: Settings, cell: Cell, task: Task) -> int:
    synthetic = min(settings.synth.size_of(task), settings.train.max_rows or NO_LIMIT)
    return synthetic + (mixed_count(settings.train.mixed_original, synthetic) if ARMS[cell.arm].mixes else 0)


def _memory(settings: Settings, shapes: Loaded, largest: MicroBatchSize) -> Memory:
    processes, sharding = _launched(settings)
    # fused GPU kernels do not keep the attention matrix; T5, which adds a bias to it, always does
    keeps = not torch.cuda.is_available() or shapes.model.config._attn_implementation == "eager"
    return peak(shapes.model, largest, settings.train, processes=processes, sharding=sharding, keeps_attention=keeps)


def _launched(settings: Settings) -> tuple[int, str]:
    """(processes, sharding) of train.launch: none, zero2, zero3 or fsdp."""
    if settings.train.launch is None:
        return 1, "none"
    values = yaml.safe_load(launch_file(settings.train.launch).read_text(encoding="utf-8"))
    shardings = {"FSDP": "fsdp", "DEEPSPEED": f"zero{values.get('deepspeed_config', {}).get('zero_stage')}"}
    return int(values["num_processes"]), shardings.get(values["distributed_type"], "none")


def _count_parameters(shapes: Loaded, trained: bool = False) -> int:
    return sum(weight.numel() for weight in shapes.model.parameters() if weight.requires_grad or not trained)


def _short(count: int) -> str:
    """12345678 as 12.3M."""
    for size, letter in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if count >= size:
            return f"{count / size:.3g}{letter}"
    return str(count)


def _mib(size: int) -> str:
    return f"{size / MIB:,.{1 if size < 10 * MIB else 0}f} MiB"
