#!/usr/bin/env bash
# Two studies that compare MiniLM trained on recorded synthetic rows and on original rows. They need no language model and no GPU.
# Usage: bash scripts/study.sh DATA [PART ...]    DATA: folder with the original files (DATA/CB/train.jsonl, ...)
# STUDY=superglue_recorded (default) or text_classification: an experiment in conf/experiment. Runs all parts, or those whose name begins
# with PART. Runs are written to $OUT (outputs/study), $JOBS at a time (2), tables to $OUT/report.
# OVERRIDES="train.freeze=true ..." applies to all runs. Progress is saved: rerun the command to resume.
# On one core, a CB cell takes some seven minutes, a text classification cell one minute; all parts take most of a day, or some hours.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
[ $# -gt 0 ] || { sed -n 2,7p "${BASH_SOURCE[0]}"; exit 2; }
data="$(realpath "$1")"
shift
export STUDY="${STUDY:-superglue_recorded}" OUT="${OUT:-outputs/study}" OVERRIDES="${OVERRIDES:-}" PYTHON="${PYTHON:-$root/.venv/bin/python}"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
mkdir -p "$OUT"

superglue_recorded() {  # a line for each part: its name, then what it adds to the common overrides
  local task rows mode method
  for task in cb copa rte wic wsc axg boolq record; do
    echo "main_$task task=[$task] arms=[original,synthetic,mixed] train.equal_size=true"
  done
  for task in wsc rte wic; do echo "full_$task task=[$task] arms=[original] train.equal_size=false"; done  # the original has more rows than the synthetic set
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

text_classification() {
  local rows method loss by
  for rows in 200 100 48 24; do echo "curve_$rows arms=[original,synthetic] train.max_rows=$rows"; done
  for method in zero_shot zero_shot_topic few_shot; do echo "method_$method arms=[synthetic] method=$method"; done
  for method in one_shot attrprompt; do echo "method_$method task=[sst2,trec] arms=[synthetic] method=$method"; done
  for method in targen_hard paraphrase; do echo "method_$method task=[trec] arms=[synthetic] method=$method"; done
  echo "shares_original arms=[original,synthetic] synth.label_share=original train.max_rows=200"
  for rows in 8 24 48 100; do echo "mixed_$rows arms=[mixed] train.mixed_original=$rows"; done
  for loss in imp dimp; do echo "loss_$loss arms=[synthetic] train.loss=$loss train.checker_rows=48 seeds=[0,1,2]"; done
  for by in checker pvi; do
    echo "select_$by arms=[synthetic] train.select_rows=$by train.select_share=0.75 train.checker_rows=48 seeds=[0,1,2]"
  done
  echo "curve_400 task=[sst2,trec] arms=[original,synthetic] synth.size=400 train.max_rows=400"
}

case "$STUDY" in
  superglue_recorded) export COMMON="train.epochs=10 train.learning_rate=5e-5 train.max_length=128 train.save_every=null" ;;
  text_classification) export COMMON="" ;;  # the experiment has all settings
  *) echo "error: STUDY: got $STUDY, expected superglue_recorded or text_classification" >&2; exit 2 ;;
esac
parts() { "$STUDY"; }

one() {  # one NAME OVERRIDE...
  local name="$1"
  shift
  echo "study: $name" >&2
  "$PYTHON" -m targen.run +experiment="$STUDY" phases=[generate,train,evaluate,report] run.dir="$OUT/$name" $COMMON "$@" $OVERRIDES >"$OUT/$name.log" 2>&1 ||
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
