#!/usr/bin/env bash
# Submits the grid of an experiment to SLURM: slurm/submit.sh +experiment=superglue_flant5 cluster=large [overrides]
# --dry-run prints the sbatch scripts and the index of each array task. A second call submits only what is missing.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
python="${PYTHON:-$root/.venv/bin/python}"
[ -x "$python" ] || python=python3
PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" exec "$python" -m slurm.submit "$@"
