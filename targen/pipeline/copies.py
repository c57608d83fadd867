"""Generation with several copies of the model on one machine: `generator.engine.data_parallel_size=8`.

Each copy is a process of its own that makes a shard of the rows on its own GPUs, as if it had been started by hand with
`shard.index= shard.count=`. The merge that follows gives the same data set as one process would.
"""

import logging
from concurrent.futures import ThreadPoolExecutor

from targen.config.groups.generation import COPIES
from targen.config.settings import Settings
from targen.runtime.cli import REQUEUE, USER_ERROR
from targen.runtime.errors import UserError
from targen.runtime.signals import Stopped, StopRequest
from targen.runtime.subprocesses import last_error, own_devices, phase_environment, python_command, run_subprocess
from targen.synthesis.slots.assignment import Shard
from targen.synthesis.slots.shards import shard_name

log = logging.getLogger(__name__)


def generate_shards(settings: Settings, overrides: list[str], stop: StopRequest) -> None:
    """Makes all shards side by side; the output of each goes to calls/<shard>.log. A failure of one does not stop the others.

    Raises: Stopped after a signal; UserError with the last error of each shard that failed.
    """
    count, gpus = settings.generator.copies, settings.generator.gpus
    shards = [Shard(index, count) for index in range(count)]
    logs = [settings.paths.calls / f"{shard_name(shard)}.log" for shard in shards]
    settings.paths.calls.mkdir(parents=True, exist_ok=True)
    log.info("generate: %d engines, a shard each; their logs: %s", count, logs[0].with_name("shard-*.log"))

    def run(index: int) -> int:
        shard_overrides = [f"shard.index={index}", f"shard.count={count}", f"++generator.engine.{COPIES}=1"]
        command = python_command("generate", *overrides, *shard_overrides)
        return run_subprocess(command, phase_environment() | own_devices(index, gpus), stop, logs[index])

    with ThreadPoolExecutor(count) as pool:
        codes = list(pool.map(run, range(count)))
    if stop.requested and USER_ERROR not in codes:
        raise Stopped(stop.signals[0].name)
    if REQUEUE in codes and not {*codes} - {0, REQUEUE}:
        raise Stopped("a shard")
    if failed_shards := [index for index, code in enumerate(codes) if code not in (0, REQUEUE)]:
        raise UserError(
            "\n".join(f"shard.index={index}: {last_error(logs[index])} ({logs[index]})" for index in failed_shards)
        )
