"""What is chosen by the kind of device, and that training takes it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from targen.runtime.progress import Progress
from targen.runtime.signals import StopRequest
from tests.support.commands import settings
from tests.support.small_data import tiny_overrides
from train.data.batches import Batching
from train.grid.checkers import TrainingJob
from train.grid.pending_jobs import TrainContext, pending_jobs
from train.loop import trainer
from train.loop.preparation import prepare
from train.loop.trainer import CellTrainer, training_arguments
from train.runtime.devices import DeviceChoices, device_choices, use_tf32
from train.runtime.processes import Processes


@pytest.fixture
def fp32() -> Iterator[None]:
    torch.set_float32_matmul_precision("highest")  # torch's own default
    yield
    torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize(
    ("kind", "generation", "expected"),
    [
        ("cpu", 0, DeviceChoices("adamw_torch_fused", tf32=False, pinned=False)),
        ("cuda", 7, DeviceChoices("adamw_torch_fused", tf32=False, pinned=True)),  # V100, T4
        ("cuda", 8, DeviceChoices("adamw_torch_fused", tf32=True, pinned=True)),  # A100
        ("cuda", 9, DeviceChoices("adamw_torch_fused", tf32=True, pinned=True)),  # H100, H200
        ("hpu", 0, DeviceChoices("adamw_torch", tf32=False, pinned=False)),
    ],
)
def test_choices_by_device(kind: str, generation: int, expected: DeviceChoices, tmp_path: Path) -> None:
    choices = device_choices(kind, generation)
    assert choices == expected and choices.workers == 0
    job = job_of(tmp_path)
    arguments = training_arguments(job.settings, job.cell, Batching(4, 4, 1, False), 10, "none", choices)
    assert arguments.optim.value == expected.optimizer


def job_of(folder: Path) -> TrainingJob:
    (job,) = pending_jobs(settings(*tiny_overrides(folder)), Processes())
    return job


@pytest.mark.parametrize(
    "chosen", [device_choices("cpu"), DeviceChoices("adamw_torch", tf32=True, pinned=False, workers=1)]
)
def test_a_training_takes_what_is_chosen(
    chosen: DeviceChoices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fp32: None
) -> None:
    monkeypatch.setattr(trainer, "own_device_choices", lambda: chosen)
    job = job_of(tmp_path)
    with StopRequest() as stop, Progress("train", "steps", 1) as progress:
        cell_trainer = CellTrainer(TrainContext(Processes(), stop, progress), job, prepare(job))
        loader = cell_trainer.get_train_dataloader()
        assert (loader.pin_memory, loader.num_workers) == (chosen.pinned, chosen.workers)
        assert cell_trainer.create_optimizer().defaults["fused"] == (chosen.optimizer.endswith("fused") or None)
    assert torch.get_float32_matmul_precision() == ("high" if chosen.tf32 else "highest")


def test_products_are_made_in_tf32_where_a_gpu_has_it(fp32: None) -> None:
    use_tf32(device_choices("cuda", 7))
    assert not torch.backends.cuda.matmul.allow_tf32
    use_tf32(device_choices("cuda", 8))
    assert torch.backends.cuda.matmul.allow_tf32
