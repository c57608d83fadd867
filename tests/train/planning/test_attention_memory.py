"""The memory of scaled dot product attention on a GPU: what is planned against tensors that are counted.

Which kernel torch chooses on a GPU is taken from its rules (aten/src/ATen/native/transformers/attention.cpp and cuda/sdp_utils.cpp),
since torch asks the driver for it. What the kernel then makes is registered for all devices, and counted as it is: on a CPU in
fp32, and in bf16 as well where torch is built with CUDA, whose autocast it needs. No GPU is needed for either.
"""

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from tests.train.planning.test_memory import ARCHITECTURES, BATCH, counted, needs_cuda_build, planned

SUPPORTED = [name for name in ARCHITECTURES if name != "deberta-v2"]  # has no such attention
# a CPU's dropout keeps other masks than a GPU's
WITHOUT_DROPOUT = dict.fromkeys(
    (
        *("dropout_rate", "hidden_dropout_prob", "attention_probs_dropout_prob", "resid_pdrop", "embd_pdrop"),
        *("attn_pdrop", "attention_dropout", "hidden_dropout"),
    ),
    0.0,
)


class KernelsOfGpus(TorchFunctionMode):
    """Flash attention in bf16 without a mask, the memory-efficient kernel else, as torch chooses on an Ampere or later GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.masked = 0

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Iterable[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        call = self._attention if function is functional.scaled_dot_product_attention else function
        return call(*args, **kwargs or {})

    def _attention(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        output: Tensor
        if torch.is_autocast_enabled(query.device.type):
            query, key, value = (tensor.to(torch.bfloat16) for tensor in (query, key, value))
        if attn_mask is None and query.dtype is torch.bfloat16:
            flash = torch.ops.aten._scaled_dot_product_flash_attention
            output = flash(query, key, value, dropout_p, is_causal, False, scale=scale)[0]
            return output
        assert not enable_gqa, "only flash attention shares heads"
        if attn_mask is not None:
            self.masked += 1
            if attn_mask.dtype is torch.bool:
                attn_mask = torch.zeros_like(attn_mask, dtype=query.dtype).masked_fill_(~attn_mask, float("-inf"))
            attn_mask = attn_mask.to(query.dtype).expand(*query.shape[:3], key.shape[2])
        efficient = torch.ops.aten._scaled_dot_product_efficient_attention
        output = efficient(query, key, value, attn_mask, True, dropout_p, is_causal, scale=scale)[0]
        return output


@pytest.mark.parametrize("name", SUPPORTED)
def test_activations_of_attention_are_those_that_are_counted(name: str) -> None:
    auto, sizes = ARCHITECTURES[name]
    sizes = sizes | WITHOUT_DROPOUT
    with KernelsOfGpus() as kernels:
        expected = counted(auto, sizes, BATCH, "cpu", False, "sdpa")
    assert kernels.masked  # of a batch with padding
    assert planned(auto, sizes, BATCH, True, attention="sdpa") == pytest.approx(expected, rel=0.01)


@needs_cuda_build
@pytest.mark.parametrize("name", SUPPORTED)
def test_activations_of_attention_in_bf16_are_those_that_are_counted(name: str) -> None:
    auto, sizes = ARCHITECTURES[name]
    with KernelsOfGpus():
        expected = counted(auto, sizes, BATCH, "cuda", True, "sdpa")
    bf16 = planned(auto, sizes, BATCH, True, "train.precision=bf16", attention="sdpa")
    assert bf16 == pytest.approx(expected, rel=0.01)
