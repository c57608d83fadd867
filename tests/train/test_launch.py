"""How many processes a launch starts, and where they meet."""

from train.launch import process_options


def test_a_launch_takes_the_processes_of_the_job_or_all_gpus() -> None:
    assert process_options("ddp", {}, 0) == []  # on a CPU, as many as the file says
    assert process_options("ddp", {}, 8) == process_options("fsdp", {}, 8) == ["--num_processes", "8"]
    assert process_options("one_gpu", {}, 8) == process_options("mine.yaml", {}, 8) == []
    assert process_options("ddp", {"TARGEN_PROCESSES": "3", "TARGEN_MACHINES": "1"}, 8) == ["--num_processes", "3"]
    job = {"TARGEN_PROCESSES": "8", "TARGEN_MACHINES": "2", "SLURM_NODEID": "1", "MASTER_ADDR": "a", "MASTER_PORT": "9"}
    assert process_options("ddp", job, 4)[2:] == [
        "--num_machines", "2", "--machine_rank", "1", "--main_process_ip", "a", "--main_process_port", "9",
    ]  # fmt: skip
