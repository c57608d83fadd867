"""The arithmetic of predictions: that in which the model was trained."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from train.models.loading import Loaded


@contextmanager
def inference_context(loaded: Loaded) -> Iterator[None]:
    """Meanwhile nothing is kept for gradients, and matrix products are as in training: of bf16 values with
    train.precision=bf16 or bf16_weights.

    Not in inference_mode: what ZeRO-3 gathers in it, training could not use afterwards.
    """
    device = next(loaded.model.parameters()).device
    in_bf16 = loaded.precision != "fp32"
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=in_bf16):
        yield
