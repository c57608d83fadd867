"""What training would do: `python -m train.run plan=true`. Reads rows and the model's config, trains and writes nothing."""

from collections.abc import Sequence
from dataclasses import dataclass

import psutil
import torch
import yaml

from targen.config.groups.training import launch_file
from targen.config.settings import Settings
from targen.tasks.task import Task
from train.data.batches import Parts
from train.families.base import Encoded
from train.families.base import family as family_named
from train.grid.arms import mixed_count
from train.grid.cells import Cell, done, trained_cells
from train.grid.checkers import Job, job_of
from train.grid.encoding import encode_parts
from train.grid.pending_jobs import epoch_size, resumable, steps
from train.loop.memory import MIB, Memory, Part, peak
from train.loop.preparation import training_data
from train.loop.saving import without_weights
from train.loop.trainer import IGNORED, batching
from train.models.loading import Loaded

UNCUT = 1_000_000  # rows


@dataclass(frozen=True)
class CellPlan:
    """One line of the plan; None is not known before the rows are generated."""

    cell: str
    state: str
    parameters: int
    trainable: int
    rows: int
    steps: int
    tokens: int | None  # of all epochs, without padding
    padding: float | None  # share of what goes through the model
    truncated: int | None
    memory: Memory


def plan(settings: Settings) -> list[CellPlan]:
    """The plan of every cell, checkers before those that they weigh. Raises: UserError where the model's config or the
    rows are not to be had."""
    found: dict[str, CellPlan] = {}
    for cell in trained_cells(settings):
        if _awaits_rows(settings, cell):
            found[cell.name] = _before_generation(settings, cell)
        elif (job := job_of(settings, cell)) is not None:
            for one in (*job.checkers, job):
                if one.cell.name not in found:
                    found[one.cell.name] = _of_job(one)
    return list(found.values())


def lines(settings: Settings, plans: Sequence[CellPlan]) -> list[str]:
    """The plan as text."""
    processes, sharding = _launched(settings)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    own = psutil.Process().memory_info().rss / MIB
    found = [
        f"train: {len(plans)} cells of {settings.model.name} on {processes} x {device}, sharding {sharding}, "
        f"{settings.train.precision}, batches of {settings.train.batch_size}"
    ]
    for one in plans:
        known = "tokens not known before the rows are there"
        if one.tokens is not None:
            known = f"{_short(one.tokens)} tokens (padding {one.padding:.0%} on top), {one.truncated} rows truncated"
        memory = one.memory
        found.append(
            f"{one.cell}: {one.state}, {_short(one.parameters)} parameters, {_short(one.trainable)} trained, "
            f"{one.rows} rows, {one.steps} steps, "
            f"{known}; per device {_mib(memory.total)} = weights {_mib(memory.weights)} + gradients {_mib(memory.gradients)} + optimizer "
            f"{_mib(memory.optimizer)} + activations {_mib(memory.activations)}"
        )
    found.append(f"Beside it each process takes what the libraries take, here {own:,.0f} MiB of main memory.")
    return found


def _of_job(job: Job) -> CellPlan:
    train, bare = job.settings.train, without_weights(job.settings, job.cell)
    parts = encode_parts(job.settings, job.cell, bare, job.parts)
    encoded = training_data(job, parts).encoded
    tokens, padded, largest = _counted(bare, job.settings, encoded)
    return CellPlan(
        cell=job.cell.name,
        state=_state(job),
        parameters=_count(bare),
        trainable=_count(bare, trained=True),
        rows=job.rows,
        steps=steps(train, len(encoded)),
        tokens=int(tokens * train.epochs),
        padding=padded / tokens - 1,
        truncated=sum(one.cut for part in parts for one in part.encoded),
        memory=_memory(job.settings, bare, largest),
    )


def _state(job: Job) -> str:
    if done(job.settings.paths, job.cell) is not None:
        return "done"
    checkpoint = resumable(job)
    return "to train" if checkpoint is None else f"to train on from step {checkpoint.step}"


def _counted(bare: Loaded, settings: Settings, encoded: Sequence[Encoded]) -> tuple[int, int, Part]:
    """(tokens, tokens with padding, the largest part) of the first epoch."""
    processes, _ = _launched(settings)
    collate, dealt = family_named(settings.model.family).collator(bare), batching(settings, encoded, processes)
    tokens = padded = 0
    largest = Part(0, 0)
    for process in range(processes):
        for places in Parts([one.length for one in encoded], dealt, 0, "plan", process):
            batch = collate([encoded[place] for place in places if place >= 0] or [encoded[~places[0]]])
            mask, decoder = batch["attention_mask"], batch.get("decoder_input_ids")
            answers = batch.get("logits_to_keep", 0) if decoder is None else decoder.shape[1]
            tokens += int(mask.sum()) + (int((batch["labels"] != IGNORED).sum()) if decoder is not None else 0)
            padded += mask.numel() + (decoder.numel() if decoder is not None else 0)
            largest = max(
                largest, Part(mask.shape[0], mask.shape[1], answers), key=lambda part: part.sequences * part.tokens
            )
    return tokens, padded, largest


def _awaits_rows(settings: Settings, cell: Cell) -> bool:
    """Whether synthetic rows that the cell needs are still to be made."""
    made = {"synthetic", "mixed"}
    needed = cell.arm in made or (settings.train.equal_size and bool(made & {*settings.arms}))
    return needed and not all((settings.paths.synthetic(name) / "train.jsonl").is_file() for name in cell.tasks)


def _before_generation(settings: Settings, cell: Cell) -> CellPlan:
    """The plan by the number of rows that are to be made, at the longest; a row of each task is one example."""
    train, tasks = settings.train, [settings.tasks[name] for name in cell.tasks]
    bare, rows = without_weights(settings, cell), [_rows_to_come(settings, cell, task) for task in tasks]
    by_choice = family_named(settings.model.family).SCORES_CHOICES and any(task.choices == "texts" for task in tasks)
    sequences = min(train.device_batch_size, train.batch_size * (train.max_choices if by_choice else 1))
    return CellPlan(
        cell=cell.name,
        state="to train when its rows are generated",
        parameters=_count(bare),
        trainable=_count(bare, trained=True),
        rows=sum(rows),
        steps=steps(train, epoch_size(train, rows)),
        tokens=None,
        padding=None,
        truncated=None,
        memory=_memory(settings, bare, Part(sequences, train.max_length, 8)),
    )


def _rows_to_come(settings: Settings, cell: Cell, task: Task) -> int:
    made = min(settings.synth.size_of(task), settings.train.max_rows or UNCUT)
    return made + (mixed_count(settings.train.mixed_original, made) if cell.arm == "mixed" else 0)


def _memory(settings: Settings, bare: Loaded, largest: Part) -> Memory:
    processes, sharding = _launched(settings)
    # without a GPU's fused kernels the matrix of attention is kept; T5 has a bias in it and keeps it always
    keeps = not torch.cuda.is_available() or bare.model.config._attn_implementation == "eager"
    return peak(bare.model, largest, settings.train, processes=processes, sharding=sharding, keeps_attention=keeps)


def _launched(settings: Settings) -> tuple[int, str]:
    """(processes, sharding) of train.launch: none, zero2, zero3 or fsdp."""
    if settings.train.launch is None:
        return 1, "none"
    values = yaml.safe_load(launch_file(settings.train.launch).read_text(encoding="utf-8"))
    kinds = {"FSDP": "fsdp", "DEEPSPEED": f"zero{values.get('deepspeed_config', {}).get('zero_stage')}"}
    return int(values["num_processes"]), kinds.get(values["distributed_type"], "none")


def _count(bare: Loaded, trained: bool = False) -> int:
    return sum(weight.numel() for weight in bare.model.parameters() if weight.requires_grad or not trained)


def _short(count: int) -> str:
    """12345678 as 12.3M."""
    for size, letter in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if count >= size:
            return f"{count / size:.3g}{letter}"
    return str(count)


def _mib(size: int) -> str:
    return f"{size / MIB:,.{1 if size < 10 * MIB else 0}f} MiB"
