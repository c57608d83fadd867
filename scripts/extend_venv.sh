#!/usr/bin/env bash
# Makes an environment that adds packages to .venv: it sees those of .venv, and its own come first.
# Usage: bash scripts/extend_venv.sh FOLDER <REQUIREMENTS    Run again, it does nothing unless the requirements or .venv have changed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

folder="${1:?"usage: extend_venv.sh FOLDER <REQUIREMENTS"}"
requirements="$(cat)"
bash scripts/setup.sh </dev/null
stamp="$folder/.installed"
wanted="$(cat scripts/extend_venv.sh .venv/.installed - <<<"$(readlink -f .venv) $requirements" | cksum)"
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
  exit 0
fi
echo "setting up $folder (once; a minute or more)" >&2
.venv/bin/python -m venv --clear "$folder"
purelib="import sysconfig; print(sysconfig.get_path('purelib'))"
.venv/bin/python -c "$purelib" >"$("$folder/bin/python" -c "$purelib")/shared.pth"
"$folder/bin/python" -m pip --disable-pip-version-check --quiet install --no-compile --no-deps -r /dev/stdin <<<"$requirements"
echo "$wanted" >"$stamp"
