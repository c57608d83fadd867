#!/usr/bin/env bash
# The ZeRO tests, in an environment with DeepSpeed. It is built from source and otherwise needed only on GPUs, so .venv does not have it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

grep -E '^(deepspeed|einops|hjson|msgpack|ninja|py-cpuinfo)==' requirements-gpu.lock | DS_BUILD_OPS=0 bash scripts/extend_venv.sh .venv-deepspeed
exec .venv-deepspeed/bin/python -m pytest -m "" tests/train/loop/test_sharding.py -k deepspeed "$@"
