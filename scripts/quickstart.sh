#!/usr/bin/env bash
# The whole reproduction, small, on a machine without a GPU: sets up .venv and runs +experiment=quickstart.
# Arguments are overrides, e.g.: bash scripts/quickstart.sh data.source=local data.dir=/data/superglue
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
bash "$root/scripts/setup.sh"
exec "$root/.venv/bin/python" -m targen.run +experiment=quickstart "$@"
