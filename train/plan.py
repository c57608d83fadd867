"""What training would do: `python -m train.run plan=true`. Reads rows and the model's configuration, writes nothing."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import psutil
import torch

from targen.config.arms import ARMS
from targen.config.settings import Settings
from targen.data.arm_sizes import arm_examples
from targen.data.hub import stay_offline_without_network
from targen.data.hub_requirements import hub_requirements
from targen.runtime.errors import Unreachable
from train.data.batches import MicroBatchSampler
from train.families.base import IGNORED, Encoded
from train.families.registry import family_of
from train.grid.cells import Cell, read_done_marker, trained_cells
from train.grid.checkers import TrainingJob, training_job
from train.grid.encoding import encode_for_training
from train.grid.pending_jobs import epoch_size, newest_checkpoint, steps
from train.loop.planned_models import PlannedModels
from train.loop.preparation import epoch_of
from train.loop.trainer import batching_of
from train.models.loading import Loaded
from train.planning import main_memory
from train.planning.cell_plan import GIB, CellPlan, Size, line
from train.planning.fitting import launched_processes, longest_example, planned_device, planned_gpu, size_of
from train.planning.gpu_hours import gpu_hours
from train.planning.memory import MIB, MicroBatchSize

SKIPPED = "skipped, for its original rows are not available"


def plan(settings: Settings) -> list[CellPlan]:
    """The plan of every cell, checkers before the cells that they weigh. Raises: UserError if local rows are damaged."""
    if hub_requirements(settings):
        stay_offline_without_network()
    plans: dict[str, CellPlan] = {}
    models = PlannedModels()
    for cell in trained_cells(settings):
        if _awaits_rows(settings, cell):
            plans[cell.name] = _plan_without_rows(settings, cell, models, "to train once its rows are generated")
            continue
        try:
            job = training_job(settings, cell)
        except Unreachable as err:
            plans[cell.name] = _plan_without_rows(
                settings, cell, models, "to train", (f"{err} Rows are counted as published.",)
            )
            continue
        if job is None:
            plans[cell.name] = CellPlan(cell.name, SKIPPED)
            continue
        for needed in (*job.checkers, job):
            if needed.cell.name not in plans:
                plans[needed.cell.name] = _plan_of_job(needed, models)
    return list(plans.values())


def lines(settings: Settings, plans: Sequence[CellPlan]) -> list[str]:
    """The plan as text."""
    device, gpu = planned_device(settings), planned_gpu(settings)
    how = "only a linear layer" if settings.train.freeze else f"batches of {settings.train.batch_size}"
    device_name = gpu.title if gpu is not None else torch.cuda.get_device_name() if device.on_gpu else "CPU"
    libraries = psutil.Process().memory_info().rss
    text = [
        f"train: {len(plans)} cell{'s' * (len(plans) != 1)} of {settings.model.name} on {device.processes} x {device_name}, sharding {device.sharding}, "
        f"{settings.train.precision}, {how}"
    ]
    text += [line(cell_plan, device) for cell_plan in plans]
    reasons = dict.fromkeys(reason for cell_plan in plans for reason in cell_plan.missing)
    text += [f"missing: {reason}" for reason in reasons]
    text.append(
        f"In addition, each process needs memory for its libraries, here {libraries / MIB:,.0f} MiB of main memory."
    )
    sizes = [cell_plan.size for cell_plan in plans if cell_plan.size is not None and cell_plan.state != "done"]
    text += main_memory.lines(settings, sizes, device, libraries)
    return [*text, *_disk_lines(settings, sizes), *_hours_lines(settings, plans)]


def _disk_lines(settings: Settings, sizes: Sequence[Size]) -> list[str]:
    if not sizes:
        return []
    free = psutil.disk_usage(
        str(next(path for path in (settings.paths.root, *settings.paths.root.resolve().parents) if path.exists()))
    ).free
    models, checkpoints = sum(size.disk.kept for size in sizes), max(size.disk.most - size.disk.kept for size in sizes)
    return [
        f"disk: {models / GIB:,.1f} GiB for the models, and {checkpoints / GIB:,.1f} GiB for the checkpoints of each cell that is "
        f"trained; {free / GIB:,.1f} GiB are free in run.dir"
    ]


def _hours_lines(settings: Settings, plans: Sequence[CellPlan]) -> list[str]:
    pending = [cell_plan for cell_plan in plans if cell_plan.state not in ("done", SKIPPED) and not cell_plan.frozen]
    flops, unknown = sum(cell_plan.flops for cell_plan in pending), sum(not cell_plan.flops for cell_plan in pending)
    unknown_cells = f"{unknown} cell{'s' * (unknown != 1)} unknown"
    if unknown and unknown == len(pending):
        return gpu_hours(settings, "train", None, unknown_cells)
    at_most = any(cell_plan.tokens is None and cell_plan.flops for cell_plan in pending)
    basis = f"{flops:.2g} operations" + (f", {unknown_cells}" if unknown else "")
    basis += ", rows that are not here as train.max_length tokens each" if at_most else ""
    return gpu_hours(settings, "train", flops, basis, at_most=at_most, at_least=bool(unknown))


def _plan_of_job(job: TrainingJob, models: PlannedModels) -> CellPlan:
    train, (shapes, missing) = job.settings.train, models.shapes(job.settings, job.cell)
    if train.freeze:
        return CellPlan(job.cell.name, _state(job), job.row_count, 1, frozen=True, missing=missing)
    if shapes is None or shapes.tokenizer is None:
        examples = Counter(source.task.name for source in job.rows for _ in source.examples())
        epoch = epoch_size(train, list(examples.values()))
        plan = CellPlan(job.cell.name, _state(job), job.row_count, steps(train, epoch), missing=missing)
        return plan if shapes is None else _sized(plan, job.settings, job.cell, models, epoch)
    by_source = encode_for_training(job.settings, job.cell, shapes, job.rows)
    encoded = epoch_of(job, by_source).encoded
    collate = family_of(job.settings).collator(shapes)
    settings = models.with_device_batch(job.settings, job.cell, size_of(collate([longest_example(encoded)])))
    inputs, answers, padded, largest = _count_tokens(shapes, settings, encoded)
    size = models.size(settings, job.cell, largest)
    return CellPlan(
        cell=job.cell.name,
        state=_state(job),
        rows=job.row_count,
        steps=steps(train, len(encoded)),
        size=size,
        tokens=int((inputs + answers) * train.epochs),
        padding=padded / (inputs + answers) - 1,
        truncated=sum(example.truncated for source in by_source for example in source.encoded),
        flops=(size.operations[0] * inputs + size.operations[1] * answers) * train.epochs,
    )


def _state(job: TrainingJob) -> str:
    if read_done_marker(job.settings.paths, job.cell) is not None:
        return "done"
    checkpoint = newest_checkpoint(job)
    return "to train" if checkpoint is None else f"to resume from step {checkpoint.step}"


def _count_tokens(
    shapes: Loaded, settings: Settings, encoded: Sequence[Encoded]
) -> tuple[int, int, int, MicroBatchSize]:
    """(input tokens, tokens of answers beside them, tokens with padding, the largest micro-batch) of the first epoch."""
    processes, _ = launched_processes(settings)
    collate = family_of(settings).collator(shapes)
    batching, lengths = batching_of(settings, encoded, processes), [example.length for example in encoded]
    tokens = answers = padded = 0
    largest = MicroBatchSize(0, 0)
    for process in range(processes):
        for indices in MicroBatchSampler(lengths, batching, 0, "plan", process):
            batch = collate([encoded[index] for index in indices if index >= 0] or [encoded[~indices[0]]])
            mask, decoder = batch["attention_mask"], batch.get("decoder_input_ids")
            size = size_of(batch, max(1, sum(index >= 0 for index in indices)))
            tokens += int(mask.sum())
            answers += int((batch["labels"] != IGNORED).sum()) if decoder is not None else 0
            padded += mask.numel() + (decoder.numel() if decoder is not None else 0)
            largest = max(largest, size, key=lambda size: size.sequences * size.tokens)
    return tokens, answers, padded, largest


def _awaits_rows(settings: Settings, cell: Cell) -> bool:
    """Whether synthetic rows that the cell needs are still to be generated."""
    arms = settings.arms if settings.train.equal_size else [cell.arm]
    needed = any(ARMS[arm].uses_synthetic for arm in arms)
    return needed and not all((settings.paths.synthetic(name) / "train.jsonl").is_file() for name in cell.tasks)


def _plan_without_rows(
    settings: Settings, cell: Cell, models: PlannedModels, state: str, missing: tuple[str, ...] = ()
) -> CellPlan:
    """The plan from the number of examples there will be, each of train.max_length tokens."""
    counts = [arm_examples(settings, cell.arm, settings.tasks[name]) for name in cell.tasks]
    known = [count.number for count in counts if count is not None]
    shapes, also_missing = models.shapes(settings, cell)
    plan = CellPlan(cell.name, state, missing=(*missing, *also_missing), frozen=settings.train.freeze)
    epoch = epoch_size(settings.train, known) if len(known) == len(counts) else 0
    if shapes is not None and not settings.train.freeze:
        plan = _sized(plan, settings, cell, models, epoch)
    if len(known) < len(counts):
        return replace(plan, state=f"{state}, with an unknown number of rows")
    about = any(count is not None and count.about for count in counts)
    return replace(plan, rows=sum(known), about=about, steps=steps(settings.train, epoch))


def _sized(plan: CellPlan, settings: Settings, cell: Cell, models: PlannedModels, epoch: int) -> CellPlan:
    """The plan with the size of its model, for an epoch of so many examples of train.max_length tokens."""
    example = _longest(settings, cell)
    settings = models.with_device_batch(settings, cell, example)
    most = (settings.train.device_batch_size or 1) // example.sequences
    examples = max(1, min(most, -(-settings.train.batch_size // planned_device(settings).processes)))
    size = models.size(settings, cell, replace(example, sequences=examples * example.sequences))
    of_example = size.operations[0] * example.sequences * example.tokens + size.operations[1] * example.answer_tokens
    return replace(plan, size=size, flops=of_example * epoch * settings.train.epochs)


def _longest(settings: Settings, cell: Cell) -> MicroBatchSize:
    """An example whose sequences have train.max_length tokens."""
    train, tasks, family = settings.train, [settings.tasks[name] for name in cell.tasks], family_of(settings)
    by_choice = family.scores_choices and any(task.choices == "texts" for task in tasks)
    choices = train.max_choices if by_choice else 1
    return MicroBatchSize(choices, train.max_length, 0 if settings.model.has_head else 8, choices)
