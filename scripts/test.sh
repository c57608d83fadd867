#!/usr/bin/env bash
# All checks and tests: sets up .venv, then lint, types and pytest. Arguments go to pytest, e.g. -m 'not slow'.
# Where CI is set, programs that some tests need are installed if root can; without arguments the tests with vLLM's CPU build run
# at the same time, in an environment of their own, and are shown at the end. The exit code is pytest's, or theirs if that is 0.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

logs="$(mktemp -d)"
trap 'rm -rf "$logs"' EXIT

install() {  # install PROGRAM PACKAGE...: where it cannot be had, the tests that need it are skipped and say so
  local program="$1"
  shift
  if command -v "$program" >/dev/null; then return; fi
  if [ ! -f "$logs/update" ]; then apt-get update -q >"$logs/update" 2>&1 || true; fi
  if ! apt-get install -y -q --no-install-recommends "$@" >"$logs/install" 2>&1; then
    echo "test.sh: $program could not be installed ($(tail -n 1 "$logs/install")), tests that need it are skipped" >&2
  fi
}

programs() {
  if [ -z "${CI:-}" ] || [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then return; fi
  export DEBIAN_FRONTEND=noninteractive
  install chromium chromium
  install pdflatex texlive-latex-base texlive-latex-recommended
}

stop() {  # ends both as Ctrl-C would, with all that they have started
  kill -INT -- ${vllm:+"-$vllm"} ${tests:+"-$tests"} 2>/dev/null || true
  wait
  exit "$1"
}

bash scripts/setup.sh
bash scripts/check.sh
if [ -z "${CI:-}" ] || [ $# -gt 0 ]; then
  programs
  .venv/bin/python -m pytest "$@"
  exit
fi

trap 'stop 130' INT
trap 'stop 143' TERM
set -m  # each in a group of processes of its own, so that the whole of it can be ended
PYTHON="${PYTHON:-.venv/bin/python}" bash scripts/test_vllm.sh >"$logs/vllm" 2>&1 </dev/null &
vllm=$!
set +m
programs
set -m
.venv/bin/python -m pytest </dev/null &
tests=$!
set +m
code=0 vllm_code=0
wait "$tests" || code=$?
echo "test.sh: pytest has ended with $code, the tests with vLLM follow" >&2
wait "$vllm" || vllm_code=$?
cat "$logs/vllm"
[ "$code" -ne 0 ] || code=$vllm_code
exit "$code"
