#!/usr/bin/env bash
# Sets up .venv, checks formatting, lint and types, and runs the quick tests. Arguments go to pytest: bash scripts/test.sh -k plan
# With --all as first argument it runs every test, including the slow ones: vLLM's CPU build (in .venv-vllm), DeepSpeed (in
# .venv-deepspeed), SLURM, a browser, several processes, long runs. If CI is set and the user is root, it also installs Chromium and LaTeX for these, and starts SLURM.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

logs="$(mktemp -d)"
trap 'rm -rf "$logs"' EXIT
export OMP_NUM_THREADS=1  # parallel test processes share the cores
unset PYTHONDONTWRITEBYTECODE  # otherwise every command of a test recompiles the project

install() {  # install PROGRAM PACKAGE...
  local program="$1"
  shift
  if command -v "$program" >/dev/null; then return; fi
  if [ ! -f "$logs/update" ]; then apt-get update -q >"$logs/update" 2>&1 || true; fi
  if ! apt-get install -y -q --no-install-recommends "$@" >"$logs/install" 2>&1; then
    echo "test.sh: $program could not be installed ($(tail -n 1 "$logs/install")); tests that need it are skipped" >&2
  fi
}

programs() {
  if [ -z "${CI:-}" ] || [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then return; fi
  export DEBIAN_FRONTEND=noninteractive
  install chromium chromium
  install pdflatex texlive-latex-base texlive-latex-recommended
}

stop() {  # stops both like Ctrl-C, with all their child processes
  kill -INT -- ${elsewhere:+"-$elsewhere"} ${tests:+"-$tests"} 2>/dev/null || true
  wait
  exit "$1"
}

run() {  # run COMMAND...: in its own process group, so that `stop` ends all of it
  set -m
  "$@" </dev/null &
  tests=$!
  set +m
  local code=0
  wait "$tests" || code=$?
  tests=
  return "$code"
}

bash scripts/setup.sh
all=
if [ "${1:-}" = --all ]; then
  all=1
  shift
fi
processes=2
[ -z "$all" ] || processes=3  # many slow tests mostly wait
together=(-n "${TEST_PROCESSES:-$processes}" --dist worksteal)
trap 'stop 130' INT
trap 'stop 143' TERM
others=
[ -z "$all" ] || [ $# -gt 0 ] || others=1  # tests in other environments
beside() {
  local code=0
  bash scripts/check.sh 2>&1 | tee "$logs/checks" || code=$?
  if [ -n "$others" ]; then
    { bash scripts/test_vllm.sh && bash scripts/test_deepspeed.sh; } >"$logs/others" 2>&1 || code=$?
  fi
  return "$code"
}
tests='' elsewhere='' timing=()  # process groups: the tests in .venv, and those in other environments
set -m
beside </dev/null &
elsewhere=$!
set +m
code=0
if [ -z "$all" ]; then
  run .venv/bin/python -m pytest "${together[@]}" "$@" || code=$?
else
  programs
  run .venv/bin/python -m pytest "${together[@]}" -m "not timing" "$@" || code=$?
fi
if [ -n "$others" ]; then echo "test.sh: pytest ended with $code; the tests in other environments follow" >&2; fi
elsewhere_code=0
wait "$elsewhere" || elsewhere_code=$?
elsewhere=
[ -z "$others" ] || cat "$logs/others"
if [ "$elsewhere_code" -ne 0 ]; then
  echo "test.sh: the checks${others:+ or the tests in other environments} ended with $elsewhere_code; the checks:" >&2
  cat "$logs/checks"
  [ "$code" -ne 0 ] || code=$elsewhere_code
fi
if [ -n "$all" ]; then
  [ $# -gt 0 ] || mapfile -t timing < <(grep -rl "mark.timing" tests --include "*.py")  # importing all tests takes half a minute
  timing_code=0
  # Alone, because they measure seconds; in a separate folder, because removing those of earlier sessions takes pytest a minute
  run .venv/bin/python -m pytest -m timing --basetemp "$logs/timing" "${timing[@]}" "$@" || timing_code=$?
  [ "$timing_code" -ne 5 ] || timing_code=0  # the arguments select no test
  [ "$code" -ne 0 ] || code=$timing_code
fi
exit "$code"
