"""Weights that are sharded over processes, by FSDP or DeepSpeed: how they are loaded, divided, gathered and saved."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from transformers import Trainer

from targen.config.groups.training import Precision
from targen.config.settings import Settings
from train.models.loading import Loaded
from train.models.transformer_blocks import block_names
from train.planning.main_memory import reads_once
from train.runtime.processes import Processes


@contextmanager
def dividing_while_loading(settings: Settings, processes: Processes) -> Iterator[None]:
    """Meanwhile ZeRO-3 divides each layer of a pretrained model while it is read; ZeRO-2 needs all weights everywhere."""
    if processes.sharding == "deepspeed" and loads_once(settings, processes):
        from accelerate.utils import DeepSpeedPlugin

        plugin = DeepSpeedPlugin()  # from the launcher's variables; transformers divides weights while it lives
        plugin.set_mixed_precision("bf16" if settings.train.precision == "bf16_weights" else "no")
        plugin.set_deepspeed_weakref()
        yield
        forget_deepspeed(processes)
    else:
        yield


def loads_once(settings: Settings, processes: Processes) -> bool:
    """Whether a whole model is too much for the memory of each process."""
    sharded = processes.sharding == "deepspeed" or os.environ.get("FSDP_VERSION") == "2"  # FSDP 1 has other rules
    return processes.count > 1 and sharded and reads_once(settings)


def model_without_weights(loaded: Loaded) -> Loaded:
    """The model with uninitialised weights, for a process to which FSDP will send its shards of the first process's weights:
    memory that is never written takes none."""
    for weight in loaded.model.parameters():
        if weight.requires_grad:
            weight.data = weight.data.float()  # as accelerate does, which would write it
    loaded.model.to_empty(device="cpu")
    loaded.model.tie_weights()
    return loaded


def send_buffers(model: nn.Module, processes: Processes) -> None:
    """Gives all processes the first one's buffers that are not saved with the weights, as the frequencies of rotary positions."""
    saved = model.state_dict().keys()
    sent = processes.broadcast(
        {name: value for name, value in model.named_buffers() if name not in saved} if processes.first else {}
    )
    for name, value in sent.items():
        model.get_buffer(name).copy_(value)


def forget_deepspeed(processes: Processes) -> None:
    """From here on transformers loads whole models again: with ZeRO-3 it divides all that it loads once a cell was trained."""
    if processes.sharding == "deepspeed":
        from transformers.integrations import unset_hf_deepspeed_config

        unset_hf_deepspeed_config()


def set_precision(trainer: Trainer, precision: Precision) -> None:
    """The arithmetic of train.precision=bf16 around weights, sums of gradients and moments in fp32."""
    state = trainer.accelerator.state
    if trainer.is_deepspeed_enabled and precision == "bf16":
        state.deepspeed_plugin.deepspeed_config["torch_autocast"] = {"enabled": True, "dtype": "bfloat16"}
    if trainer.is_fsdp_enabled and precision != "fp32" and state.fsdp_plugin.fsdp_version == 2:
        from torch.distributed.fsdp import MixedPrecisionPolicy

        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
        state.fsdp_plugin.mixed_precision_policy = policy


@contextmanager
def divided_by_blocks(trainer: Trainer) -> Iterator[None]:
    """Meanwhile accelerate makes an FSDP unit of each block, and one of all the rest: embeddings, norms and head.

    Left alone it gives embeddings and head units of their own, which fails where more than these two share the embeddings
    (T5) or where they lie inside a unit already (BERT); some models name no blocks at all (DeBERTa).
    """
    if not trainer.is_fsdp_enabled:
        yield
        return
    model = trainer.model
    trainer.accelerator.state.fsdp_plugin.transformer_cls_names_to_wrap = block_names(model)
    hidden = ("get_input_embeddings", "get_output_embeddings")
    for name in hidden:
        setattr(model, name, lambda: None)
    try:
        yield
    finally:
        for name in hidden:
            delattr(model, name)


@contextmanager
def root_gathered(model: nn.Module) -> Iterator[None]:
    """Meanwhile parts of a model can be called alone, as the encoder for predictions; afterwards all units are divided again:
    without a backward pass FSDP leaves some gathered, which can be neither saved nor loaded."""
    from torch.distributed.fsdp import FSDPModule

    units = [module for module in model.modules() if isinstance(module, FSDPModule)]
    for root in units[:1]:
        root.unshard()
    yield
    for unit in units:
        unit.reshard()


def gathered_weights(trainer: Trainer, first: bool) -> dict[str, Tensor]:
    """The weights of a sharded model on the CPU of the first process, in which the optimizer holds them: fp32. All processes
    take part; of a model with adapters the frozen weights may be missing."""
    if not trainer.is_deepspeed_enabled:
        tied = trainer.model.all_tied_weights_keys  # of which gathering makes copies
        weights: dict[str, Tensor] = trainer.accelerator.get_state_dict(trainer.model)
        return {name: value for name, value in weights.items() if name not in tied}
    from deepspeed.runtime.zero import GatheredParameters
    from deepspeed.utils import safe_get_full_fp32_param

    model = trainer.accelerator.unwrap_model(trainer.model_wrapped)
    adapted = hasattr(model, "peft_config")
    gathered = {name: value.cpu() for name, value in model.state_dict().items() if name in dict(model.named_buffers())}
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            full = safe_get_full_fp32_param(weight)
        elif adapted:
            continue
        else:
            full = None
        with GatheredParameters([weight], enabled=full is None):
            if first:
                gathered[name] = (weight if full is None else full).detach().cpu().clone()
    return gathered
