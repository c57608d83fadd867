"""One element of a grid inside its SLURM job: `python -m slurm.worker <run.dir>/slurm/001 train 7`, as the sbatch text has it.

Runs the phase for the element, passes SLURM's signals on, and decides what comes of a start that did not end well: warned of
the time limit, the job goes back into the queue; failed for its own fault, it does so a few times; a mistake of the user's
ends it at once. What became of it stands in `<job>-<index>.json` beside the log, for `slurm.status`. Needs only the
standard library, for it may run outside the container that the phase runs in.
"""

import json
import os
import platform
import shlex
import signal
import sys
import time
from pathlib import Path
from typing import Any

from targen.runtime.cli import AWAITING, REQUEUE, USER_ERROR
from targen.runtime.errors import UserError
from targen.runtime.jsonl import Json, read_json, write_text
from targen.runtime.scheduler import requeue
from targen.runtime.subprocesses import Children, environment

LAST_BYTES = 20_000  # of a log
FAULT = 1  # exit code of an element that failed for good


def run(folder: Path, name: str, index: int) -> int:
    """The exit code of the job."""
    grid = read_json(folder / "grid.json")
    job = next(one for one in grid["jobs"] if one["name"] == name)
    record_path = folder / f"{name}-{index}.json"
    before = read_json(record_path) if record_path.is_file() else {}
    restart = int(os.environ.get("SLURM_RESTART_COUNT") or 0)
    record = {
        "element": job["elements"][index],
        "job": _own_id(),
        "restart": restart,
        "host": platform.node(),
        "started": round(time.time(), 3),
        "ended": None,
        "outcome": "running",
        "failures": int(before.get("failures", 0)),
        "error": before.get("error"),
    }
    if restart > grid["max_restarts"]:
        return _gave_up(record_path, record, f"{restart} restarts (cluster.max_restarts={grid['max_restarts']})")
    _write(record_path, record)
    children = Children()
    of_all = (
        {"TARGEN_PROCESSES": str(grid["processes"]), "TARGEN_MACHINES": str(grid["nodes"])} if grid["launch"] else {}
    )
    for command in commands(grid, job["kind"], job["elements"][index]):
        code = children.run(command, environment() | of_all)
        if code:
            return _after(record_path, record, grid, children, code)
    _write(record_path, record | {"outcome": "done", "ended": round(time.time(), 3), "error": None})
    return 0


def commands(grid: Json, kind: str, element: str) -> list[list[str]]:
    """What runs for an element, one after the other."""
    shards = grid["shards"]
    own = {
        "generate": [f"shard.index={element}", f"shard.count={shards}"] if shards > 1 else [],
        "merge": [f"shard.count={shards}"],
        "train": [f"cell={element}"],
        "evaluate": [f"cell={element}"],
        "report": [],
    }[kind]
    modules: dict[str, list[list[str]]] = {
        "generate": [["targen.generate"]],
        "merge": [["targen.merge"]],
        "train": [["train.launch", grid["launch"]] if grid["launch"] else ["train.run"]],
        "evaluate": [["eval.run"]],
        "report": [["eval.scores"], *([["eval.analyze"]] if grid["analyze"] else []), ["eval.report"]],
    }
    before = shlex.split(grid["container"] or "")
    if kind == "train" and grid["nodes"] > 1:  # one on each node; targen's launcher joins them
        before = ["srun", "--kill-on-bad-exit=0", *before]
    return [[*before, grid["python"], "-m", *module, *grid["overrides"], *own] for module in modules[kind]]


def _after(path: Path, record: Json, grid: Json, children: Children, code: int) -> int:
    """What comes of a start that ended with another code than 0."""
    said = last_error(path.with_suffix(".log"))
    ended = record | {"ended": round(time.time(), 3), "code": code}
    if code == REQUEUE or (children.told_to_stop and code != USER_ERROR):
        _write(path, ended | {"outcome": "stopped"})
        if signal.SIGTERM in children.told or not children.told:
            return REQUEUE  # SLURM itself ends the job: it requeues what it preempts, and nothing that was cancelled
        return _again(path, ended, "stopped", "before its time limit", REQUEUE)
    if code == AWAITING:
        said = "answers are awaited from elsewhere (generator=batch)"
    ended |= {"failures": record["failures"] + 1, "error": said or f"exit code {code}"}
    if code in (USER_ERROR, AWAITING):  # the same command would end in the same way
        return _gave_up(path, ended, "a mistake that a restart does not mend")
    if ended["failures"] >= grid["max_failures"]:
        return _gave_up(path, ended, f"{ended['failures']} failures (cluster.max_failures={grid['max_failures']})")
    return _again(path, ended, "failed, starts again", f"after failure {ended['failures']}", FAULT)


def _again(path: Path, record: Json, outcome: str, why: str, code: int) -> int:
    _write(path, record | {"outcome": outcome})
    _say(f"goes back into the queue {why}")
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # by which SLURM ends this process
    if (refused := requeue(_own_id())) is not None:
        _write(path, record | {"outcome": "failed", "error": f"could not be requeued: {refused}"})
        _say(f"could not be requeued ({refused})")
        return code
    time.sleep(60)  # SLURM ends this process; one that ended by itself might be taken for failed
    return code


def _gave_up(path: Path, record: Json, why: str) -> int:
    _write(path, record | {"outcome": "failed", "ended": round(time.time(), 3)})
    _say(f"given up after {why}; the last error: {record['error']}")
    return FAULT


def last_error(log: Path) -> str | None:
    """The last line of a log that tells of an error; the last one of all where none does."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - LAST_BYTES))
            found = [line.strip() for line in file.read().decode("utf-8", errors="replace").splitlines()]
    except OSError:
        return None
    told = [line for line in found if line and not line.startswith("slurm: ")]
    errors = [line for line in told if line.startswith(("error:", "slurmstepd")) or "Error: " in line[:60]]
    return next(reversed(errors or told), None)


def _own_id() -> str:
    """As scontrol names this job, or this element of an array."""
    array, index = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{index}" if array is not None else os.environ.get("SLURM_JOB_ID", "")


def _write(path: Path, record: Json) -> None:
    if path.is_file() and read_json(path)["restart"] > record["restart"]:
        return  # this node was given up while it lived, and the job runs on another
    write_text(path, json.dumps(record, indent=2) + "\n")


def _say(text: str) -> None:
    print(f"slurm: {text}", file=sys.stderr, flush=True)  # noqa: T201


def main(arguments: list[str]) -> Any:
    folder, name, index = arguments
    try:
        return run(Path(folder), name, int(index))
    except UserError as err:
        print(f"error: {err}", file=sys.stderr)  # noqa: T201
        return USER_ERROR


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
