"""How fast a grid of 500 cells is submitted and its status reported, with a scheduler that answers at once.

    python scripts/bench/cluster.py        # limits: 10 s and a handful of sbatch calls; 3 s for the status

SLURM's commands are replaced by scripts that log their calls: what this project adds is measured.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent.parent
FAKE = """#!/bin/bash
echo "$(basename "$0")" >> "$STATE/calls"
case "$(basename "$0") $*" in
  sbatch*) n=$(($(cat "$STATE/n" 2>/dev/null || echo 100) + 1)); echo "$n" > "$STATE/n"; echo "$n" ;;
  squeue*) cat "$STATE/queue" 2>/dev/null || true ;;
  "scontrol show config") echo "MaxArraySize = 1001" ;;
esac
"""


def timed(words: list[str], variables: dict[str, str]) -> tuple[float, str]:
    """(seconds, output) of a command."""
    start = time.perf_counter()
    done = subprocess.run(words, env=variables, capture_output=True, text=True, check=True)
    return time.perf_counter() - start, done.stdout


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        base, run = Path(folder), Path(folder) / "run"
        for name in ("sbatch", "squeue", "scontrol", "scancel"):
            (base / name).write_text(FAKE)
            (base / name).chmod(0o755)
        variables = os.environ | {"PATH": f"{base}{os.pathsep}{os.environ['PATH']}", "STATE": folder}
        variables |= {"PYTHONPATH": str(PROJECT), "HF_HUB_OFFLINE": "1"}
        seeds = ",".join(map(str, range(63)))
        grid = [f"seeds=[{seeds}]", "arms=[synthetic]", f"run.dir={run}", "cluster=tiny", "data.source=fixture"]
        submit = [sys.executable, "-m", "slurm.submit", *grid]
        dry, text = timed([*submit, "--dry-run"], variables)
        cells = sum(line.startswith("train[") for line in text.splitlines())
        (base / "calls").unlink()
        real, _ = timed(submit, variables)
        calls = (base / "calls").read_text().split()
        names = json.loads((run / "slurm" / "001" / "grid.json").read_text())["whole"]["train"]
        for name in names[:200]:  # done, running, queued
            (run / "models" / name).mkdir(parents=True)
            (run / "models" / name / "done.json").write_text("{}")
        for number in range(200, 300):
            record = {"outcome": "failed", "error": "error: made up", "restart": 2}
            (run / "slurm" / "001" / f"train-{number}.json").write_text(json.dumps(record))
        ids = json.loads((run / "slurm" / "001" / "ids.json").read_text())
        queue = [f"{ids['train']}|{number}|PENDING|Priority" for number in range(300, len(names))]
        (base / "queue").write_text("\n".join(queue) + "\n")
        status, text = timed([sys.executable, "-m", "slurm.status", str(run)], variables)
    print(f"cells                       {cells}")
    print(f"--dry-run                   {dry:.2f} s")
    print(
        f"submitted                   {real:.2f} s, {calls.count('sbatch')} sbatch calls, {len(calls)} of SLURM in all"
    )
    print(f"status                      {status:.2f} s")
    print(next(line for line in text.splitlines() if line.startswith("train")))


if __name__ == "__main__":
    main()
