"""Runs one array task inside its SLURM job: `python -m slurm.worker <run.dir>/slurm/001 train 7`, as in the sbatch script.

It runs the phase, forwards SLURM's signals, and decides what happens if the phase fails. When warned of its time limit, the job
is requeued. After a failure it is requeued up to cluster.max_failures times; a user error ends it at once. The outcome is
written to `<job>-<index>.json` beside the log, where `slurm.status` reads it. The worker needs only the standard library,
because it may run outside the container of the phase.

With cluster.per_node an array task has several parts, shards or cells, that run side by side, each on its own GPUs, with its own
`<job>-<index>-<slot>.json` and log. A part that fails is started again at once, while the others go on.
"""

import argparse
import json
import os
import platform
import shlex
import signal
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from targen.runtime.cli import AWAITING, REQUEUE, USER_ERROR, exit_code_of
from targen.runtime.jsonl import Json, read_json, write_text
from targen.runtime.scheduler import our_restart, requeue
from targen.runtime.signals import StopRequest
from targen.runtime.subprocesses import last_error, own_devices, phase_environment, python_command, run_subprocess

FAILED = 1  # exit code of an array task that failed for good
Outcome = Literal["done", "stopped", "failed", "failed, requeued"]


@dataclass(frozen=True)
class Part:
    """A shard, a cell, the merge ...: all that an array task runs, or one of several. `path` is its record, beside its log."""

    grid: Json
    job_name: str
    name: str
    path: Path
    slot: int | None = None

    @property
    def earlier(self) -> Json:
        """What an earlier start of the job recorded."""
        return read_json(self.path) if self.path.is_file() else {}

    @property
    def variables(self) -> Mapping[str, str]:
        """The environment of its commands."""
        grid, variables = self.grid, phase_environment()
        evaluates = self.job_name == "evaluate"
        if grid["launch"] if not evaluates else grid.get("launch_evaluate"):
            processes = grid["evaluate_processes"] if evaluates else grid["processes"]
            nodes = 1 if evaluates else grid["nodes"]
            variables |= {"TARGEN_PROCESSES": str(processes), "TARGEN_MACHINES": str(nodes)}
        if self.slot is not None:
            variables |= own_devices(self.slot, grid["gpus"][self.job_name])
        return variables

    def start(self) -> Json:
        """Writes and returns the record of this start."""
        earlier = self.earlier
        record = {
            "element": self.name,
            "job": _job_id(),
            "restart": our_restart(),
            "host": platform.node(),
            "started": round(time.time(), 3),
            "ended": None,
            "outcome": "running",
            "failures": int(earlier.get("failures", 0)),
            "error": earlier.get("error"),
        }
        _write(self.path, record)
        return record

    def run(self, stop: StopRequest) -> tuple[Outcome, Json]:
        """Runs its commands once; writes the record, and returns the outcome and the record."""
        record, code = self.start(), 0
        log = None if self.slot is None else self.path.with_suffix(".log")
        for command in commands(self.grid, self.job_name, self.name):
            if code := run_subprocess(command, self.variables, stop, log):
                break
        outcome, record = _outcome_of(self, record, stop, code)
        _write(self.path, record | {"outcome": outcome})
        return outcome, record


def run(folder: Path, name: str, index: int) -> int:
    """The exit code of the job."""
    grid = read_json(folder / "grid.json")
    job = next(job for job in grid["jobs"] if job["name"] == name)
    element, path = job["elements"][index], folder / f"{name}-{index}.json"
    if isinstance(element, str):
        parts = [Part(grid, job["kind"], element, path)]
    else:
        paths = [path.with_name(f"{name}-{index}-{slot}.json") for slot in range(len(element))]
        parts = [Part(grid, job["kind"], part, paths[slot], slot) for slot, part in enumerate(element)]
    if our_restart() > grid["max_restarts"]:
        reason = f"{our_restart()} restarts (cluster.max_restarts={grid['max_restarts']})"
        for part in parts:
            if part.slot is None or part.earlier.get("outcome") not in ("done", "failed"):
                _give_up(part, part.start(), reason)
        return FAILED
    with StopRequest() as stop:
        return _run_alone(parts[0], stop) if parts[0].slot is None else _run_side_by_side(parts, stop)


def _run_alone(part: Part, stop: StopRequest) -> int:
    outcome, record = part.run(stop)
    if outcome == "stopped":
        return _end_stopped([(part, record)], stop)
    if outcome == "failed, requeued":
        return _requeue([(part, record)], outcome, f"after failure {record['failures']}", FAILED)
    return 0 if outcome == "done" else FAILED


def _run_side_by_side(parts: list[Part], stop: StopRequest) -> int:
    """The exit code of the job, once every part has ended: 1 if one failed for good, that of a stop if one was stopped."""

    def run_until_decided(part: Part) -> tuple[Outcome, Json]:
        if (outcome := part.earlier.get("outcome")) in ("done", "failed"):  # at an earlier start of this job
            return outcome, part.earlier
        while True:
            outcome, record = part.run(stop)
            _log(f"{part.name}: {outcome.partition(',')[0]}; its log: {part.path.with_suffix('.log').name}")
            if outcome != "failed, requeued":
                return outcome, record

    with ThreadPoolExecutor(len(parts)) as pool:
        outcomes = list(pool.map(run_until_decided, parts))
    stopped = [(part, record) for part, (outcome, record) in zip(parts, outcomes, strict=True) if outcome == "stopped"]
    if stopped:
        return _end_stopped(stopped, stop)
    return FAILED if any(outcome == "failed" for outcome, _ in outcomes) else 0


def commands(grid: Json, job_name: str, array_task: str) -> list[list[str]]:
    """The commands of an array task, to be run one after the other."""
    shards = grid["shards"]
    overrides = {
        "contexts": [f"shard.count={shards}"],
        "generate": [f"shard.index={array_task}", f"shard.count={shards}"] if shards > 1 else [],
        "merge": [f"shard.count={shards}"],
        "train": [f"cell={array_task}"],
        "evaluate": [f"cell={array_task}"],
        "report": [],
    }[job_name]
    verbs: dict[str, list[list[str]]] = {
        "contexts": [["contexts"]],
        "generate": [["generate"]],
        "merge": [["merge"]],
        "train": [["launch", grid["launch"]] if grid["launch"] else ["train"]],
        "evaluate": [["launch", launch, "evaluate"] if (launch := grid.get("launch_evaluate")) else ["evaluate"]],
        "report": [["scores"], *([["analyze"]] if grid["analyze"] else []), ["report"]],
    }
    prefix = shlex.split(grid["container"] or "")
    if job_name == "train" and grid["nodes"] > 1:  # one per node; train.launch joins them
        prefix = ["srun", "--kill-on-bad-exit=0", f"--cpus-per-task={grid['cpus']}", *prefix]  # srun inherits no CPUs
    arguments = [*grid["overrides"], *overrides]
    return [[*prefix, *python_command(*verb, *arguments, python=grid["python"])] for verb in verbs[job_name]]


def _outcome_of(part: Part, record: Json, stop: StopRequest, code: int) -> tuple[Outcome, Json]:
    """The outcome of a start whose last command ended with this code, and its record."""
    end_record = record | {"ended": round(time.time(), 3)}
    if code == 0:
        return "done", end_record | {"error": None}
    error, grid = last_error(part.path.with_suffix(".log")), part.grid
    end_record |= {"code": code}
    if code == REQUEUE or (stop.requested and code != USER_ERROR):
        return "stopped", end_record
    if code == AWAITING:
        error = "the answers of a batch are awaited (generator=batch)"
    end_record |= {"failures": record["failures"] + 1, "error": error or f"exit code {code}"}
    if code in (USER_ERROR, AWAITING):  # the same command would fail again
        return "failed", _give_up(part, end_record, "an error that a restart cannot fix")
    if end_record["failures"] >= grid["max_failures"]:
        reason = f"{end_record['failures']} failures (cluster.max_failures={grid['max_failures']})"
        return "failed", _give_up(part, end_record, reason)
    return "failed, requeued", end_record


def _end_stopped(starts: list[tuple[Part, Json]], stop: StopRequest) -> int:
    if signal.SIGTERM in stop.signals or not stop.signals:
        return REQUEUE  # SLURM itself ends the job and requeues it if it was preempted, but not if it was cancelled
    return _requeue(starts, "stopped", "before its time limit", REQUEUE)


def _requeue(starts: list[tuple[Part, Json]], outcome: Outcome, reason: str, code: int) -> int:
    _log(f"requeued {reason}")
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # SLURM ends this process with it
    if (refusal := requeue(_job_id())) is not None:
        for part, record in starts:
            _write(part.path, record | {"outcome": "failed", "error": f"could not be requeued: {refusal}"})
        _log(f"could not be requeued ({refusal})")
        return code
    time.sleep(60)  # SLURM kills this process; if it exited by itself, SLURM might count the job as failed
    return code


def _give_up(part: Part, record: Json, reason: str) -> Json:
    end_record = record | {"outcome": "failed", "ended": round(time.time(), 3)}
    _write(part.path, end_record)
    prefix = "" if part.slot is None else f"{part.name}: "
    _log(f"{prefix}gave up after {reason}; the last error: {record['error']}")
    return end_record


def _job_id() -> str:
    """This job, or this task of an array, as scontrol names it."""
    array, index = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{index}" if array is not None else os.environ.get("SLURM_JOB_ID", "")


def _write(path: Path, record: Json) -> None:
    if path.is_file() and read_json(path)["restart"] > record["restart"]:
        return  # SLURM gave up this node although it was alive, and the job now runs elsewhere
    write_text(path, json.dumps(record, indent=2) + "\n")


def _log(text: str) -> None:
    print(f"slurm: {text}", file=sys.stderr, flush=True)  # noqa: T201


def main(arguments: list[str]) -> int:
    """Runs the array task that the arguments name; the exit code of the job."""
    parser = argparse.ArgumentParser("python -m slurm.worker", description="Runs one array task of a submitted grid.")
    parser.add_argument("folder", type=Path, help="the submission: <run.dir>/slurm/001")
    parser.add_argument("job", help="the name of the job, e.g. train")
    parser.add_argument("index", type=int, help="the index of the array task")
    options = parser.parse_args(arguments)
    return exit_code_of(lambda: run(options.folder, options.job, options.index))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
