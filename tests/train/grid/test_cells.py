"""The names of cells, and the fields that say what a cell is."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from targen.runtime.errors import UserError
from targen.tasks.registry import PAPER_TASKS
from tests.support.commands import settings
from tests.support.small_data import SPECS, small_run
from train.grid.cells import cells, mixture_name

MULTI = ("train.setting=multi", "arms=[synthetic]", "model=tiny_encoder")


def test_only_the_papers_eight_tasks_are_called_all() -> None:
    assert mixture_name(PAPER_TASKS) == mixture_name(PAPER_TASKS[::-1]) == "all"
    eight_others = [f"task_{number}" for number in range(8)]
    assert mixture_name(eight_others) == "_".join(eight_others)
    assert mixture_name(PAPER_TASKS[:2]) == "axg_boolq"


def test_a_mixture_with_underscores_in_its_names_says_its_tasks(tmp_path: Path) -> None:
    run = small_run(tmp_path, *MULTI, tasks=("cb", "rte"))
    run = replace(run, tasks={"news_item": SPECS["cb"], "news": SPECS["rte"]})
    (cell,) = cells(run)
    assert cell.name == "tiny_encoder-multi-news_news_item-synthetic-s0"
    assert cell.tasks == ("news", "news_item")
    assert cell.predictions_name("news_item") == f"{cell.name}.news_item"


def test_eight_other_tasks_keep_the_name_that_a_run_gave_them_before(tmp_path: Path) -> None:
    """Any eight tasks were once called `all`: a trained cell of that name is found again in its run, and only there."""
    run = settings(*MULTI, f"task=[{','.join(PAPER_TASKS)}]", "data.source=fixture", f"run.dir={tmp_path}")
    names = sorted([*PAPER_TASKS[1:], "my_task"])
    run = replace(run, tasks={name: SPECS.get(name, SPECS["cb"]) for name in names})
    joined = f"tiny_encoder-multi-{'_'.join(names)}-synthetic-s0"
    assert [cell.name for cell in cells(run)] == [joined]
    old = tmp_path / "models" / "tiny_encoder-multi-all-synthetic-s0"
    old.mkdir(parents=True)
    for task, name in (("axg", joined), ("my_task", old.name)):
        trained_on = {f"tasks.{task}": {}, **{f"tasks.{other}": {} for other in PAPER_TASKS[1:]}}
        (old / "done.json").write_text(json.dumps({"fingerprint": trained_on}))
        assert [cell.name for cell in cells(run)] == [name]


def test_a_hub_id_as_the_name_of_a_model_is_part_of_file_names(tmp_path: Path) -> None:
    name = "google_tiny-single-cb-synthetic-s0"
    arguments = ["model=tiny_encoder", "model.name=google/tiny", "arms=[synthetic]"]
    for typed in (name, "google/tiny-single-cb-synthetic-s0"):
        run = small_run(tmp_path, *arguments, f"cell={typed}")
        assert [cell.name for cell in cells(run)] == [name]
        assert cells(run)[0].model == "google_tiny"


def test_a_seed_that_numpy_cannot_take_is_refused() -> None:
    assert settings(f"seeds=[{2**32 - 1}]").seeds == [2**32 - 1]
    with pytest.raises(UserError, match=r"seeds\.0: got 4294967296, expected less than 4294967296"):
        settings(f"seeds=[{2**32}]")
