"""What autograd keeps of a forward pass on a GPU, counted on torch's meta device: shapes without memory, in a second or two.

The model itself runs, so that gated layers, residuals in fp32, biases of attention and checkpoints are counted as they are.
What depends on the device is done here as CUDA does it: autocast, dropout's masks, and the kernels of attention.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from transformers.modeling_layers import GradientCheckpointingLayer

# What models call of the lists of autocast on CUDA. Source: aten/src/ATen/autocast_mode.h of PyTorch, AT_FORALL_LOWER_PRECISION_FP
# and AT_FORALL_FP32.
IN_BF16 = {
    functional.linear,
    functional.conv1d,
    functional.conv2d,
    torch.matmul,
    torch.mm,
    torch.bmm,
    torch.addmm,
    torch.baddbmm,
    Tensor.matmul,
    Tensor.__matmul__,
    Tensor.bmm,
}
IN_FP32 = {
    functional.softmax,
    functional.log_softmax,
    functional.layer_norm,
    functional.cross_entropy,
    functional.softplus,
    torch.softmax,
    torch.log_softmax,
    torch.pow,
    torch.rsqrt,
    torch.exp,
    torch.log,
    torch.sum,
    torch.cumsum,
    Tensor.softmax,
    Tensor.log_softmax,
    Tensor.pow,
    Tensor.__pow__,
    Tensor.rsqrt,
    Tensor.exp,
    Tensor.log,
    Tensor.sum,
    Tensor.cumsum,
}


@dataclass(frozen=True)
class KeptBytes:
    """Bytes that are kept for the backward pass, and those of them that are bf16 copies of weights."""

    activations: int
    weight_copies: int
    logits: int  # of the outputs, which the caller holds beside them


def kept_tensors(model: Any, inputs: Mapping[str, Any], *, autocast: bool, on_gpu: bool) -> KeptBytes:
    """What a training step keeps of one micro-batch. `model` and `inputs` are on the meta device.

    A stack of blocks is counted with its first and last, then with one between them: each further one keeps what that one does.
    Raises: whatever the model's own code raises if it cannot run on shapes alone.
    """
    stacks = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) > 3 and isinstance(module[0], GradientCheckpointingLayer)
    }

    def count(longer: str | None) -> KeptBytes:
        for name, stack in stacks.items():
            between = [stack[1]] if name == longer else []
            model.set_submodule(name, nn.ModuleList([stack[0], *between, stack[-1]]))
        return _count(model, inputs, autocast, on_gpu)

    was_training = model.training
    model.train()
    try:
        kept = two_blocks = count(None)
        for name, stack in stacks.items():
            three_blocks, further_blocks = count(name), len(stack) - 2
            kept = KeptBytes(
                kept.activations + further_blocks * (three_blocks.activations - two_blocks.activations),
                kept.weight_copies + further_blocks * (three_blocks.weight_copies - two_blocks.weight_copies),
                kept.logits,
            )
        return kept
    finally:
        for name, stack in stacks.items():
            model.set_submodule(name, stack)
        model.train(was_training)


def _count(model: Any, inputs: Mapping[str, Any], autocast: bool, on_gpu: bool) -> KeptBytes:
    storages: dict[int, Any] = {}
    of_model = {_storage(tensor) for tensor in (*model.parameters(), *model.buffers())}

    def keep(tensor: Tensor) -> Tensor:
        if _storage(tensor) not in of_model:
            storages[_storage(tensor)] = tensor.untyped_storage()
        return tensor

    kernels = _Kernels(autocast, on_gpu)
    with torch.device("meta"), kernels, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = model(**inputs).logits
        loss = logits.float().log_softmax(dim=-1).sum()  # keeps the graph until all is counted
    copies = {_storage(copy) for copy in kernels.copies.values()}
    sizes = {key: storage.nbytes() for key, storage in storages.items()}
    copied = sum(size for key, size in sizes.items() if key in copies)
    del loss
    return KeptBytes(sum(sizes.values()) - copied, copied, 4 * logits.numel())


def _storage(tensor: Tensor) -> int:
    key: int = tensor.untyped_storage()._cdata
    return key


class _Kernels(TorchFunctionMode):
    """Does on the meta device what depends on the device as CUDA, or a CPU, would do it."""

    def __init__(self, autocast: bool, on_gpu: bool) -> None:
        super().__init__()
        self.copies: dict[int, Tensor] = {}  # of weights, by the weight: autocast makes each once
        self._autocast, self._on_gpu = autocast, on_gpu

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Iterable[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if function is Tensor.__bool__:
            return False  # whether a mask is all ones: a batch has padding
        if self._autocast and (function in IN_BF16 or function is functional.scaled_dot_product_attention):
            args, kwargs = self._cast(args, kwargs, torch.bfloat16)
        elif self._autocast and function in IN_FP32:
            args, kwargs = self._cast(args, kwargs, torch.float32)
        if self._on_gpu and function is functional.dropout:
            return _dropout(*args, **kwargs)
        if function is functional.scaled_dot_product_attention:
            return (_attention_on_gpu if self._on_gpu else _attention_on_cpu)(*args, **kwargs)
        return function(*args, **kwargs)

    def _cast(
        self, args: Iterable[Any], kwargs: dict[str, Any], dtype: torch.dtype
    ) -> tuple[list[Any], dict[str, Any]]:
        return [self._to_dtype(value, dtype) for value in args], {
            name: self._to_dtype(value, dtype) for name, value in kwargs.items()
        }

    def _to_dtype(self, value: Any, dtype: torch.dtype) -> Any:
        if not isinstance(value, Tensor) or not value.is_floating_point() or value.dtype == dtype:
            return value
        if dtype is torch.bfloat16 and isinstance(value, nn.Parameter):
            return self.copies.setdefault(id(value), value.to(dtype))
        return value.to(dtype)


def _dropout(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """With a mask of one byte a value."""
    return torch.native_dropout(x, p, True)[0] if training and p else x


def _attention_on_gpu(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Without the matrix of attention; a mask or bias is kept in the precision of the query, once a layer."""
    if enable_gqa:
        groups = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    bias = None
    if attn_mask is not None:
        is_boolean = attn_mask.dtype is torch.bool
        bias = torch.empty(attn_mask.shape, dtype=query.dtype) if is_boolean else attn_mask.to(query.dtype)
        bias = bias.expand(*query.shape[:3], key.shape[2])
    efficient = torch.ops.aten._scaled_dot_product_efficient_attention
    output: Tensor = efficient(query, key, value, bias, True, dropout_p, is_causal, scale=scale)[0]
    return output


def _attention_on_cpu(query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """As torch chooses: the kernel that keeps no matrix of attention does not drop out."""
    mask = args[0] if args else kwargs.get("attn_mask")
    dropped = kwargs.get("dropout_p", args[1] if len(args) > 1 else 0.0)
    if dropped or (mask is not None and mask.requires_grad):
        math: Tensor = functional.scaled_dot_product_attention(query, key, value, *args, **kwargs)
        return math
    if kwargs.get("enable_gqa"):
        groups = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    flash: Tensor = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        query, key, value, 0.0, bool(kwargs.get("is_causal", False))
    )[0]
    return flash
