"""The train phase in several processes: `python -m train.launch ddp +experiment=quickstart`.

Like `accelerate launch --config_file conf/accelerate/ddp.yaml -m train.run ...`, with two additions: SIGUSR1 and SIGTERM
reach the processes, which get time to save, and the launcher exits with their exit code.
"""

import os
import sys

from targen.config.groups.training import launch_file
from targen.runtime.cli import REQUEUE, USER_ERROR, program
from targen.runtime.errors import UserError

# environment variables of a job: counts over all its nodes
PROCESSES, MACHINES = "TARGEN_PROCESSES", "TARGEN_MACHINES"
SECONDS_TO_SAVE = "1800"  # before torch kills a process that was told to stop


def launch(name: str, overrides: list[str]) -> int:
    """The exit code of the processes."""
    os.environ.setdefault("PET_SIGNALS_TO_HANDLE", "SIGTERM,SIGUSR1,SIGINT,SIGHUP,SIGQUIT")  # read by torchrun
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", SECONDS_TO_SAVE)
    from accelerate.commands.launch import _validate_launch_command, launch_command, launch_command_parser
    from accelerate.utils.launch import prepare_simple_launcher_cmd_env
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    arguments = ["--config_file", str(launch_file(name)), *_rendezvous(), "--module", "targen", "train", *overrides]
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


def _rendezvous() -> list[str]:
    """Options from a job's environment: the number of processes over all nodes, which node this is, and where they meet."""
    options = []
    if processes := os.environ.get(PROCESSES):
        options = ["--num_processes", processes]
    machines = int(os.environ.get(MACHINES, "1"))
    if machines > 1:
        options += ["--num_machines", str(machines), "--machine_rank", os.environ["SLURM_NODEID"]]
        options += ["--main_process_ip", os.environ["MASTER_ADDR"], "--main_process_port", os.environ["MASTER_PORT"]]
    return options


if __name__ == "__main__":
    name, *overrides = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        print(f"usage: {program('python -m train.launch')} NAME [key=value ...]\n\n{__doc__}", end="")  # noqa: T201
        sys.exit(0)
    try:
        sys.exit(launch(name, overrides))
    except UserError as err:
        print(f"error: {err}", file=sys.stderr)  # noqa: T201
        sys.exit(USER_ERROR)
