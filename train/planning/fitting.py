"""How many sequences a device holds at once: train.device_batch_size, or as many as fit by the plan."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import yaml

from targen.config.groups.gpus import GPUS, Gpu, gpu_reported_as
from targen.config.groups.training import launch_file
from targen.config.settings import Settings
from targen.runtime.errors import UserError, one_line
from train.families.base import Batch, Encoded
from train.launch import PROCESSES, takes_all_gpus
from train.models.loading import Loaded
from train.planning.memory import Memory, MicroBatchSize, peak_memory
from train.runtime.processes import Processes

log = logging.getLogger(__name__)
GIB = 2**30
ON_CPU = 16  # sequences at once, unless it is set: larger batches leave a CPU's caches
FILLED = 0.85  # of a GPU's memory: the rest is for fragments, workspaces and what the plan does not see
TOLERATED = 1.1  # times the memory of a device that a plan may take, since the plan is not exact
# what the code of a model may raise that does not run on shapes alone
NOT_COUNTED = (RuntimeError, NotImplementedError, TypeError, ValueError, AttributeError, KeyError, AssertionError)


@dataclass(frozen=True)
class Device:
    """What trains: processes of one device each, how the weights are sharded over them, and bytes of memory for training
    (None: not known)."""

    on_gpu: bool
    memory: float | None
    processes: int = 1
    sharding: str = "none"


def this_device(processes: Processes) -> Device:
    """The device of this process, with what is free on it. The processes may have been launched without train.launch."""
    sharding = f"zero{processes.zero_stage}" if processes.sharding == "deepspeed" else processes.sharding
    if not torch.cuda.is_available():
        return Device(False, None, processes.count, sharding)
    free = torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    return Device(True, free, processes.count, sharding)


def planned_device(settings: Settings) -> Device:
    """The device that a plan is for: price.gpu, or that of this machine."""
    processes, sharding = launched_processes(settings)
    if (gpu := planned_gpu(settings)) is not None:
        return Device(True, gpu.memory, processes, sharding)
    if torch.cuda.is_available():
        return Device(True, torch.cuda.mem_get_info()[1], processes, sharding)
    return Device(False, None, processes, sharding)


def planned_gpu(settings: Settings) -> Gpu | None:
    """price.gpu, or the GPU of this machine; None: it has none, or one that is not known here."""
    if settings.price.gpu is not None:
        return GPUS[settings.price.gpu]
    return gpu_reported_as(torch.cuda.get_device_name()) if torch.cuda.is_available() else None


def launched_processes(settings: Settings) -> tuple[int, str]:
    """(processes, sharding) of train.launch: none, zero2, zero3 or fsdp.

    Their number is that of the job or of the cluster's training jobs if these have several, else that of the visible GPUs if
    the file takes all, else that of the file.
    """
    if settings.train.launch is None:
        return 1, "none"
    values = yaml.safe_load(launch_file(settings.train.launch).read_text(encoding="utf-8"))
    shardings = {"FSDP": "fsdp", "DEEPSPEED": f"zero{(values.get('deepspeed_config') or {}).get('zero_stage')}"}
    resources = settings.cluster.train
    of_cluster = (resources.processes or resources.gpus) * resources.nodes
    visible = torch.cuda.device_count() if takes_all_gpus(settings.train.launch) else 0
    counts = (int(os.environ.get(PROCESSES, 0)), of_cluster if of_cluster > 1 else 0, visible)
    count = next(filter(None, counts), None) or int(values.get("num_processes") or 1)
    return count, shardings.get(values["distributed_type"], "none")


def longest_example(encoded: Sequence[Encoded]) -> Encoded:
    """The example with most tokens in all its sequences."""
    return max(encoded, key=lambda example: example.length * example.sequence_count)


def size_of(batch: Batch, examples: int = 1) -> MicroBatchSize:
    """The size of a collated micro-batch of so many examples."""
    mask, decoder = batch["attention_mask"], batch.get("decoder_input_ids")
    answers = batch.get("logits_to_keep", 0) if decoder is None else decoder.shape[1]
    return MicroBatchSize(mask.shape[0], mask.shape[1], answers, mask.shape[0] // examples)


def memory_of(settings: Settings, shapes: Loaded, size: MicroBatchSize, device: Device) -> Memory:
    """The peak of training with micro-batches of this size."""
    return peak_memory(
        shapes.model,
        size,
        settings.train,
        processes=device.processes,
        sharding=device.sharding,
        on_gpu=device.on_gpu,
    )


def fitting_sequences(settings: Settings, shapes: Loaded, example: MicroBatchSize, device: Device) -> int:
    """The most sequences at once whose plan fits, as even parts of a batch. `one`: the longest example."""
    train, sequences = settings.train, example.sequences
    if device.memory is None:
        return ON_CPU
    alone = memory_of(settings, shapes, example, device)
    two = memory_of(settings, shapes, replace(example, sequences=2 * sequences), device)
    share = -(-train.batch_size // device.processes)
    examples = share
    for parts in range(1, share + 1):
        examples = -(-share // parts)
        activations = alone.activations + (two.activations - alone.activations) * (examples - 1)
        planned = replace(alone, activations=activations, accumulates=parts > 1)
        if planned.total <= FILLED * device.memory:
            break
    return examples * sequences


def with_device_batch(settings: Settings, shapes: Loaded, example: MicroBatchSize, device: Device) -> Settings:
    """The settings with train.device_batch_size, found by the plan if it is not set."""
    if settings.train.device_batch_size is not None:
        return settings
    try:
        sequences = fitting_sequences(settings, shapes, example, device)
    except NOT_COUNTED as err:
        log.warning("train: %s; train.device_batch_size=%d", not_counted(settings, err), ON_CPU)
        sequences = ON_CPU
    return with_sequences(settings, sequences)


def check_fits(settings: Settings, shapes: Loaded, example: MicroBatchSize, device: Device) -> None:
    """Raises: UserError if the largest micro-batch cannot fit, before anything is on the device."""
    train = settings.train
    if device.memory is None:
        return
    sequences = min(train.device_batch_size or ON_CPU, -(-train.batch_size // device.processes) * example.sequences)
    try:
        planned = memory_of(settings, shapes, replace(example, sequences=max(example.sequences, sequences)), device)
        if planned.total <= TOLERATED * device.memory:
            return
        fits = fitting_sequences(settings, shapes, example, device)
    except NOT_COUNTED as err:
        log.warning("train: %s", not_counted(settings, err))
        return
    if planned.weights + planned.optimizer + planned.gradients > device.memory:
        advice = "Set train.launch=deepspeed_zero3 with more GPUs, or train.lora=default"
    else:
        fewer = [f"train.device_batch_size={fits}, or null to have it found"] if fits < sequences else []
        checkpointing = [] if train.gradient_checkpointing else ["train.gradient_checkpointing=true"]
        advice = f"Set {', or '.join([*fewer, *checkpointing, f'train.max_length below {train.max_length}'])}"
    raise UserError(
        f"train.device_batch_size: got {train.device_batch_size} with {example.tokens} tokens, which take about "
        f"{planned.total / GIB:.1f} GiB, expected at most {device.memory / GIB:.1f}, what the device has. {advice}."
    )


def not_counted(settings: Settings, err: Exception) -> str:
    """Why there is no plan of the memory."""
    return f"the memory of {settings.model.name} is unknown ({one_line(err, 200)})"


def with_sequences(settings: Settings, sequences: int) -> Settings:
    """The settings with so many sequences at once."""
    return replace(settings, train=replace(settings.train, device_batch_size=sequences))
