"""Trainings in two processes with sharded weights on a CPU, one after the other.

accelerate shards (FSDP) on accelerators only: on a CPU it would copy the model to every process (DDP). Here its state says
FSDP all the same, and the rest is as on GPUs: the units, the shards, what is gathered, the checkpoints.
"""

import json
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from targen.runtime.paths import CONF
from tests.support.commands import LONGEST, PROJECT, WARM_START, settings
from tests.support.small_data import model_of


@dataclass(frozen=True)
class Sharded:
    """The overrides of a training; with `stop` it is stopped after so many steps and started again."""

    overrides: list[str]
    stop: int | None = None


def train_sharded(
    folder: Path, launch: str, trainings: dict[str, Sharded], python: str | None = None
) -> dict[str, Any]:
    """Launches the trainings with a file of conf/accelerate/ and `python`, by default a warm one.

    Returns for each: `files` of its checkpoint; `read`, for each process the sum of all weights after loading; `divided`, as
    _divided_gradients. The first error ends all.
    """
    (folder / "trainings.json").write_text(json.dumps({name: asdict(training) for name, training in trainings.items()}))
    config = ["--config_file", str(CONF / "accelerate" / f"{launch}.yaml"), "--num_processes", "2"]
    command = [
        python or WARM_START.python(),
        "-m",
        "accelerate.commands.launch",
        *config,
        "--module",
        __name__,
        str(folder),
    ]
    variables = os.environ | {"PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=LONGEST)
    assert done.returncode == 0, done.stderr.partition("torch.distributed.elastic")[0]
    results: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return results


def _keep_fsdp() -> None:
    from accelerate import PartialState
    from accelerate.state import AcceleratorState
    from accelerate.utils import DistributedType

    plain = AcceleratorState.__init__

    def init(self: AcceleratorState, *arguments: Any, **options: Any) -> None:
        shared = PartialState._shared_state
        if shared.get("distributed_type") == DistributedType.MULTI_CPU:
            shared["distributed_type"] = DistributedType.MULTI_GPU
        plain(self, *arguments, **options)

    AcceleratorState.__init__ = init


def _divided_gradients() -> list[bool]:
    """Records, after each micro-batch that is not the last of its step, whether the shards of all weights have their gradients."""
    from train.loop.checkpoint_callback import CheckpointCallback

    divided: list[bool] = []

    def on_substep_end(self: CheckpointCallback, *args: Any, model: Any, **kwargs: Any) -> None:
        divided.append(all(weight.grad is not None for weight in model.parameters()))

    CheckpointCallback.on_substep_end = on_substep_end
    return divided


def _main(folder: Path) -> None:
    from targen.runtime.signals import Stopped
    from tests.support.stopping import StopAfter
    from train.grid.cells import cells
    from train.loop.saving import load_initial_model
    from train.run import train
    from train.runtime.processes import join_processes

    processes, results, divided = join_processes(), {}, _divided_gradients()
    for name, training in json.loads((folder / "trainings.json").read_text()).items():
        run = settings(*training["overrides"])
        initial = load_initial_model(run, cells(run)[0], processes).model
        weight_sum = sum(float(weight.detach().double().sum()) for weight in initial.parameters())
        files: list[str] = []
        if training["stop"] is not None:
            with suppress(Stopped):
                train(run, processes, StopAfter(training["stop"]))
            files = [str(path.relative_to(model_of(run))) for path in model_of(run).rglob("*") if path.is_file()]
        train(run, processes)
        results[name] = {"files": sorted(files), "read": processes.gather([weight_sum]), "divided": [*divided]}
        divided.clear()
    if processes.first:
        (folder / "results.json").write_text(json.dumps(results))
    processes.leave()


if __name__ == "__main__":
    _keep_fsdp()
    _main(Path(sys.argv[1]))
