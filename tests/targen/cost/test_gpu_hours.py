"""A plan ends with GPU-hours by phase, and says what they rest on."""

import re
from pathlib import Path

from eval.plan import lines as evaluation_lines
from targen.cost.gpu_hours import hours_line, total_line
from tests.support.commands import command, settings
from tests.support.small_data import tiny_overrides
from train.grid.cells import cells
from train.loop.planned_models import PlannedModels
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
    assert in_all == f"GPU-hours, in all: at most {generate.split()[2]}"
    assert "cell of tiny_seq2seq on 1 x H100" in done.stdout


def test_a_measured_utilisation_takes_the_place_of_the_assumed_one(tmp_path: Path) -> None:
    run = settings(*tiny_overrides(tmp_path, "price.gpu=h200", "train.precision=bf16"))
    assert "35% of 989 TFLOP/s, assumed, not measured" in lines(run, plan(run))[-1]
    log = run.paths.model("another") / "train_log.jsonl"
    log.parent.mkdir(parents=True)
    log.write_text('{"loss": 1.0, "mfu": 0.42}\n{"train_runtime": 3.0}\n', encoding="utf-8")
    assert "42% of 989 TFLOP/s, as this run's train_log.jsonl has measured" in lines(run, plan(run))[-1]
    assert not any("GPU-hours" in line for line in lines(settings(*tiny_overrides(tmp_path)), []))


def test_what_is_not_known_is_said_and_not_counted_as_nothing(tmp_path: Path) -> None:
    run = settings(
        "task=cb",
        "arms=[synthetic]",
        "data.source=fixture",
        "model=flan_t5_base",
        f"run.dir={tmp_path}",
        "price.gpu=h100",
    )
    trained, evaluated = lines(run, plan(run))[-1], evaluation_lines(run)[-1]
    assert trained == "GPU-hours, train: unknown (1 cell unknown)"
    assert evaluated == "GPU-hours, evaluate: unknown (flan_t5_base is not on this machine)"
    assert total_line([trained, evaluated]) == "GPU-hours, in all: unknown"
    line = hours_line("generate", 2.5, "a reason")
    assert total_line([line, trained, evaluated]) == "GPU-hours, in all: at least 2.500, without train and evaluate"
    in_part = hours_line("train", 1.0, "3 cells unknown", at_least=True)
    assert in_part == "GPU-hours, train: at least 1.000 (3 cells unknown)"
    assert total_line([line, in_part]) == "GPU-hours, in all: at least 3.500"
    assert total_line([line, hours_line("train", 1.0, "a reason", at_most=True)]) == "GPU-hours, in all: at most 3.500"
    bounded = hours_line("train", 1200.0, "a reason", at_most=True, at_least=True)
    assert total_line([line, bounded]) == "GPU-hours, in all: about 1,202.5"


def test_cells_that_differ_in_arm_or_seed_are_counted_once(tmp_path: Path) -> None:
    grid = ["task=[cb,rte]", "arms=[original,synthetic]", "seeds=[0,1]", "data.source=hub", "data.fallback=null"]
    run = settings(*grid, "model=tiny_seq2seq", f"run.dir={tmp_path}", "train.max_rows=null")
    models = PlannedModels()
    assert len({id(models.shapes(run, cell)[0]) for cell in cells(run)}) == 1
    longer = settings(*grid, "model=tiny_seq2seq", f"run.dir={tmp_path}", "train.max_length=96")
    assert models.shapes(longer, cells(run)[0])[0] is not models.shapes(run, cells(run)[0])[0]
    plans = plan(run)
    assert len(plans) == 8
    assert len({id(cell_plan.size) for cell_plan in plans}) == 1
    assert {cell_plan.rows for cell_plan in plans} == {24, 250, 2490}
