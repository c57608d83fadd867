"""How many processes a launch starts, where they meet, and what they give."""

from pathlib import Path

import pytest

from tests.support.commands import command, lines, settings
from tests.support.small_data import tiny_overrides
from train.launch import process_options
from train.run import train


def test_a_launch_takes_the_processes_of_the_job_or_all_gpus() -> None:
    assert process_options("ddp", {}, 0) == []  # on a CPU, as many as the file says
    assert process_options("ddp", {}, 8) == process_options("fsdp", {}, 8) == ["--num_processes", "8"]
    assert process_options("one_gpu", {}, 8) == process_options("mine.yaml", {}, 8) == []
    assert process_options("ddp", {"TARGEN_PROCESSES": "3", "TARGEN_MACHINES": "1"}, 8) == ["--num_processes", "3"]
    job = {"TARGEN_PROCESSES": "8", "TARGEN_MACHINES": "2", "SLURM_NODEID": "1", "MASTER_ADDR": "a", "MASTER_PORT": "9"}
    assert process_options("ddp", job, 4)[2:] == [
        "--num_machines", "2", "--machine_rank", "1", "--main_process_ip", "a", "--main_process_port", "9",
    ]  # fmt: skip


@pytest.mark.slow
def test_a_model_is_scored_by_several_processes_as_by_one(tmp_path: Path) -> None:
    arguments = tiny_overrides(tmp_path, "seeds=[0]")
    run = settings(*arguments)
    train(run)
    found = []
    for more in ([], ["eval.launch=ddp"]):
        done = command("targen.run", *arguments, "phases=[evaluate]", *more)
        assert done.returncode == 0, done.stderr
        found.append([row["value"] for row in lines(run.paths.scores)])
        run.paths.scores.unlink()
        for path in run.paths.root.glob("predictions/*"):
            path.unlink()
    assert found[0] == found[1]
