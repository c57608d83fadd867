#!/usr/bin/env bash
# Makes .venv with the locked versions, once: the stamp names what is installed. Needs Python 3.11+ and pip.
# Usage: bash scripts/setup.sh; PYTHON=python3.12 chooses the interpreter.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

TORCH="torch==2.13.0"
stamp=".venv/.installed"
wanted="$(cat requirements-cpu.lock pyproject.toml scripts/setup.sh | cksum)"
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
  exit 0
fi

python="${PYTHON:-python3}"
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
  echo "error: PYTHON: got $("$python" --version 2>&1 || echo "no $python"), expected Python 3.11 or newer. Install it, or name it: PYTHON=/path/to/python3" >&2
  exit 2
fi
echo "setting up .venv (once; some minutes)" >&2
trap 'exit 130' INT  # compileall would go on after Ctrl-C
[ -x .venv/bin/python ] || "$python" -m venv .venv
pip=(.venv/bin/python -m pip --disable-pip-version-check --quiet)
"${pip[@]}" install --no-compile "$TORCH"
"${pip[@]}" install --no-compile --no-deps -r requirements-cpu.lock
"${pip[@]}" install --no-deps --editable .
# on all cores, which pip does not, and without the packages' tests; some files are for other versions of Python
.venv/bin/python -W ignore -m compileall -q -j 0 -x /tests/ .venv/lib >/dev/null || true
echo "$wanted" > "$stamp"
