"""A new task's file is written once, runs as it is, and its examples do too."""

import re
from pathlib import Path

import pytest

from targen.config.loading import settings_from
from targen.runtime.cli import compose
from targen.synthesis.recipes import recipes
from targen.tasks.task import Task
from tests.support.commands import command


def write_new_task(folder: Path, *arguments: str) -> Path:
    done = command("targen.new_task", "mine", "--dir", str(folder), *arguments)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith(f"{folder / 'mine.yaml'}: written.")
    return folder / "mine.yaml"


def load_new_task(folder: Path) -> Task:
    server = ["generator=openai", "generator.model=m", "arms=[synthetic]", "synth.size=40"]
    run = settings_from(compose([f"task_dir={folder}", "task=mine", *server]))
    recipes(run)
    return run.tasks["mine"]


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (None, ["praise", "complaint", "question"]),
        ('yes,no,"a, b",[x],a: b,#c', ["yes", "no", "a, b", "[x]", "a: b", "#c"]),
        ("1,2,3", ["1", "2", "3"]),
    ],
)
def test_a_new_file_runs_as_it_is_and_with_its_examples(tmp_path: Path, labels: str | None, names: list[str]) -> None:
    path = write_new_task(tmp_path, *([] if labels is None else ["--labels", labels]))
    task = load_new_task(tmp_path)
    assert [label.name for label in task.labels] == names
    assert task.ordinal == (labels == "1,2,3") == isinstance(task.labels[0].value, int)
    head, heading, examples = path.read_text(encoding="utf-8").partition("# variants:\n")
    examples = re.sub(r"^# (variants:|  |contexts:|columns:)", r"\1", heading + examples, flags=re.MULTILINE)
    path.write_text(head + examples, encoding="utf-8")
    with_examples = load_new_task(tmp_path)
    assert with_examples.drawn_variants(names[-1])["register"] == ["a chat", "a chat", "a mail"]
    assert "writer" not in with_examples.variants
    assert with_examples.columns == {"text": "message", "label": "category"}


REFUSED = [
    (["cb"], "name: got 'cb', a task of this project"),
    (["a-b"], "name: got 'a-b', expected letters"),
    (["self_instruct"], "name: got 'self_instruct', expected letters"),
    (["mine", "--labels", "x"], "--labels: got 'x', expected two or more"),
    (["mine", "--labels", "x,x"], "--labels: got 'x,x', expected two or more"),
]


@pytest.mark.parametrize(("arguments", "words"), REFUSED)
def test_what_can_be_no_task_is_refused(tmp_path: Path, arguments: list[str], words: str) -> None:
    done = command("targen.new_task", *arguments, "--dir", str(tmp_path / "new"))
    assert done.returncode == 2 and done.stderr.startswith(f"error: {words}") and not (tmp_path / "new").exists()


def test_a_file_that_is_there_is_kept(tmp_path: Path) -> None:
    path = write_new_task(tmp_path)
    path.write_text("mine")
    done = command("targen.new_task", "mine", "--dir", str(tmp_path))
    assert (
        done.returncode == 2 and done.stderr == f"error: {path}: is there already. Choose another name, or remove it.\n"
    )
    assert path.read_text() == "mine"
