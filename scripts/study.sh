#!/usr/bin/env bash
# The first study: what MiniLM learns from the recorded synthetic SuperGLUE, beside the original rows. Needs no language model and no GPU.
# Usage: bash scripts/study.sh DATA [PART ...]    DATA: folder with the official files (DATA/CB/train.jsonl, ...)
# A part whose name begins with PART is run; without one, all are. Runs go to $OUT (outputs/study), $JOBS at a time (2), tables to $OUT/report.
# OVERRIDES="model=... train.epochs=..." changes all runs. Progress is saved: rerun the command to resume.
# One cell of CB takes some seven minutes of one core, all parts most of a day.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
[ $# -gt 0 ] || { sed -n 2,6p "${BASH_SOURCE[0]}"; exit 2; }
data="$(realpath "$1")"
shift
export OUT="${OUT:-outputs/study}" OVERRIDES="${OVERRIDES:-}" PYTHON="${PYTHON:-$root/.venv/bin/python}" OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
mkdir -p "$OUT"

parts() {  # name, then what it adds to the common overrides
  local task
  for task in cb copa rte wic wsc axg boolq record; do
    echo "main_$task task=[$task] arms=[original,synthetic,mixed] train.equal_size=true"
  done
  for task in cb copa wic; do
    for rows in 30 60 120; do echo "curve_${task}_$rows task=[$task] arms=[original,synthetic] train.equal_size=true train.max_rows=$rows"; done
  done
  for mode in off drop; do echo "correction_$mode task=[cb] arms=[synthetic] train.equal_size=false synth.self_correct=$mode"; done
  echo "correction_blind task=[cb] arms=[synthetic] train.equal_size=false synth.correct_blind=true"
  echo "shares_original task=[cb] arms=[synthetic] train.equal_size=false synth.label_share=original"
  for method in zero_shot zero_shot_topic few_shot; do
    echo "method_$method task=[cb] arms=[synthetic] train.equal_size=false method=$method synth.size={cb:120}"
  done
}

one() {  # one NAME OVERRIDE...
  local name="$1"
  shift
  echo "study: $name" >&2
  "$PYTHON" -m targen.run +experiment=superglue_recorded phases=[generate,train,evaluate,report] run.dir="$OUT/$name" \
    train.epochs=10 train.learning_rate=5e-5 train.max_length=128 train.save_every=null "$@" $OVERRIDES >"$OUT/$name.log" 2>&1 ||
    { echo "study: $name failed: $(tail -n 1 "$OUT/$name.log")" >&2; return 1; }
}
export -f one

chosen() { if [ $# -eq 0 ]; then parts; else for prefix in "$@"; do parts | grep "^$prefix"; done; fi; }
for prefix in "$@"; do
  parts | grep -q "^$prefix" || {
    echo "error: PART: got $prefix, expected the beginning of one of $(parts | cut -d' ' -f1 | tr '\n' ' ')" >&2
    exit 2
  }
done
code=0
chosen "$@" | xargs -P "${JOBS:-2}" -I{} bash -c "one {} data.source=local data.dir='$data'" || code=1
runs=()
for scores in "$OUT"/*/scores.jsonl; do [ ! -f "$scores" ] || runs+=("run.dir=$(dirname "$scores")"); done
[ ${#runs[@]} -lt 2 ] || "$PYTHON" -m eval.report "${runs[@]}" report.dir="$OUT/report"
exit $code
