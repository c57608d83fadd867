"""Runs one array task inside its SLURM job: `python -m slurm.worker <run.dir>/slurm/001 train 7`, as in the sbatch script.

It runs the phase, forwards SLURM's signals, and decides what happens if the phase fails. When warned of its time limit, the job
is requeued. After a failure it is requeued up to cluster.max_failures times; a user error ends it at once. The outcome is
written to `<job>-<index>.json` beside the log, where `slurm.status` reads it. The worker needs only the standard library,
because it may run outside the container of the phase.
"""

import argparse
import json
import os
import platform
import shlex
import signal
import sys
import time
from pathlib import Path

from targen.runtime.cli import AWAITING, REQUEUE, USER_ERROR
from targen.runtime.errors import UserError
from targen.runtime.jsonl import Json, read_json, write_text
from targen.runtime.scheduler import requeue
from targen.runtime.signals import StopRequest
from targen.runtime.subprocesses import phase_environment, python_command, run_subprocess

LAST_BYTES = 20_000  # of a log
FAILED = 1  # exit code of an array task that failed for good


def run(folder: Path, name: str, index: int) -> int:
    """The exit code of the job."""
    grid = read_json(folder / "grid.json")
    job = next(job for job in grid["jobs"] if job["name"] == name)
    array_task = job["elements"][index]
    record_path = folder / f"{name}-{index}.json"
    earlier = read_json(record_path) if record_path.is_file() else {}
    restart = int(os.environ.get("SLURM_RESTART_COUNT") or 0)
    record = {
        "element": array_task,
        "job": _job_id(),
        "restart": restart,
        "host": platform.node(),
        "started": round(time.time(), 3),
        "ended": None,
        "outcome": "running",
        "failures": int(earlier.get("failures", 0)),
        "error": earlier.get("error"),
    }
    if restart > grid["max_restarts"]:
        return _give_up(record_path, record, f"{restart} restarts (cluster.max_restarts={grid['max_restarts']})")
    _write(record_path, record)
    variables = phase_environment()
    if grid["launch"]:
        variables |= {"TARGEN_PROCESSES": str(grid["processes"]), "TARGEN_MACHINES": str(grid["nodes"])}
    with StopRequest() as stop:
        for command in commands(grid, job["kind"], array_task):
            code = run_subprocess(command, variables, stop)
            if code:
                return _after_failure(record_path, record, grid, stop, code)
    _write(record_path, record | {"outcome": "done", "ended": round(time.time(), 3), "error": None})
    return 0


def commands(grid: Json, job_name: str, array_task: str) -> list[list[str]]:
    """The commands of an array task, to be run one after the other."""
    shards = grid["shards"]
    overrides = {
        "generate": [f"shard.index={array_task}", f"shard.count={shards}"] if shards > 1 else [],
        "merge": [f"shard.count={shards}"],
        "train": [f"cell={array_task}"],
        "evaluate": [f"cell={array_task}"],
        "report": [],
    }[job_name]
    verbs: dict[str, list[list[str]]] = {
        "generate": [["generate"]],
        "merge": [["merge"]],
        "train": [["launch", grid["launch"]] if grid["launch"] else ["train"]],
        "evaluate": [["evaluate"]],
        "report": [["scores"], *([["analyze"]] if grid["analyze"] else []), ["report"]],
    }
    prefix = shlex.split(grid["container"] or "")
    if job_name == "train" and grid["nodes"] > 1:  # one per node; train.launch joins them
        prefix = ["srun", "--kill-on-bad-exit=0", *prefix]
    arguments = [*grid["overrides"], *overrides]
    return [[*prefix, *python_command(*verb, *arguments, python=grid["python"])] for verb in verbs[job_name]]


def _after_failure(path: Path, record: Json, grid: Json, stop: StopRequest, code: int) -> int:
    """The exit code of the job after a command ended with a code other than 0."""
    error = last_error(path.with_suffix(".log"))
    ended = record | {"ended": round(time.time(), 3), "code": code}
    if code == REQUEUE or (stop.requested and code != USER_ERROR):
        _write(path, ended | {"outcome": "stopped"})
        if signal.SIGTERM in stop.signals or not stop.signals:
            return REQUEUE  # SLURM itself ends the job and requeues it if it was preempted, but not if it was cancelled
        return _requeue(path, ended, "stopped", "before its time limit", REQUEUE)
    if code == AWAITING:
        error = "the answers of a batch are awaited (generator=batch)"
    ended |= {"failures": record["failures"] + 1, "error": error or f"exit code {code}"}
    if code in (USER_ERROR, AWAITING):  # the same command would fail again
        return _give_up(path, ended, "an error that a restart cannot fix")
    if ended["failures"] >= grid["max_failures"]:
        return _give_up(path, ended, f"{ended['failures']} failures (cluster.max_failures={grid['max_failures']})")
    return _requeue(path, ended, "failed, requeued", f"after failure {ended['failures']}", FAILED)


def _requeue(path: Path, record: Json, outcome: str, reason: str, code: int) -> int:
    _write(path, record | {"outcome": outcome})
    _tell(f"requeued {reason}")
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # SLURM ends this process with it
    if (refusal := requeue(_job_id())) is not None:
        _write(path, record | {"outcome": "failed", "error": f"could not be requeued: {refusal}"})
        _tell(f"could not be requeued ({refusal})")
        return code
    time.sleep(60)  # SLURM kills this process; if it exited by itself, SLURM might count the job as failed
    return code


def _give_up(path: Path, record: Json, reason: str) -> int:
    _write(path, record | {"outcome": "failed", "ended": round(time.time(), 3)})
    _tell(f"gave up after {reason}; the last error: {record['error']}")
    return FAILED


def last_error(log: Path) -> str | None:
    """The last line of a log that reports an error, else its last line; None if there is no log."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - LAST_BYTES))
            stripped = [line.strip() for line in file.read().decode("utf-8", errors="replace").splitlines()]
    except OSError:
        return None
    lines = [line for line in stripped if line and not line.startswith("slurm: ")]
    errors = [line for line in lines if line.startswith(("error:", "slurmstepd")) or "Error: " in line[:60]]
    return next(reversed(errors or lines), None)


def _job_id() -> str:
    """This job, or this task of an array, as scontrol names it."""
    array, index = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{index}" if array is not None else os.environ.get("SLURM_JOB_ID", "")


def _write(path: Path, record: Json) -> None:
    if path.is_file() and read_json(path)["restart"] > record["restart"]:
        return  # SLURM gave up this node although it was alive, and the job now runs elsewhere
    write_text(path, json.dumps(record, indent=2) + "\n")


def _tell(text: str) -> None:
    print(f"slurm: {text}", file=sys.stderr, flush=True)  # noqa: T201


def main(arguments: list[str]) -> int:
    """Runs the array task that the arguments name; the exit code of the job."""
    parser = argparse.ArgumentParser("python -m slurm.worker", description="Runs one array task of a submitted grid.")
    parser.add_argument("folder", type=Path, help="the submission: <run.dir>/slurm/001")
    parser.add_argument("job", help="the name of the job, e.g. train")
    parser.add_argument("index", type=int, help="the index of the array task")
    options = parser.parse_args(arguments)
    try:
        return run(options.folder, options.job, options.index)
    except UserError as err:
        print(f"error: {err}", file=sys.stderr)  # noqa: T201
        return USER_ERROR


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
