"""A task of the user's own: a short file in a folder of theirs becomes a whole task, and its mistakes are one line."""

from pathlib import Path
from random import Random

import pytest
import yaml

from targen.config.loading import as_values, settings_from
from targen.config.settings import Settings
from targen.runtime.cli import compose
from targen.runtime.errors import UserError
from targen.runtime.paths import CONF
from targen.synthesis.recipes import recipes
from targen.tasks.encoder_texts import encoder_texts
from targen.tasks.own_task import complete_specification
from targen.tasks.registry import PAPER_TASKS
from targen.tasks.task import LabelCell, Task

SMALLEST = """\
description: Decide which team a support ticket goes to
labels:
  billing: charges and refunds
  other: anything else
fields: {text: a support ticket as a customer writes it}
"""


SERVER = ("generator=openai", "generator.model=m", "generator.base_url=http://localhost:1/v1", "arms=[synthetic]")


def loaded(folder: Path, *overrides: str) -> Settings:
    return settings_from(compose([f"task_dir={folder}", "synth.size=8", *SERVER, *overrides]))


def task_of(folder: Path, text: str, name: str = "mine", *overrides: str) -> Task:
    (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    run = loaded(folder, f"task={name}", *overrides)
    recipes(run)  # checks the templates of all steps
    return run.tasks[name]


def mistake(folder: Path, text: str, name: str = "mine", *overrides: str) -> str:
    with pytest.raises(UserError) as err:
        task_of(folder, text, name, *overrides)
    assert "\n" not in str(err.value)
    return str(err.value).replace(f"{folder}/", "")


def test_the_smallest_task_has_everything(tmp_path: Path) -> None:
    task = task_of(tmp_path, SMALLEST)
    assert (task.name, task.folder, task.title, task.eval_split) == ("mine", "mine", "Mine", "val")
    assert task.description == (
        "Decide which team a support ticket goes to. The labels: billing – charges and refunds; other – anything else."
    )
    assert task.row == ["text"] and task.metrics == ["accuracy", "f1_macro"]
    assert [(label.value, label.name, label.verbalizer) for label in task.labels] == [
        ("billing", "billing", "billing"),
        ("other", "other", "other"),
    ]
    assert "charges and refunds" in task.labels[0].constraint and task.instance_seed.per_label
    row = {"text": "Please refund me.", "label": "billing", "idx": 0}
    task.check_format(row)
    (example,) = task.examples(row)
    assert task.instance.format(**example.fields) == "Text: Please refund me."
    assert encoder_texts(task, example) == [("Please refund me.", "")]


@pytest.mark.parametrize("method", ["targen", "zero_shot", "zero_shot_topic", "attrprompt", "self_instruct"])
def test_its_prompts_fit_every_method(tmp_path: Path, method: str) -> None:
    task = task_of(tmp_path, SMALLEST, "mine", f"method={method}")
    assert all(weights for weights in task.drawn_variants("billing").values())


def test_what_the_file_says_takes_the_place_of_a_default(tmp_path: Path) -> None:
    own_keys = "variants: {writer: null, channel: {a mail: 2, a chat: 1}}\nencoder: {first: 'T {text}', second: '', truncate: first}\n"
    task = task_of(tmp_path, SMALLEST + own_keys)
    assert set(task.variants) == {"length", "label_shows", "channel"}
    assert "Channel: {channel}" in task.generation.instruction and "writer" not in task.generation.instruction
    assert task.encoder.first == "T {text}"
    assert loaded(tmp_path, "task=mine", "tasks.mine.eval_split=test").tasks["mine"].eval_split == "test"


def test_the_complete_specification_is_kept_and_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(SMALLEST, encoding="utf-8")
    specification = as_values(compose([f"task_dir={tmp_path}", "task=mine"]))["tasks"]["mine"]
    assert "fields" not in specification and complete_specification("mine", specification, "x") == specification
    assert yaml.safe_load(yaml.safe_dump(specification)) == specification
    assert "&id" not in yaml.safe_dump(specification)


def test_the_tasks_of_the_paper_are_complete_already() -> None:
    for name in PAPER_TASKS:
        values = yaml.safe_load((CONF / "task" / f"{name}.yaml").read_text(encoding="utf-8"))
        assert list(complete_specification(name, values, "x").items()) == list(values.items())


def test_a_run_keeps_a_task_whose_file_is_gone(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(SMALLEST, encoding="utf-8")
    run = [f"task_dir={tmp_path}", "task=mine", f"run.dir={tmp_path / 'run'}", "synth.size=8", "arms=[synthetic]"]
    values = as_values(compose(run))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    (tmp_path / "mine.yaml").unlink()
    assert settings_from(compose(run)).tasks["mine"].row == ["text"]
    assert settings_from(compose(run[1:])).tasks["mine"].row == ["text"]


def test_tasks_in_a_folder_of_hydras_search_path_are_found(tmp_path: Path) -> None:
    (tmp_path / "task").mkdir()
    (tmp_path / "task" / "mine.yaml").write_text(SMALLEST, encoding="utf-8")
    searched = f"hydra.searchpath=['file://{tmp_path}']"
    assert list(settings_from(compose([searched, "task=[mine,rte]", "synth.size=8", "arms=[synthetic]"])).tasks) == [
        "mine",
        "rte",
    ]


CHOOSING = """\
description: Choose the sentence that continues the story.
fields: {story: the beginning of a story}
choices: {right: the sentence that comes next, wrong: a sentence that does not, number: 3}
"""


def test_choosing_among_texts_needs_no_code(tmp_path: Path) -> None:
    task = task_of(tmp_path, CHOOSING)
    assert task.row == ["story", "choice1", "choice2", "choice3"] and task.metrics == ["accuracy"]
    answer = {"right": "It ended.", "wrong1": "Cats purr.", "wrong2": "Dogs bark."}
    cell = LabelCell(1, "choice2", ())
    (row,) = task.build_rows(cell, {"story": "It began."}, {}, answer, Random(0))
    assert row == {
        "story": "It began.",
        "choice1": "Cats purr.",
        "choice2": "It ended.",
        "choice3": "Dogs bark.",
        "label": 1,
    }
    (example,) = task.examples(row | {"idx": 0})
    assert example.choices == ("Cats purr.", "It ended.", "Dogs bark.") and example.gold == (1,)
    assert encoder_texts(task, example)[1] == ("It began.", "It ended.")
    swapped = row | {"choice1": row["choice3"], "choice3": row["choice1"]}
    assert task.duplicate_key(row) == task.duplicate_key(swapped)


def test_ordinal_labels_keep_their_numbers_and_get_their_metrics(tmp_path: Path) -> None:
    text = "description: Say how many stars.\nordinal: true\nlabels: {1: bad, 2: fair, 3: good}\nfields: {text: a review}\n"
    task = task_of(tmp_path, text)
    assert [label.value for label in task.labels] == [1, 2, 3] and task.labels[2].name == "3"
    assert task.metrics == ["accuracy", "f1_macro", "quadratic_kappa", "mean_absolute_error"]
    assert "from the lowest to the highest: 1 – bad" in task.description


def test_labels_may_be_many_and_have_any_name(tmp_path: Path) -> None:
    names = ["a, b", "[c]", "naïve", "{x}", "x = y", "50 %", *(f"label {number}" for number in range(44))]
    text = "description: Sort.\nfields: [text]\nlabels:\n" + "".join(f'  "{name}": kind {name}\n' for name in names)
    task = task_of(tmp_path, text, "mine", "synth.size=100")
    assert [label.name for label in task.labels] == names
    assert "{x}" in task.label("{x}").constraint.format()


MISTAKES = [
    ("", "mine.yaml: got an empty file, expected a task"),
    ("- a\n", "mine.yaml: got no keys, expected keys and values"),
    (SMALLEST + "\tx: 1\n", "mine.yaml:6: got a tab, expected blanks"),
    (SMALLEST + "title: a: b\n", "mine.yaml:6: got 'title: a: b', which is no YAML"),
    (SMALLEST + "titel: x\n", "mine.yaml: titel: no such key. Did you mean 'title'?"),
    (SMALLEST + "name: other\n", "mine.yaml: name: got 'other', expected mine, the name of its file"),
    (SMALLEST + "# @package tasks.mine\nfields: {a: b}\n", "mine.yaml:7: got fields again (first in line 5), expected it once"),
    ("# @package tasks.cb\n" + SMALLEST, "mine.yaml: got `# @package tasks.cb`, expected tasks.mine"),
    (SMALLEST.replace("billing:", "yes:"), 'mine.yaml:3: got yes, which YAML reads as true or false, expected a text. Quote it: "yes".'),
    (SMALLEST.replace("  billing: charges and refunds\n  other: anything else\n", "  [on, off]\n"), "mine.yaml:3: got on, which YAML"),
    (SMALLEST.replace("  other: anything else\n", ""), "mine.yaml: labels: got {'billing': 'charges and refunds'}, expected at least two"),
    (SMALLEST.replace("other:", "billing:"), "mine.yaml:4: got billing again (first in line 3)"),
    (SMALLEST.replace("other:", "Billing:"), "mine.yaml: labels.Billing.verbalizer: got 'Billing', which the label billing has too"),
    (SMALLEST.replace("Decide", "Price ${x} or"), "mine.yaml: description: got a dollar sign with a brace"),
    (SMALLEST.partition("labels")[0] + "fields: [text]\n", "mine.yaml: labels: got nothing, expected at least two"),
    (SMALLEST.partition("\n")[2], "mine.yaml: description: got nothing, expected what a reader"),
    (SMALLEST.partition("fields")[0], "mine.yaml: fields: got nothing, expected the texts of a row"),
    (SMALLEST + "multi_label: true\n", "mine.yaml: multi_label: got a task with several labels for one row"),
    (SMALLEST + "answer: a summary\n", "mine.yaml: answer: got a task with answers in free text"),
    (SMALLEST + "instance: '{body}'\n", "mine.yaml: instance: got the field {body}, expected one of text."),
    (SMALLEST + "generation: {instruction: 'On {topic}'}\n", "mine.yaml: generation.instruction: got the field {topic}"),
    (SMALLEST + "encoder: {first: x, second: y, truncate: z}\n", "mine.yaml: encoder.truncate: got 'z', expected 'first'"),
    (SMALLEST + "generation: Write it.\n", "mine.yaml: generation: got 'Write it.', expected keys and values"),
    (SMALLEST + "instance_seed: {each: x, per_call: 0}\n", "mine.yaml: instance_seed.per_call: got 0, expected"),
    (SMALLEST + "variants: {tone: {billing: {calm: 1}, oter: {calm: 1}}}\n", "mine.yaml: variants.tone: got 'oter', expected weights by label"),
    (SMALLEST + "variants: {tone: {billing: {calm: 1}}}\n", "mine.yaml: variants.tone: got no weights for other"),
    (CHOOSING.replace("number: 3", "number: 1"), "mine.yaml: choices.number: got 1, expected a whole number from 2 to 10"),
    (CHOOSING.replace("right:", "best:"), "mine.yaml: choices: got {'best'"),
    (SMALLEST.replace("text:", "label:"), "mine.yaml: fields.label: got a name that rows cannot have"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "words"), MISTAKES)
def test_a_mistake_is_one_line_with_the_file_and_the_key(tmp_path: Path, text: str, words: str) -> None:
    assert mistake(tmp_path, text).startswith(words)


def test_a_label_of_which_no_prompt_speaks_is_named(tmp_path: Path) -> None:
    labels = "labels: [{value: a, name: a, constraint: It is a.}, {value: b, name: b, constraint: ''}]\n"
    text = "description: Sort.\nfields: [text]\n" + labels
    assert mistake(tmp_path, text).startswith("mine.yaml: labels.b.constraint: got an empty text, and no other prompt")


def test_a_task_needs_a_size_of_its_own(tmp_path: Path) -> None:
    message = mistake(tmp_path, SMALLEST + "sizes: {train: 0}\n", "mine", "synth.size=original")
    assert message.startswith("synth.size: got original, but tasks.mine.sizes does not say")


def test_a_folder_that_is_none_and_a_name_of_the_projects_are_refused(tmp_path: Path) -> None:
    assert mistake(tmp_path, SMALLEST, "cb").startswith("cb.yaml: got the name of a task of this project")
    assert "self_instruct.yaml: name: got 'self_instruct'" in mistake(tmp_path, SMALLEST, "self_instruct")
    with pytest.raises(UserError, match=r"task_dir: got .*none, which is no folder"):
        compose([f"task_dir={tmp_path / 'none'}", "task=mine"])
    (tmp_path / "mine.yaml").write_text(SMALLEST, encoding="utf-8")
    with pytest.raises(UserError, match=r"task: got 'mina', expected a file of conf/task/ or .*Did you mean 'mine'"):
        compose([f"task_dir={tmp_path}", "task=mina"])
