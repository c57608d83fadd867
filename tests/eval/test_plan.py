"""The plan of the evaluation: a line for each cell, and nothing is loaded or written."""

from pathlib import Path

from eval.plan import lines
from eval.run import evaluate
from tests.support.commands import command, files, settings
from tests.support.small_data import small_overrides
from train.run import train


def test_a_line_says_of_each_cell_whether_and_on_what_it_would_be_scored(tmp_path: Path) -> None:
    small = ("model=tiny_decoder", "eval.max_rows=4")
    arguments = small_overrides(tmp_path, *small, "arms=[none,synthetic]", tasks=("cb", "rte"))
    run = settings(*arguments)
    before = files(tmp_path)
    scoring = {
        name: f"scored by rank on 4 of 10 rows of {name.upper()} ({name.upper()}/val.jsonl)" for name in ("cb", "rte")
    }
    assert lines(run) == [
        line
        for name in ("cb", "rte")
        for line in (
            f"tiny_decoder-single-{name}-none-s0: not finetuned, 0 examples shown, {scoring[name]}; no predictions yet",
            f"tiny_decoder-single-{name}-synthetic-s0: skipped until it is trained, {scoring[name]}; no predictions yet",
        )
    ]
    assert files(tmp_path) == before
    multi = settings(*small_overrides(tmp_path, *small, "arms=[synthetic]", "train.setting=multi", tasks=("cb", "rte")))
    train(multi)
    evaluate(multi)
    (line,) = lines(multi)
    assert line.startswith("tiny_decoder-multi-cb_rte-synthetic-s0: trained, scored by rank on 4 of 10 rows of CB ")
    assert line.endswith("rows of RTE (RTE/val.jsonl); predictions of 2 of 2 tasks exist")


def test_rows_that_are_on_the_hub_are_missing_without_network(tmp_path: Path) -> None:
    run = settings("task=cb", "data.source=hub", "data.fallback=null", "arms=[synthetic]", f"run.dir={tmp_path}")
    (line,) = lines(run)
    assert "on rows of CB that are missing here (data.hub: got aps/super_glue" in line


def test_held_out_rows_are_planned_before_they_are_generated(tmp_path: Path) -> None:
    (line,) = lines(
        settings("task=cb", "data.source=none", "arms=[synthetic]", "synth.size=100", f"run.dir={tmp_path}")
    )
    assert "on about 20 held-out synthetic rows of CB, once they are generated; no predictions yet" in line


def test_from_the_command_line_it_only_prints(tmp_path: Path) -> None:
    arguments = small_overrides(tmp_path, "model=tiny_decoder", "arms=[synthetic]")
    before = files(tmp_path)
    done = command("eval.run", *arguments, "plan=true")
    assert (done.returncode, done.stdout.count("\n")) == (0, 1), done.stderr
    assert done.stdout.startswith(
        "tiny_decoder-single-cb-synthetic-s0: skipped until it is trained, scored by rank on "
    )
    assert files(tmp_path) == before
