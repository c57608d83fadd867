"""Generation does not fall behind a bare HTTP loop by more than a floor, well below what scripts/bench/generation.py measures."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from targen.runtime.paths import PROJECT

pytestmark = [pytest.mark.slow, pytest.mark.timing]
FLOOR, RUNS = 0.4, 3  # of which one must reach it


def test_calls_per_second_stay_close_to_those_of_a_bare_loop(tmp_path: Path) -> None:
    best = 0.0
    for _ in range(RUNS):
        command = [sys.executable, str(PROJECT / "scripts/bench/generation.py"), "throughput"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        (line,) = [line for line in done.stdout.splitlines() if line.startswith("calls/s")]
        best = max(best, float(re.split(r" {2,}", line)[1]))
        if best >= FLOOR:
            return
    pytest.fail(f"the best of {RUNS} runs had {best:.2f} of the calls per second of a bare aiohttp loop")
