"""How fast generation is: ratios measured in one run, on this machine, against a local server.

    python scripts/bench/generation.py                    # all measurements
    python scripts/bench/generation.py throughput faults  # some
    python scripts/bench/generation.py --check throughput # ends with what falls short of its bound, and then with exit code 1
    .venv-vllm/bin/python scripts/bench/generation.py vllm  # where vLLM is installed (scripts/test_vllm.sh does it)

Prints one line per measurement: what was measured, the ratio or number, its bound. Do not compare times of different
machines or runs; compare the ratios.
"""

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import measurement
from large_runs import near_duplicates, resume, rows
from server_calls import faults, first_request, slow_server, stream, throughput
from vllm_engine import vllm

MEASUREMENTS: dict[str, Callable[[Path], None]] = {
    measure.__name__: measure
    for measure in (throughput, slow_server, faults, stream, near_duplicates, rows, resume, first_request, vllm)
}


if __name__ == "__main__":
    os.environ.setdefault("PYTHONHASHSEED", "0")
    names = [name for name in sys.argv[1:] if name != "--check"]
    for name in names or MEASUREMENTS:
        with tempfile.TemporaryDirectory() as directory:
            MEASUREMENTS[name](Path(directory))
    if "--check" in sys.argv:
        for line in measurement.short:
            print(f"falls short: {line}")
        sys.exit(bool(measurement.short))
