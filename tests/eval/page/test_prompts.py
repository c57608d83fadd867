"""Prompts are rebuilt from provenance, and shown only if they are what was sent; on the page they take little room."""

from pathlib import Path

import pytest

from eval.page.prompts import Prompts
from targen.generate import generate
from targen.synthesis.rebuilt_prompts import rebuilt_prompts
from targen.synthesis.recipes import recipe_of
from tests.support.commands import lines, settings

STEPS = ["instance_seed", "generation", "self_correction"]


@pytest.mark.parametrize("name", ["rte", "axg"])
def test_every_prompt_of_a_row_is_rebuilt(tmp_path: Path, name: str) -> None:
    run = settings(f"run.dir={tmp_path}", f"task={name}")
    generate(run)
    task, folder = run.tasks[name], run.paths.synthetic(name)
    recipe, rows = recipe_of(run, task), lines(folder / "train.jsonl")
    prompts, step = Prompts(10**6), task.rows_per_slot
    for start, story in list(enumerate(lines(folder / "provenance.jsonl")))[::step]:
        row_texts = [story["context"], *task.view(rows[start]).values()]
        sent = rebuilt_prompts(recipe, story, rows[start : start + step])
        assert [step_name for step_name, _ in sent] == STEPS
        assert story["context"] in sent[0][1] and all(text in sent[2][1] for text in task.view(rows[start]).values())
        packed = prompts.of(recipe, story, rows[start : start + step], row_texts)
        for (_, parts), (_, text) in zip(packed, sent, strict=True):
            assert text == "".join(row_texts[-1 - part] if part < 0 else prompts.lines[part] for part in parts)
    assert sent[0] not in rebuilt_prompts(recipe, story | {"context": "another"}, rows[-step:])
    assert rebuilt_prompts(recipe, story | {"call_ids": []}, rows[-step:]) == []


def test_prompts_that_have_no_room_are_left_out(tmp_path: Path) -> None:
    run = settings(f"run.dir={tmp_path}", "task=rte")
    generate(run)
    folder, prompts = run.paths.synthetic("rte"), Prompts(2_000)
    row, story = lines(folder / "train.jsonl")[0], lines(folder / "provenance.jsonl")[0]
    recipe = recipe_of(run, run.tasks["rte"])
    assert prompts.of(recipe, story, [row], []) and prompts.full and prompts.of(recipe, story, [row], []) == []
