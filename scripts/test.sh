#!/usr/bin/env bash
# All checks and tests: sets up .venv, then lint, types and pytest. Arguments go to pytest, e.g. -m 'not slow'.
# Where CI is set (and no arguments are given) the tests with vLLM's CPU build follow, in an environment of their own.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh
bash scripts/check.sh
.venv/bin/python -m pytest "$@"
if [ -n "${CI:-}" ] && [ $# -eq 0 ]; then
  PYTHON="${PYTHON:-.venv/bin/python}" bash scripts/test_vllm.sh
fi
