"""The examples of docs/own_task.md are complete: each becomes a task, and its keys are those that there are."""

import re
from pathlib import Path

import yaml

from targen.config.loading import settings_from
from targen.runtime.cli import compose
from targen.synthesis.recipes import recipes
from tests.support.commands import PROJECT

GUIDE = (PROJECT / "docs" / "own_task.md").read_text(encoding="utf-8")
FILE = re.compile(r"^`my_tasks/(\w+)\.yaml`:\n\n```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_its_tasks_run(tmp_path: Path) -> None:
    files = dict(FILE.findall(GUIDE))
    assert list(files) == ["tickets", "mood", "stars", "next_step"]
    for name, text in files.items():
        (tmp_path / f"{name}.yaml").write_text(text, encoding="utf-8")
    overrides = [f"task_dir={tmp_path}", f"task=[{','.join(files)}]", "arms=[synthetic]", "synth.size=40"]
    run = settings_from(compose([*overrides, "generator=openai", "generator.model=NAME"]))
    assert [recipe.task.name for recipe in recipes(run)] == list(files)
    mood = run.tasks["mood"]
    assert set(mood.drawn_variants("praise")) == {"length", "register", "label_shows"}
    assert mood.drawn_variants("praise")["length"] != mood.drawn_variants("complaint")["register"]


def test_real_rows_are_named_as_it_says(tmp_path: Path) -> None:
    tickets = dict(FILE.findall(GUIDE))["tickets"]
    (columns,) = re.findall(r"```yaml\n(columns:.*?)```", GUIDE, re.DOTALL)
    (tmp_path / "tickets.yaml").write_text(tickets + columns, encoding="utf-8")
    task = settings_from(compose([f"task_dir={tmp_path}", "task=tickets", "arms=[synthetic]", "synth.size=8"])).tasks[
        "tickets"
    ]
    assert task.columns == yaml.safe_load(columns)["columns"] and "Billing and payments" in task.label_names
