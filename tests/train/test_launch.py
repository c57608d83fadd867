"""How many processes a launch starts, where they meet, and what they give."""

from pathlib import Path

import pytest

from targen.runtime.paths import CONF
from tests.support.commands import command, lines, settings
from tests.support.small_data import tiny_overrides
from train.launch import process_options
from train.planning.fitting import launched_processes, this_device
from train.run import train
from train.runtime.processes import join_processes


def test_a_launch_takes_the_processes_of_the_job_or_all_gpus() -> None:
    assert process_options("ddp", {}, 0) == []  # on a CPU, as many as the file says
    assert process_options("ddp", {}, 8) == process_options("fsdp", {}, 8) == ["--num_processes", "8"]
    for name in ("ddp", "fsdp", "deepspeed_zero3"):
        assert process_options(name, {}, 1) == ["--num_processes", "1"]  # a second one would have no device
    assert process_options("one_gpu", {}, 8) == process_options("mine.yaml", {}, 8) == []
    assert process_options("ddp", {"TARGEN_PROCESSES": "3", "TARGEN_MACHINES": "1"}, 8) == ["--num_processes", "3"]
    job = {"TARGEN_PROCESSES": "8", "TARGEN_MACHINES": "2", "SLURM_NODEID": "1", "MASTER_ADDR": "a", "MASTER_PORT": "9"}
    assert process_options("ddp", job, 4)[2:] == [
        "--num_machines", "2", "--machine_rank", "1", "--main_process_ip", "a", "--main_process_port", "9",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "sharding"),
    [("ddp", "none"), ("fsdp", "fsdp"), ("deepspeed_zero2", "zero2"), ("deepspeed_zero3", "zero3")],
)
def test_a_model_is_planned_as_it_is_sharded_whoever_starts_the_processes(
    name: str, sharding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert launched_processes(settings(f"train.launch={name}"))[1] == sharding
    for variable, value in accelerate_environment(name).items():
        if variable.startswith(("ACCELERATE_", "FSDP_")):
            monkeypatch.setenv(variable, value)
    assert this_device(join_processes()).sharding == sharding


def accelerate_environment(name: str) -> dict[str, str]:
    """The variables that a bare `accelerate launch` with this file of conf/accelerate/ gives its processes."""
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env

    typed = ["--config_file", str(CONF / "accelerate" / f"{name}.yaml"), "--module", "targen", "train"]
    arguments, *_ = _validate_launch_command(launch_command_parser().parse_args(typed))
    if not arguments.use_deepspeed:
        return dict(prepare_multi_gpu_env(arguments))
    arguments.deepspeed_fields_from_accelerate_config = ""
    return dict(prepare_deepspeed_cmd_env(arguments)[1])


@pytest.mark.slow
def test_a_model_is_scored_by_several_processes_as_by_one(tmp_path: Path) -> None:
    arguments = tiny_overrides(tmp_path, "seeds=[0]")
    run = settings(*arguments)
    train(run)
    scores = []
    for more in ([], ["eval.launch=ddp"]):
        done = command("targen.run", *arguments, "phases=[evaluate]", *more)
        assert done.returncode == 0, done.stderr
        scores.append([row["value"] for row in lines(run.paths.scores)])
        run.paths.scores.unlink()
        for path in run.paths.root.glob("predictions/*"):
            path.unlink()
    assert scores[0] == scores[1]
