"""What is chosen by the kind of device: the optimizer's kernel, TF32, how batches reach it."""

from dataclasses import dataclass

FUSED = ("cpu", "cuda", "mps", "xpu")  # devices for which torch has AdamW as one kernel
AMPERE = 8  # major number of the first GPUs with TF32


@dataclass(frozen=True)
class DeviceChoices:
    """`optimizer`: its name for the Trainer. `tf32`: whether products of fp32 values are made in TF32. `pinned`: whether batches are
    collated into memory from which a GPU copies while it computes. `workers`: processes that collate them; token ids need none."""

    optimizer: str
    tf32: bool
    pinned: bool
    workers: int = 0


def device_choices(kind: str, generation: int = 0) -> DeviceChoices:
    """The choices for a kind of device as torch names it; `generation`: the major number of a GPU's compute capability."""
    optimizer = "adamw_torch_fused" if kind in FUSED else "adamw_torch"
    return DeviceChoices(optimizer, kind == "cuda" and generation >= AMPERE, kind == "cuda")


def own_device_choices() -> DeviceChoices:
    """The choices for the device of this process."""
    import torch

    if torch.cuda.is_available() and torch.version.cuda is not None:
        return device_choices("cuda", torch.cuda.get_device_capability()[0])
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return device_choices("cpu" if device is None else device.type)


def use_tf32(choices: DeviceChoices) -> None:
    """From here on products of fp32 values are made in TF32, if so chosen; torch's own default is full fp32."""
    import torch

    if choices.tf32:
        torch.set_float32_matmul_precision("high")
