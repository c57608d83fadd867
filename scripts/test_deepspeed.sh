#!/usr/bin/env bash
# The tests of ZeRO, in an environment that has DeepSpeed too: it is built from source, and otherwise only GPUs need it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

grep -E '^(deepspeed|einops|hjson|msgpack|ninja|py-cpuinfo)==' requirements-gpu.lock | DS_BUILD_OPS=0 bash scripts/extend_venv.sh .venv-deepspeed
exec .venv-deepspeed/bin/python -m pytest -m "" tests/train/loop/test_sharding.py -k deepspeed "$@"
