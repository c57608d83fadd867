"""The model of a cell: what it starts from, how it is saved, how it is found again."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from targen.config.groups.training import Model
from targen.config.settings import Settings
from targen.runtime.errors import UserError
from train.families.base import family as family_named
from train.grid.cells import Cell
from train.models import adapters
from train.models.checkpoints import writing
from train.models.loading import Loaded, Loading, loading_of
from train.runtime.processes import Processes


def to_train(settings: Settings, cell: Cell, processes: Processes) -> Loaded:
    """The model that a cell's training starts from, with new adapters where it trains these."""
    loaded = _adapted_base(settings, cell)
    base = settings.paths.model(cell.name) / adapters.BASE
    if settings.train.lora is not None and _start(settings).config is not None and not base.is_dir():
        processes.wait()  # all have drawn the weights, which lie nowhere else
        if processes.first:
            with writing(base):
                loaded.model.save_pretrained(base)
                loaded.tokenizer.save_pretrained(base)
    return _with_adapters(settings, loaded)


def without_weights(settings: Settings, cell: Cell) -> Loaded:
    """The model of `to_train` on torch's meta device, which has shapes and no memory. Raises: UserError."""
    import torch

    loading = replace(loading_of(settings.train), weights=False)
    with torch.device("meta"):
        return _with_adapters(settings, _base(settings, cell, _start(settings), loading))


def _with_adapters(settings: Settings, loaded: Loaded) -> Loaded:
    train = settings.train
    if train.lora is None:
        return loaded
    task = family_named(settings.model.family).LORA_TASK
    return replace(loaded, model=adapters.adapted(loaded.model, train.lora, task, train.quantize is not None))


def _start(settings: Settings) -> Model:
    """What training starts from: the model, or the trained cell of train.init_from. Raises: UserError for adapters alone."""
    if settings.train.init_from is None:
        return settings.model
    folder = settings.paths.start(settings.train.init_from)
    if adapters.has_adapter(folder):
        folder = folder / adapters.MERGED
        if not folder.is_dir():
            raise UserError(
                f"train.init_from: {folder.parent} has adapters only, expected whole weights. Run its training again with "
                "train.merge_export=true."
            )
    return replace(settings.model, path=str(folder), config=None, tokenizer=None, sha256=None)


def _base(settings: Settings, cell: Cell, model: Model, loading: Loading | None = None) -> Loaded:
    tasks = [settings.tasks[name] for name in cell.tasks]
    return family_named(model.family).load_pretrained(model, *tasks, loading=loading or loading_of(settings.train))


def save_weights(
    model: Any, folder: Path, gathered: dict[str, Any] | None = None, names_in_memory: bool = False
) -> None:
    """Weights as safetensors, of an adapted model the adapters alone; `gathered` are those of a sharded one.

    Some architectures call their weights otherwise on disk than in memory (the head of GPT-NeoX).
    """
    adapted = hasattr(model, "peft_config")
    how = {"save_embedding_layers": False} if adapted else {"save_original_format": not names_in_memory}
    model.save_pretrained(folder, state_dict=gathered, **how)


def load_cell(settings: Settings, cell: Cell) -> Loaded:
    """A trained cell, its adapters merged; beside the weights where these have 4 bits. Of the arm none the model as it is."""
    if not cell.trained:
        from transformers import set_seed

        set_seed(cell.seed)  # draws the weights of a model that is built from its sizes
        return _base(settings, cell, settings.model)
    folder, family = settings.paths.model(cell.name), family_named(settings.model.family)
    if not adapters.has_adapter(folder):
        return family.load_trained(folder, loading=loading_of(settings.train))
    base = _adapted_base(settings, cell)
    join = adapters.merged if settings.train.quantize is None else adapters.attached
    return replace(base, model=join(base, folder))


def load_to_device(settings: Settings, cell: Cell) -> Loaded:
    """A trained cell on the device at hand; four-bit weights lie where they were loaded."""
    import torch
    from accelerate import PartialState

    loaded = load_cell(settings, cell)
    if settings.train.quantize is None:
        loaded.model.to(PartialState(cpu=not torch.accelerator.is_available()).device)
    return loaded


def _adapted_base(settings: Settings, cell: Cell) -> Loaded:
    own = settings.paths.model(cell.name) / adapters.BASE
    start = _start(settings)
    model = replace(start, path=str(own), config=None, tokenizer=None) if own.is_dir() else start
    return _base(settings, cell, model)


def export_merged(settings: Settings, cell: Cell) -> None:
    """models/<cell>/merged: the whole model, where train.merge_export asks for it and it is not there yet."""
    whole = settings.paths.model(cell.name) / adapters.MERGED
    if not settings.train.merge_export or whole.is_dir():
        return
    loaded = load_cell(replace(settings, train=replace(settings.train, quantize=None)), cell)
    partial = whole.with_name(f"{whole.name}.partial")
    with writing(whole):
        save_weights(loaded.model, partial)
        loaded.tokenizer.save_pretrained(partial)
        partial.rename(whole)
