"""What training would do: `python -m train.run plan=true`. Reads rows and the model's configuration, writes nothing."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import psutil
import torch
import yaml

from targen.config.arms import ARMS, ArmName
from targen.config.groups.training import launch_file
from targen.config.original_data import original_train_task, rows_to_hold_out
from targen.config.settings import Settings
from targen.data.hub import stay_offline_without_network
from targen.data.hub_requirements import hub_requirements
from targen.runtime.errors import Unreachable, UserError
from targen.tasks.task import Task
from train.data.batches import MicroBatchSampler
from train.families.base import IGNORED, Encoded
from train.families.registry import family_of
from train.grid.arms import arms_of_tasks, mixed_count
from train.grid.cells import Cell, done, trained_cells
from train.grid.checkers import TrainingJob, training_job
from train.grid.encoding import encode_for_training
from train.grid.pending_jobs import epoch_size, newest_checkpoint, steps
from train.loop.memory import MIB, Memory, MicroBatchSize, peak
from train.loop.preparation import epoch_of
from train.loop.saving import load_shapes
from train.loop.trainer import batching_of
from train.models.loading import Loaded


@dataclass(frozen=True)
class Size:
    """How large a model is, and what its training takes."""

    parameters: int
    trainable: int
    memory: Memory


@dataclass(frozen=True)
class CellPlan:
    """One line of the plan. None: unknown, since rows or the model are not on this machine or not generated yet."""

    cell: str
    state: str
    rows: int | None = None
    steps: int | None = None
    size: Size | None = None
    tokens: int | None = None  # of all epochs, without padding
    padding: float | None = None  # padding tokens for each token that is not
    truncated: int | None = None
    missing: tuple[str, ...] = ()  # what the plan does without, and why
    frozen: bool = False  # only a linear layer is fitted


def plan(settings: Settings) -> list[CellPlan]:
    """The plan of every cell, checkers before the cells that they weigh. Raises: UserError if local rows are damaged."""
    if hub_requirements(settings):
        stay_offline_without_network()
    plans: dict[str, CellPlan] = {}
    for cell in trained_cells(settings):
        if _awaits_rows(settings, cell):
            plans[cell.name] = _plan_without_rows(settings, cell, "to train once its rows are generated")
            continue
        try:
            job = training_job(settings, cell)
        except Unreachable as err:
            plans[cell.name] = _plan_without_rows(
                settings, cell, "to train", (f"{err} Rows are counted as published.",)
            )
            continue
        if job is None:
            plans[cell.name] = CellPlan(cell.name, "skipped, for its original rows are not available")
            continue
        for needed in (*job.checkers, job):
            if needed.cell.name not in plans:
                plans[needed.cell.name] = _plan_of_job(needed)
    return list(plans.values())


def lines(settings: Settings, plans: Sequence[CellPlan]) -> list[str]:
    """The plan as text."""
    processes, sharding = _launched(settings)
    how = "only a linear layer" if settings.train.freeze else f"batches of {settings.train.batch_size}"
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    libraries = psutil.Process().memory_info().rss / MIB
    text = [
        f"train: {len(plans)} cell{'s' * (len(plans) != 1)} of {settings.model.name} on {processes} x {device}, sharding {sharding}, "
        f"{settings.train.precision}, {how}"
    ]
    text += [_line(cell_plan) for cell_plan in plans]
    text += [f"missing: {reason}" for reason in dict.fromkeys(reason for one in plans for reason in one.missing)]
    text.append(f"In addition, each process needs memory for its libraries, here {libraries:,.0f} MiB of main memory.")
    return text


def _line(cell_plan: CellPlan) -> str:
    if cell_plan.rows is None:
        return f"{cell_plan.cell}: {cell_plan.state}"
    parts = [f"{cell_plan.cell}: {cell_plan.state}", f"{cell_plan.rows} rows", f"{cell_plan.steps} steps"]
    if cell_plan.frozen:
        return ", ".join([*parts[:2], "a linear layer on kept embeddings"])
    if cell_plan.tokens is None:
        parts.append("tokens unknown")
    else:
        padding = f"plus {cell_plan.padding:.0%} padding"
        parts.append(f"{_short(cell_plan.tokens)} tokens ({padding}), {cell_plan.truncated} rows truncated")
    if (size := cell_plan.size) is None:
        return ", ".join([*parts, "parameters and memory unknown"])
    parts.insert(1, f"{_short(size.parameters)} parameters, {_short(size.trainable)} trained")
    memory = size.memory
    return (
        f"{', '.join(parts)}; per device {_mib(memory.total)} = weights {_mib(memory.weights)} + gradients "
        f"{_mib(memory.gradients)} + optimizer {_mib(memory.optimizer)} + activations {_mib(memory.activations)}"
    )


def _plan_of_job(job: TrainingJob) -> CellPlan:
    train, (shapes, missing) = job.settings.train, _shapes(job.settings, job.cell)
    if train.freeze:
        return CellPlan(job.cell.name, _state(job), job.row_count, 1, frozen=True, missing=missing)
    if shapes is None or shapes.tokenizer is None:
        examples = Counter(source.task.name for source in job.rows for _ in source.examples())
        count = steps(train, epoch_size(train, list(examples.values())))
        size = None if shapes is None else _size(job.settings, shapes, _longest(job.settings, job.cell))
        return CellPlan(job.cell.name, _state(job), job.row_count, count, size, missing=missing)
    by_source = encode_for_training(job.settings, job.cell, shapes, job.rows)
    encoded = epoch_of(job, by_source).encoded
    tokens, padded, largest = _count_tokens(shapes, job.settings, encoded)
    return CellPlan(
        cell=job.cell.name,
        state=_state(job),
        rows=job.row_count,
        steps=steps(train, len(encoded)),
        size=_size(job.settings, shapes, largest),
        tokens=int(tokens * train.epochs),
        padding=padded / tokens - 1,
        truncated=sum(example.truncated for source in by_source for example in source.encoded),
    )


def _shapes(settings: Settings, cell: Cell) -> tuple[Loaded | None, tuple[str, ...]]:
    """The shapes of the cell's model, and what is missing for them or for counting tokens."""
    try:
        shapes = load_shapes(settings, cell)
    except UserError as err:
        return None, (f"{err} Its config.json and tokenizer are enough for the plan.",)
    if settings.train.freeze or shapes.tokenizer is not None:
        return shapes, ()
    name = settings.model.tokenizer or settings.model.path
    return shapes, (f"model.tokenizer: {name} has none on this machine.",)


def _size(settings: Settings, shapes: Loaded, largest: MicroBatchSize) -> Size:
    count = _count_parameters(shapes), _count_parameters(shapes, trained=True)
    return Size(*count, _memory(settings, shapes, largest))


def _state(job: TrainingJob) -> str:
    if done(job.settings.paths, job.cell) is not None:
        return "done"
    checkpoint = newest_checkpoint(job)
    return "to train" if checkpoint is None else f"to resume from step {checkpoint.step}"


def _count_tokens(shapes: Loaded, settings: Settings, encoded: Sequence[Encoded]) -> tuple[int, int, MicroBatchSize]:
    """(tokens, tokens with padding, the largest micro-batch) of the first epoch."""
    processes, _ = _launched(settings)
    collate = family_of(settings).collator(shapes)
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


def _plan_without_rows(settings: Settings, cell: Cell, state: str, missing: tuple[str, ...] = ()) -> CellPlan:
    """The plan from the number of rows there will be, each one example of train.max_length tokens."""
    rows = [_expected_rows(settings, cell.arm, settings.tasks[name]) for name in cell.tasks]
    known = [count for count in rows if count is not None]
    shapes, further = _shapes(settings, cell)
    plan = CellPlan(cell.name, state, missing=(*missing, *further), frozen=settings.train.freeze)
    if shapes is not None and not settings.train.freeze:
        plan = replace(plan, size=_size(settings, shapes, _longest(settings, cell)))
    if len(known) < len(rows):
        return replace(plan, state=f"{state}, with an unknown number of rows")
    return replace(plan, rows=sum(known), steps=steps(settings.train, epoch_size(settings.train, known)))


def _longest(settings: Settings, cell: Cell) -> MicroBatchSize:
    """A micro-batch of sequences of train.max_length tokens."""
    train, tasks = settings.train, [settings.tasks[name] for name in cell.tasks]
    by_choice = family_of(settings).scores_choices and any(task.choices == "texts" for task in tasks)
    sequences = min(train.device_batch_size, train.batch_size * (train.max_choices if by_choice else 1))
    return MicroBatchSize(sequences, train.max_length, 8)


def _expected_rows(settings: Settings, arm: ArmName, task: Task) -> int | None:
    """The rows of an arm that are not on this machine: as many as are to be written, or were published. None: unknown."""
    arms = arms_of_tasks(settings) if settings.train.equal_size else [arm]
    counts = [count for arm in arms if (count := _rows_of_arm(settings, arm, task)) is not None]
    return min(counts, default=None)


def _rows_of_arm(settings: Settings, arm: ArmName, task: Task) -> int | None:
    most = settings.train.max_rows
    to_train_on = settings.synth.size_of(task) - rows_to_hold_out(settings, task)
    synthetic = min(filter(None, (to_train_on, most)))
    if ARMS[arm].mixes:
        return synthetic + mixed_count(settings.train.mixed_original, synthetic)
    if ARMS[arm].uses_synthetic:
        return synthetic
    original = original_train_task(settings, task).sizes.get("train") if ARMS[arm].uses_original else None
    return min(filter(None, (original, most))) if original else None


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
