#!/usr/bin/env bash
# Submits what is missing or failed of the grid of a run, and what depends on it: slurm/resubmit.sh <run.dir> [--dry-run] [overrides]
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
python="${PYTHON:-$root/.venv/bin/python}"
[ -x "$python" ] || python=python3
PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" exec "$python" -m slurm.resubmit "$@"
