"""The train phase in several processes: `python -m train.launch ddp +experiment=quickstart`; `ddp evaluate ...`: that phase.

Like `accelerate launch --config_file conf/accelerate/ddp.yaml -m train.run ...`, with three additions: there is a process for
each GPU that is visible, SIGUSR1 and SIGTERM reach the processes, which get time to save, and the launcher exits with their exit
code.
"""

import os
import sys
from collections.abc import Mapping

import yaml

from targen.config.groups.training import launch_file
from targen.runtime.cli import REQUEUE, USER_ERROR, exit_code_of, program
from targen.runtime.errors import UserError

# environment variables of a job: counts over all its nodes
PROCESSES, MACHINES = "TARGEN_PROCESSES", "TARGEN_MACHINES"
SECONDS_TO_SAVE = "1800"  # before torch kills a process that was told to stop


def launch(name: str, overrides: list[str], verb: str = "train") -> int:
    """The exit code of the processes, which run this verb."""
    os.environ.setdefault("PET_SIGNALS_TO_HANDLE", "SIGTERM,SIGUSR1,SIGINT,SIGHUP,SIGQUIT")  # read by torchrun
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", SECONDS_TO_SAVE)
    import torch
    from accelerate.commands.launch import _validate_launch_command, launch_command, launch_command_parser
    from accelerate.utils.launch import prepare_simple_launcher_cmd_env
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    gpus = torch.accelerator.device_count()
    options = ["--config_file", str(launch_file(name)), *process_options(name, os.environ, gpus)]
    arguments = [*options, "--module", "targen", verb, *overrides]
    parsed = launch_command_parser().parse_args(arguments)
    checked, _, _ = _validate_launch_command(launch_command_parser().parse_args(arguments))
    if not (checked.multi_gpu or checked.use_fsdp or checked.use_deepspeed) or checked.cpu:
        command, environment = prepare_simple_launcher_cmd_env(checked)
        os.execvpe(command[0], command, environment)  # a single process replaces this one, and so gets its signals
    try:
        launch_command(parsed)
    except SignalException:
        return REQUEUE
    except ImportError as err:
        raise UserError(f"train.launch: {name} needs a library that is not installed ({err}). Install it.") from None
    except ChildFailedError as err:
        codes = {failure.exitcode for failure in err.failures.values()}
        return max((code for code in codes if code in (USER_ERROR, REQUEUE)), default=1)
    return 0


def process_options(name: str, environment: Mapping[str, str], gpus: int) -> list[str]:
    """The number of processes over all nodes, which node this is, and where they meet: from a job's environment.

    Outside a job, a file of conf/accelerate/ for several processes takes all GPUs of the machine; a file of your own says how many.
    """
    options = []
    if processes := environment.get(PROCESSES):
        options = ["--num_processes", processes]
    elif gpus and takes_all_gpus(name):
        options = ["--num_processes", str(gpus)]
    machines = int(environment.get(MACHINES, "1"))
    if machines > 1:
        options += ["--num_machines", str(machines), "--machine_rank", environment["SLURM_NODEID"]]
        options += ["--main_process_ip", environment["MASTER_ADDR"], "--main_process_port", environment["MASTER_PORT"]]
    return options


def takes_all_gpus(name: str) -> bool:
    """Whether it is a file of conf/accelerate/ for several processes."""
    if name.endswith(".yaml"):
        return False
    values = yaml.safe_load(launch_file(name).read_text(encoding="utf-8"))
    return int(values["num_processes"]) > 1


if __name__ == "__main__":
    name, *overrides = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        print(f"usage: {program('python -m train.launch')} NAME [key=value ...]\n\n{__doc__}", end="")  # noqa: T201
        sys.exit(0)
    verb = overrides.pop(0) if overrides[:1] == ["evaluate"] else "train"
    sys.exit(exit_code_of(lambda: launch(name, overrides, verb)))
