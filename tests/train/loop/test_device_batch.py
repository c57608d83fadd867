"""The sequences at once that are found: halved where memory runs out after all; and what of a cell stays in memory."""

import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Trainer

from targen.runtime.errors import UserError
from tests.support.commands import lines, settings
from tests.support.small_data import model_of, tiny_overrides
from train.inference.batching import in_batches
from train.loop import finetune, predictions
from train.loop.preparation import prepare
from train.run import train
from train.runtime.processes import Processes


def full_above(monkeypatch: pytest.MonkeyPatch, most: int) -> list[int]:
    """A device with memory for so many sequences at once; the numbers of those that were tried."""
    step, tried = Trainer.training_step, list[int]()

    def limited(self: Trainer, model: Any, inputs: dict[str, Any], *args: Any) -> Any:
        tried.append(len(inputs["input_ids"]))
        if tried[-1] > most:
            raise torch.OutOfMemoryError
        return step(self, model, inputs, *args)

    monkeypatch.setattr(Trainer, "training_step", limited)
    return tried


def test_what_does_not_fit_after_all_is_halved_and_trains_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = ("train.device_batch_size=null", "train.batch_size=10", "train.epochs=2")
    whole = settings(*tiny_overrides(tmp_path / "whole", *shape))
    train(whole)
    tried = full_above(monkeypatch, 4)
    halved = settings(*tiny_overrides(tmp_path / "halved", *shape))
    train(halved)
    assert tried[0] == 10 and max(tried[3:]) <= 4
    losses = [
        [entry["loss"] for entry in lines(model_of(run) / "train_log.jsonl") if "loss" in entry]
        for run in (whole, halved)
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


def test_what_is_set_is_refused_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full_above(monkeypatch, 2)
    run = settings(*tiny_overrides(tmp_path, "train.device_batch_size=4"))
    with pytest.raises(UserError, match=r"train\.device_batch_size: got 4, and a batch does not fit .* Set it smaller"):
        train(run)


@pytest.mark.parametrize(
    ("model", "more"),
    [("tiny_encoder", ()), ("tiny_decoder", ("train.lora.r=4", "train.validate_every=2", "train.select=best"))],
)
def test_a_cell_leaves_no_model_in_memory(
    model: str, more: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models: list[weakref.ref[Any]] = []

    def prepare_and_note(*arguments: Any) -> Any:
        assert all(reference() is None for reference in models)  # while the next one is loaded, too
        prepared = prepare(*arguments)
        models.append(weakref.ref(prepared.loaded.model))
        return prepared

    monkeypatch.setattr(finetune, "prepare", prepare_and_note)
    gc.disable()  # what Python would collect in time, or not
    try:
        train(settings(*tiny_overrides(tmp_path, "seeds=[0,1]", "train.epochs=1", *more, model=model)))
        assert [reference() for reference in models] == [None, None]
    finally:
        gc.enable()


@pytest.mark.parametrize(("sharding", "expected"), [("none", None), ("fsdp", 2), ("deepspeed", 2)])
def test_sharded_weights_are_validated_with_as_many_sequences_as_they_are_trained_with(
    sharding: str, expected: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that memory does not run out in one of several processes, which could not tell the others."""
    sizes: list[int | None] = []

    def note_size(predict: Any, items: Any, batch_size: int | None) -> Any:
        sizes.append(batch_size)
        return in_batches(predict, items, batch_size)

    monkeypatch.setattr(predictions, "in_batches", note_size)
    shape = ("train.epochs=1", "train.device_batch_size=2", "train.validate_every=2", "train.hold_out=0.3")
    train(settings(*tiny_overrides(tmp_path, *shape)), Processes(sharding=sharding))
    assert sizes and {*sizes} == {expected}
