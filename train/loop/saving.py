"""The model of a cell: what its training starts from, how it is saved, how it is loaded again."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from targen.config.groups.training import Model
from targen.config.settings import Settings
from targen.runtime.errors import UserError
from train.families.registry import family_of
from train.grid.cells import Cell
from train.loop.sharding import dividing_while_loading, loads_once, model_without_weights, send_buffers
from train.models import adapters
from train.models.checkpoints import reporting_write_errors
from train.models.loading import Loaded, Loading, loading_of
from train.models.own_head import has_own_head
from train.runtime.devices import own_device_choices, use_tf32
from train.runtime.processes import Processes


def load_initial_model(settings: Settings, cell: Cell, processes: Processes) -> Loaded:
    """The model that a cell's training starts from, with new adapters if it trains adapters."""
    if processes.sharding == "fsdp" and loads_once(settings, processes):
        whole = _adapted_base(settings, cell) if processes.first else None
        own_head = processes.broadcast(whole is not None and has_own_head(whole.model))  # else weights would not match
        loaded = (
            model_without_weights(load_shapes(settings, cell, own_head))
            if whole is None
            else _with_adapters(settings, whole)
        )
        send_buffers(loaded.model, processes)
        return loaded
    with dividing_while_loading(settings, processes):
        loaded = _adapted_base(settings, cell)
    base = settings.paths.model(cell.name) / adapters.BASE
    if settings.train.lora is not None and _initial_model(settings).config is not None and not base.is_dir():
        processes.wait()  # all processes have drawn the weights, which are saved nowhere else
        if processes.first:
            with reporting_write_errors(base):
                loaded.model.save_pretrained(base)
                loaded.tokenizer.save_pretrained(base)
    return _with_adapters(settings, loaded)


def load_shapes(settings: Settings, cell: Cell, own_head: bool | None = None) -> Loaded:
    """The model of `load_initial_model` on torch's meta device: shapes without memory; `own_head` as in Loading.

    Raises: UserError if its configuration cannot be read.
    """
    import torch

    loading = replace(loading_of(settings.train), weights=False, own_head=own_head)
    with torch.device("meta"):
        return _with_adapters(settings, _pretrained(settings, cell, _initial_model(settings), loading))


def _with_adapters(settings: Settings, loaded: Loaded) -> Loaded:
    train = settings.train
    if train.lora is None:
        return loaded
    task = family_of(settings).lora_task
    return replace(loaded, model=adapters.add_adapters(loaded.model, train.lora, task, train.quantize is not None))


def _initial_model(settings: Settings) -> Model:
    """What training starts from: the model, or the trained cell of train.init_from.

    Raises: UserError if that cell has adapters only.
    """
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


def _pretrained(settings: Settings, cell: Cell, model: Model, loading: Loading | None = None) -> Loaded:
    tasks = [settings.tasks[name] for name in cell.tasks]
    return family_of(settings).load_pretrained(model, *tasks, loading=loading or loading_of(settings.train))


def save_weights(
    model: Any, folder: Path, gathered: dict[str, Any] | None = None, names_in_memory: bool = False
) -> None:
    """Writes weights as safetensors, of an adapted model only the adapters; `gathered` are the weights of a sharded model.

    Some architectures have different names for weights on disk and in memory (the head of GPT-NeoX).
    """
    adapted = hasattr(model, "peft_config")
    options = {"save_embedding_layers": False} if adapted else {"save_original_format": not names_in_memory}
    model.save_pretrained(folder, state_dict=gathered, **options)


def load_cell(settings: Settings, cell: Cell) -> Loaded:
    """A trained cell; its adapters are merged, or attached if the weights have 4 bits. For the arm none the model as it is."""
    if not cell.trained:
        from transformers import set_seed

        set_seed(cell.seed)  # for the weights of a model that is built from its sizes
        return _pretrained(settings, cell, settings.model)
    folder, family = settings.paths.model(cell.name), family_of(settings)
    if not adapters.has_adapter(folder):
        return family.load_trained(folder, loading=loading_of(settings.train))
    base = _adapted_base(settings, cell)
    apply = adapters.merge_adapters if settings.train.quantize is None else adapters.attach_adapters
    return replace(base, model=apply(base, folder))


def load_cell_to_device(settings: Settings, cell: Cell) -> Loaded:
    """The cell of `load_cell` on the available device; 4-bit weights stay where they were loaded.

    Products of fp32 values are made in TF32 on GPUs that have it, as in training.
    """
    import torch
    from accelerate import PartialState

    use_tf32(own_device_choices())
    loaded = load_cell(settings, cell)
    if settings.train.quantize is None:
        loaded.model.to(PartialState(cpu=not torch.accelerator.is_available()).device)
    return loaded


def _adapted_base(settings: Settings, cell: Cell) -> Loaded:
    """The frozen model beneath the cell's adapters."""
    base = settings.paths.model(cell.name) / adapters.BASE
    initial = _initial_model(settings)
    model = replace(initial, path=str(base), config=None, tokenizer=None) if base.is_dir() else initial
    return _pretrained(settings, cell, model)


def export_merged(settings: Settings, cell: Cell) -> None:
    """Writes models/<cell>/merged, the whole model, if it does not exist yet."""
    merged = settings.paths.model(cell.name) / adapters.MERGED
    if merged.is_dir():
        return
    loaded = load_cell(replace(settings, train=replace(settings.train, quantize=None)), cell)
    partial = merged.with_name(f"{merged.name}.partial")
    with reporting_write_errors(merged):
        save_weights(loaded.model, partial)
        loaded.tokenizer.save_pretrained(partial)
        partial.rename(merged)
