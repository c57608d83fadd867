#!/usr/bin/env bash
# All checks and tests: sets up .venv, then lint, types and pytest. Arguments go to pytest, e.g. -m 'not slow'.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh
bash scripts/check.sh
exec .venv/bin/python -m pytest "$@"
