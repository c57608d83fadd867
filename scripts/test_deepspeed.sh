#!/usr/bin/env bash
# The tests of ZeRO, in an environment that adds DeepSpeed to .venv: it is built from source, and otherwise only GPUs need it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

packages="$(grep -E '^(deepspeed|einops|hjson|msgpack|ninja|py-cpuinfo)==' requirements-gpu.lock)"
stamp=".venv-deepspeed/.installed"
wanted="$(cksum <<<"$packages $(readlink -f .venv)")"
if [ ! -f "$stamp" ] || [ "$(cat "$stamp")" != "$wanted" ]; then
  echo "setting up .venv-deepspeed (once; about a minute)" >&2
  .venv/bin/python -m venv --clear .venv-deepspeed
  purelib="import sysconfig; print(sysconfig.get_path('purelib'))"
  .venv/bin/python -c "$purelib" >"$(.venv-deepspeed/bin/python -c "$purelib")/shared.pth"
  DS_BUILD_OPS=0 .venv-deepspeed/bin/python -m pip --disable-pip-version-check --quiet install --no-deps -r /dev/stdin <<<"$packages"
  echo "$wanted" >"$stamp"
fi
exec .venv-deepspeed/bin/python -m pytest -m "" tests/train/loop/test_sharding.py -k deepspeed "$@"
