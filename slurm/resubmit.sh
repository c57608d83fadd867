#!/usr/bin/env bash
# Resubmits the missing and failed parts of a grid, and the jobs that depend on them:
# slurm/resubmit.sh <run.dir> [--dry-run] [overrides]
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
python="${PYTHON:-$root/.venv/bin/python}"
[ -x "$python" ] || python=python3
PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" exec "$python" -m slurm.resubmit "$@"
