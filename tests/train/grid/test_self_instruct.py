"""The arm self_instruct: one model on public instruction data, scored like any mixture."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from eval.run import evaluate
from targen.config.required_files import missing_files
from targen.config.settings import Settings
from targen.runtime.errors import UserError
from tests.support.commands import command, lines
from tests.support.small_data import small_run
from train.data.rendering import prompt
from train.families.registry import family_named
from train.grid.arms import training_rows
from train.grid.cells import Cell, cells, read_done_marker
from train.grid.checkers import training_job
from train.loop.preparation import prepare
from train.plan import plan
from train.run import train

TASKS = ("cb", "rte")
ROWS: list[dict[str, Any]] = [
    {"instruction": "Name a river.", "input": "", "output": "The Rhine"},
    {"instruction": "Say what is asked for.", "input": "the colour of snow", "output": "white"},
    {"prompt": "Is a lamp alive?\n\nOutput:", "completion": " No.<|endoftext|>"},
    {"instruction": "Count to three.", "output": "one two three"},
    {"instruction": "Say nothing.", "input": "", "output": " "},
    {"instruction": "Tell a long story.", "input": "", "output": "And then. " * 40},
]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run_of(folder: Path, *overrides: str, model: str = "tiny_decoder", rows: list[dict[str, Any]] = ROWS) -> Settings:
    source = write(folder / "instructions.jsonl", rows)
    usual = [f"model={model}", "train.setting=multi", "arms=[self_instruct]", f"data.self_instruct={source}"]
    return small_run(folder, *usual, *overrides, tasks=TASKS)


def cell_of_arm(run: Settings, arm: str) -> Cell:
    return next(cell for cell in cells(run) if cell.arm == arm)


@pytest.mark.parametrize("model", ["tiny_decoder", "tiny_seq2seq"])
def test_it_is_trained_and_scored_on_the_tasks(tmp_path: Path, model: str) -> None:
    run = run_of(tmp_path, model=model)
    (cell,) = cells(run)
    assert cell.name == f"{model}-multi-cb_rte-self_instruct-s0"
    encoded = prepare(training_job(run, cell)).epoch.encoded
    tokenizer = family_named(model.removeprefix("tiny_")).load_tokenizer(run.model)
    prompts = [tokenizer.decode(example.prompt, skip_special_tokens=True) for example in encoded]
    cue = "\nAnswer:" if model == "tiny_decoder" else ""
    assert prompts == [
        f"Name a river.{cue}",
        f"Say what is asked for.\nthe colour of snow{cue}",
        f"Is a lamp alive?{cue}",
        f"Count to three.{cue}",
    ]
    learnt = [tokenizer.decode(example.right_answer, skip_special_tokens=True).strip() for example in encoded]
    assert learnt == ["The Rhine", "white", "No.", "one two three"]  # an empty and a too long answer are left out
    (planned,) = plan(run)
    train(run)
    marker = read_done_marker(run.paths, cell)
    assert marker is not None
    assert (planned.rows, planned.steps) == (marker["rows"], marker["steps"]) == (4, 1)
    assert marker["real_rows"] == 0
    evaluate(run)
    rows = lines(run.paths.scores)
    assert {(row["task"], row["arm"], row["train_rows"], row["method"]) for row in rows} == {
        ("cb", "self_instruct", 4, None),
        ("rte", "self_instruct", 4, None),
    }
    assert plan(run)[0].state == "done"


def test_as_many_rows_as_the_other_arms(tmp_path: Path) -> None:
    many = [{"instruction": f"Say {number}.", "input": "", "output": str(number)} for number in range(50)]
    arms = "arms=[none,synthetic,self_instruct]"

    def count(run: Settings, arm: str) -> int:
        return sum(len(part.rows) for part in training_rows(run, cell_of_arm(run, arm)) or ())

    run = run_of(tmp_path, arms, "train.max_rows=null", rows=many)
    assert (count(run, "synthetic"), count(run, "self_instruct")) == (20, 50)
    run = run_of(tmp_path, arms, "train.max_rows=4", rows=many)
    assert (count(run, "synthetic"), count(run, "self_instruct")) == (8, 8)  # 4 for each of two tasks
    run = run_of(tmp_path, arms, "train.equal_size=true", rows=many)
    assert (count(run, "synthetic"), count(run, "self_instruct")) == (20, 20)
    (part,) = training_rows(run, cell_of_arm(run, "self_instruct")) or ()
    assert part.rows == (training_rows(run, cell_of_arm(run, "self_instruct")) or ())[0].rows
    few = run_of(tmp_path, arms, "train.equal_size=true", rows=many[:9])
    with pytest.raises(UserError, match=r"has 9 rows and the other arms have 20\. Set train\.max_rows=4"):
        training_rows(few, cell_of_arm(few, "self_instruct"))


def test_changed_rows_are_refused_over_a_trained_cell(tmp_path: Path) -> None:
    train(run_of(tmp_path))
    changed = run_of(tmp_path, rows=[*ROWS[:3], {"instruction": "Count to two.", "output": "one two"}])
    with pytest.raises(UserError, match=r"was trained with different settings or rows: training rows was"):
        train(changed)


def test_the_prompt_has_no_question_of_a_task(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    (part,) = training_rows(run, cell_of_arm(run, "self_instruct")) or ()
    (example,) = part.task.examples(part.rows[1])
    assert prompt(part.task, example) == "Say what is asked for.\nthe colour of snow"


REFUSED = [
    (["data.self_instruct=null"], r"data\.self_instruct: got null with the arm self_instruct"),
    (["train.setting=single"], r"train\.setting: got single with the arm self_instruct"),
    (["model=tiny_encoder"], r"arms: got self_instruct with the encoder tiny_encoder"),
    (["train.instruct=true"], r"train\.instruct: got true with the arm self_instruct"),
    (["train.validate_every=5"], r"train\.validate_every: got 5 with the arm self_instruct"),
    (["train.loss=dimp"], r"train\.loss: got dimp with the arm self_instruct"),
]


@pytest.mark.parametrize(("overrides", "words"), REFUSED)
def test_what_has_no_sense_is_refused(tmp_path: Path, overrides: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        run_of(tmp_path, *overrides)


def test_missing_and_garbled_files_are_told(tmp_path: Path) -> None:
    assert missing_files(run_of(tmp_path, f"data.self_instruct={tmp_path / 'none.jsonl'}")) == [
        f"data.self_instruct: {tmp_path / 'none.jsonl'} is missing. Correct the path."
    ]
    for row, words in (
        (
            {"instruction": "Name a river."},
            r"instructions\.jsonl:2: got the fields instruction\. Expected \{instruction, input",
        ),
        ({"text": "A river."}, r"instructions\.jsonl:2: got the fields text\. Expected"),
        ({"messages": ["hello"]}, r":2: messages: got 'hello', expected \[\{role, content\}, \.\.\.\]"),
        (
            {"messages": [{"role": "agent", "content": "Hi"}, {"role": "user", "content": "Hi"}]},
            r":2: messages: got turns of agent, user, expected user, assistant",
        ),
        (
            {"messages": [{"role": ["user"], "content": "Hi"}]},
            r":2: messages: got .*'role': \['user'\].*, expected \[\{role, content",
        ),
        (
            {"messages": {"role": "user"}},
            r":2: messages: got .*, expected \[\{role, content\}, \.\.\.\] or \[\{from, value",
        ),
        (
            {"conversations": [{"from": "human", "value": 3}, {"from": "gpt", "value": "x"}]},
            r":2: instruction: got 3, expected a text",
        ),
        ({"instruction": " ", "output": "x"}, r"instructions\.jsonl:2: instruction: got '', expected a text"),
        ({"prompt": "Name", "completion": 3}, r"instructions\.jsonl:2: output: got 3, expected a text"),
    ):
        garbled = run_of(tmp_path, rows=[ROWS[0], row])
        with pytest.raises(UserError, match=words):
            train(garbled)
    silent = run_of(tmp_path, rows=[{"messages": []}, {"prompt": "Name", "completion": None}])
    with pytest.raises(UserError, match=r"instructions\.jsonl: got 2 rows, none of them with an answer"):
        train(silent)
    too_long = run_of(tmp_path, rows=[ROWS[-1]])
    with pytest.raises(UserError, match=r"has no row whose answer fits\. Set a larger train\.max_length"):
        train(too_long)


COMMON = [
    {"instruction": "Name a river.", "input": None, "output": "The Rhine"},
    {"instruction": "Name a river.", "context": "", "response": "The Rhine", "category": "open_qa"},
    {"messages": [{"role": "user", "content": "Name a river."}, {"role": "assistant", "content": "The Rhine"}]},
    {"id": "x", "conversations": [
        {"from": "gpt", "value": "Hello!"}, {"from": "human", "value": "Name a river."}, {"from": "gpt", "value": "The Rhine"},
        {"from": "human", "value": "Another."}, {"from": "gpt", "value": "The Rhone"},
    ]},
    {"conversations": [{"role": "User", "content": "Name a river."}, {"role": "model", "content": "The Rhine"}]},
    {"conversations": [{"from": "Human", "value": "Name a river."}, {"from": "GPT", "value": "The Rhine"}]},
    {"prompt": "Name a river.", "response": "The Rhine"},
    {"system_prompt": "", "question": "Name a river.", "response": "The Rhine"},
]  # fmt: skip


@pytest.mark.parametrize("as_list", [False, True])
def test_common_shapes_of_instruction_data_are_read(tmp_path: Path, as_list: bool) -> None:
    run = run_of(tmp_path, rows=COMMON)
    if as_list:  # in a file that is called .jsonl
        (tmp_path / "instructions.jsonl").write_text(json.dumps(COMMON, indent=1))
    (part,) = training_rows(run, cell_of_arm(run, "self_instruct")) or ()
    assert part.rows == tuple(
        {"instruction": "Name a river.", "input": "", "output": "The Rhine", "idx": idx} for idx in range(len(COMMON))
    )


def test_what_the_system_says_stands_before_the_question_and_a_filled_context_is_the_input(tmp_path: Path) -> None:
    turns = [("system", "Be brief."), ("user", "Name a river."), ("assistant", "The Rhine")]
    rows: list[dict[str, Any]] = [
        {"messages": [{"role": role, "content": text} for role, text in turns]},
        {"system_prompt": "Be brief.", "question": "Name a river.", "response": "The Rhine"},
        {"instruction": "Name a river.", "input": "", "context": "in Asia", "output": "", "response": "The Ganges"},
    ]
    run = run_of(tmp_path, rows=rows)
    (part,) = training_rows(run, cell_of_arm(run, "self_instruct")) or ()
    brief = {"instruction": "Be brief.\n\nName a river.", "input": "", "output": "The Rhine"}
    context = {"instruction": "Name a river.", "input": "in Asia", "output": "The Ganges"}
    assert part.rows == (brief | {"idx": 0}, brief | {"idx": 1}, context | {"idx": 2})


def test_rows_without_an_answer_are_left_out_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    unanswered: list[dict[str, Any]] = [
        {"messages": []},
        {"conversations": None},
        {"messages": [{"role": "user", "content": "Name a river."}]},
        {"messages": [{"role": "user", "content": "Name a river."}, {"role": "assistant", "content": None}]},
        {"instruction": "Name a river.", "output": None},
    ]
    run = run_of(tmp_path, rows=[*unanswered, COMMON[0]])
    with caplog.at_level(logging.INFO):
        (part,) = training_rows(run, cell_of_arm(run, "self_instruct")) or ()
    assert [row["idx"] for row in part.rows] == [5]
    assert "self_instruct: 5 of 6 rows have no answer" in caplog.text


def test_a_list_with_something_else_in_it_is_told(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    (tmp_path / "instructions.jsonl").write_text(json.dumps([COMMON[0], "Name a river."]))
    with pytest.raises(UserError, match=r"instructions\.jsonl:2: got str, expected a JSON object"):
        train(run)


def test_a_data_set_of_the_hubs_form_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "hub"
    (folder / "self_instruct").mkdir(parents=True)
    write(folder / "self_instruct" / "train.jsonl", [ROWS[2]])
    card = "---\nconfigs:\n- config_name: self_instruct\n  data_files: self_instruct/train.jsonl\n---\n"
    (folder / "README.md").write_text(card)
    run = run_of(tmp_path, f"data.self_instruct={folder}")
    (part,) = training_rows(run, cell_of_arm(run, "self_instruct")) or ()
    assert part.rows == ({"instruction": "Is a lamp alive?", "input": "", "output": "No.", "idx": 0},)


def test_the_plan_of_a_run_that_has_no_rows_yet(tmp_path: Path) -> None:
    source = write(tmp_path / "instructions.jsonl", ROWS)
    planned = command(
        "train.run", "plan=true", "model=tiny_decoder", "train.setting=multi", "arms=[none,synthetic,self_instruct]",
        f"data.self_instruct={source}", "data.source=fixture", f"run.dir={tmp_path / 'run'}",
    )  # fmt: skip
    assert planned.returncode == 0, planned.stderr
    assert "all-self_instruct-s0: to train, " in planned.stdout and ", 4 rows, " in planned.stdout
    assert "all-synthetic-s0: to train once its rows are generated, " in planned.stdout
    assert not (tmp_path / "run").exists()
