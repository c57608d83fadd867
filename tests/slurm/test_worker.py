"""The worker of an array task with several parts: each on its own GPUs, with its own record and log.

The interpreter of the jobs (cluster.python) is a script here, so that no cell is trained.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from slurm.submit import grid_json
from tests.support.commands import LONGEST, PROJECT, settings
from tests.support.small_data import tiny_overrides

JOB = """#!/bin/bash
# Called as: -m targen train ... cell=NAME
name="${*: -1}"; name="${name#cell=}"
echo "$name on GPU $CUDA_VISIBLE_DEVICES with its cache in $VLLM_CACHE_ROOT"
echo x >> "$STARTS/$name"
case "$name" in
  wrong) echo "error: train.lr: got nonsense" >&2; exit 2 ;;
  crashes) exit 1 ;;
  crashes-once) [ "$(wc -l < "$STARTS/$name")" -gt 1 ] || exit 1 ;;
  waits) trap 'exit 85' USR1 TERM; touch "$STARTS/waiting"; while [ ! -e "$STARTS/go" ]; do sleep 0.05; done ;;
esac
"""
SCONTROL = """#!/bin/bash
echo "$*" >> "$STARTS/asked"
kill -TERM "$PPID"
"""


def start(tmp_path: Path, *cells: str, **variables: str) -> "subprocess.Popen[str]":
    """The worker of an array task that trains these cells side by side."""
    folder = tmp_path / "run" / "slurm" / "001"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (("job", JOB), ("scontrol", SCONTROL)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    overrides = [*tiny_overrides(tmp_path), f"cluster.python={tmp_path / 'job'}", "cluster.max_failures=2"]
    job = {"name": "train", "kind": "train", "elements": [list(cells)]}
    grid = grid_json(settings(*overrides, "cluster.train.gpus=2", "train.launch=ddp"), overrides) | {"launch": None}
    (folder / "grid.json").write_text(json.dumps(grid | {"jobs": [job]}))
    environment = os.environ | {"STARTS": str(tmp_path), "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    environment |= {"PYTHONPATH": str(PROJECT), "VLLM_CACHE_ROOT": "/scratch/vllm", "SLURM_JOB_ID": "7"} | variables
    command = [sys.executable, "-m", "slurm.worker", str(folder), "train", "0"]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def record(tmp_path: Path, slot: int) -> dict[str, Any]:
    path = tmp_path / "run" / "slurm" / "001" / f"train-0-{slot}.json"
    return json.loads(path.read_text()) if path.is_file() else {"outcome": None}


def outcomes(tmp_path: Path, count: int) -> list[str]:
    return [record(tmp_path, slot)["outcome"] for slot in range(count)]


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + LONGEST
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def starts(tmp_path: Path, cell: str) -> int:
    return len((tmp_path / cell).read_text().splitlines())


def test_a_cell_that_fails_does_not_end_the_others_and_is_started_again(tmp_path: Path) -> None:
    worker = start(tmp_path, "good", "wrong", "crashes", "crashes-once", CUDA_VISIBLE_DEVICES="8,9,10,11,12,13,14,15")
    _, stderr = worker.communicate(timeout=LONGEST)
    assert worker.returncode == 1
    records = [record(tmp_path, slot) for slot in range(4)]
    assert [entry["outcome"] for entry in records] == ["done", "failed", "failed", "done"]
    assert [entry["failures"] for entry in records] == [0, 1, 2, 1]
    assert records[1]["error"] == "error: train.lr: got nonsense"
    assert [starts(tmp_path, name) for name in ("good", "wrong", "crashes", "crashes-once")] == [1, 1, 2, 2]
    logs = [(tmp_path / "run" / "slurm" / "001" / f"train-0-{slot}.log").read_text() for slot in range(4)]
    assert logs[0] == "good on GPU 8,9 with its cache in /scratch/vllm/0\n"
    assert logs[3].splitlines() == ["crashes-once on GPU 14,15 with its cache in /scratch/vllm/3"] * 2
    assert "slurm: wrong: gave up after an error that a restart cannot fix; the last error: error: train.lr" in stderr
    assert "slurm: good: done; its log: train-0-0.log" in stderr

    restarted = start(tmp_path, "good", "wrong", "crashes", "crashes-once", SLURM_RESTART_COUNT="1")
    restarted.communicate(timeout=LONGEST)
    assert restarted.returncode == 1  # what was decided is not done again
    assert [starts(tmp_path, name) for name in ("good", "wrong", "crashes", "crashes-once")] == [1, 1, 2, 2]


def test_all_done_is_success_and_gpus_are_counted_where_the_cluster_names_none(tmp_path: Path) -> None:
    worker = start(tmp_path, "one", "two", CUDA_VISIBLE_DEVICES="")
    worker.communicate(timeout=LONGEST)
    assert worker.returncode == 0
    logs = [(tmp_path / "run" / "slurm" / "001" / f"train-0-{slot}.log").read_text() for slot in range(2)]
    assert [log.partition(" with")[0] for log in logs] == ["one on GPU 0,1", "two on GPU 2,3"]


def test_a_warning_stops_all_and_the_next_start_goes_on_with_those_that_were_stopped(tmp_path: Path) -> None:
    worker = start(tmp_path, "good", "wrong", "waits")
    wait_for(lambda: (tmp_path / "waiting").exists() and outcomes(tmp_path, 2) == ["done", "failed"])
    worker.send_signal(signal.SIGUSR1)
    _, stderr = worker.communicate(timeout=LONGEST)
    assert worker.returncode == -signal.SIGTERM, stderr  # by SLURM, here by the script in its place
    assert (tmp_path / "asked").read_text() == "requeue 7\n"
    assert outcomes(tmp_path, 3) == ["done", "failed", "stopped"]
    assert record(tmp_path, 2)["failures"] == 0

    (tmp_path / "go").touch()
    restarted = start(tmp_path, "good", "wrong", "waits", SLURM_RESTART_COUNT="1")
    restarted.communicate(timeout=LONGEST)
    assert restarted.returncode == 1
    assert outcomes(tmp_path, 3) == ["done", "failed", "done"]
    assert [starts(tmp_path, name) for name in ("good", "wrong", "waits")] == [1, 1, 2]


def test_more_restarts_than_allowed_are_said_of_the_parts_that_are_not_done(tmp_path: Path) -> None:
    assert start(tmp_path, "good").wait(LONGEST) == 0
    worker = start(tmp_path, "good", "other", SLURM_RESTART_COUNT="101")
    _, stderr = worker.communicate(timeout=LONGEST)
    assert worker.returncode == 1 and stderr.count("gave up after 101 restarts") == 1
    assert outcomes(tmp_path, 2) == ["done", "failed"]
