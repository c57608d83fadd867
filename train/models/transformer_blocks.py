"""The blocks that a model repeats, which FSDP divides and gathers one by one."""

from collections.abc import Iterator
from typing import Any

from torch import nn


def block_names(model: nn.Module) -> list[str]:
    """The classes of the blocks that a model repeats: the entries of its outermost lists of modules."""
    return list({type(block).__name__: None for block in blocks(model)})


def blocks(model: nn.Module) -> Iterator[nn.Module]:
    """The entries of the outermost lists of modules."""
    lists = [name for name, module in model.named_modules() if isinstance(module, nn.ModuleList)]
    for name in lists:
        if not any(name.startswith(f"{other}.") for other in lists):
            entries: Any = model.get_submodule(name)
            yield from entries
