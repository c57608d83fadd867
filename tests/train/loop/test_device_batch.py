"""The sequences at once that are found: halved where memory runs out after all."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Trainer

from targen.runtime.errors import UserError
from tests.support.commands import lines, settings
from tests.support.small_data import model_of, tiny_overrides
from train.run import train


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
