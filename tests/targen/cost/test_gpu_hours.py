"""A plan ends with GPU-hours by phase, and says what they rest on."""

import re
from pathlib import Path

from tests.support.commands import command, settings
from tests.support.small_data import tiny_overrides
from train.plan import lines, plan


def test_a_plan_ends_with_the_hours_of_each_phase(tmp_path: Path) -> None:
    arguments = ["task=cb", "arms=[synthetic]", "data.source=fixture", "model=tiny_seq2seq", "synth.size=24"]
    generator = [
        "generator=llama31_8b",
        "price.gpu=h100",
        "price.tokens_per_second=1000",
        f"run.dir={tmp_path / 'run'}",
    ]
    done = command("targen.run", *arguments, *generator, "plan=true", "phases=[generate,train,evaluate]")
    assert done.returncode == 0, done.stderr
    *_, generate, train, evaluate, in_all = done.stdout.splitlines()
    assert re.fullmatch(r"GPU-hours, generate: 0\.\d{3} \(price\.tokens_per_second=1000 on 1 GPU\)", generate)
    assert re.fullmatch(
        r"GPU-hours, train: at most 0\.000 \(.* operations, .*; 18% of 989 TFLOP/s, assumed, .* TF32 on an H100\)",
        train,
    )
    assert evaluate.startswith("GPU-hours, evaluate: at most 0.000 (")
    assert in_all == f"GPU-hours, in all: {generate.split()[2]}"
    assert "cell of tiny_seq2seq on 1 x H100" in done.stdout


def test_a_measured_utilisation_takes_the_place_of_the_assumed_one(tmp_path: Path) -> None:
    run = settings(*tiny_overrides(tmp_path, "price.gpu=h200", "train.precision=bf16"))
    assert "35% of 989 TFLOP/s, assumed, not measured" in lines(run, plan(run))[-1]
    log = run.paths.model("another") / "train_log.jsonl"
    log.parent.mkdir(parents=True)
    log.write_text('{"loss": 1.0, "mfu": 0.42}\n{"train_runtime": 3.0}\n', encoding="utf-8")
    assert "42% of 989 TFLOP/s, as this run's train_log.jsonl has measured" in lines(run, plan(run))[-1]
    assert not any("GPU-hours" in line for line in lines(settings(*tiny_overrides(tmp_path)), []))
