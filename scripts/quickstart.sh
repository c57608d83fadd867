#!/usr/bin/env bash
# Runs the whole pipeline at a small scale, without a GPU: creates .venv, then runs +experiment=quickstart.
# Arguments are overrides, for example: bash scripts/quickstart.sh data.source=local data.dir=/data/superglue
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
bash "$root/scripts/setup.sh"
exec "$root/.venv/bin/python" -m targen.run +experiment=quickstart "$@"
