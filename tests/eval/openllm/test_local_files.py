"""Local files of the OpenLLM tasks as people have them: parts, authors' releases, numbers as texts."""

import csv
import logging
import re
from pathlib import Path
from typing import Any

import pytest

from eval.openllm.harness_output import warnings_once
from targen.config.openllm import subtasks
from targen.config.required_files import check_openllm_files
from targen.data.openllm_files import check_openllm_rows, rows_of
from targen.runtime.errors import UserError
from tests.eval.openllm.test_openllm import run_of, task_rows
from tests.support.commands import command
from tests.support.openllm_data import arc, gsm8k, hellaswag, mmlu, openllm_files, truthfulqa, winogrande, write

NO_EXAMPLES = "eval.openllm.num_fewshot=0"


def write_csv(path: Path, rows: list[dict[str, Any]], header: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        if header:
            writer.writerow(header.split(","))
        writer.writerows([row["question"], *row["choices"], "ABCD"[row["answer"]]] for row in rows)


def test_some_subjects_of_mmlu_are_scored_and_called_that(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    openllm_files(tmp_path)
    for folder in (tmp_path / "mmlu").iterdir():
        if folder.name not in ("anatomy", "virology"):
            for file in folder.iterdir():
                file.unlink()
    with caplog.at_level(logging.WARNING):
        rows = task_rows(run_of(tmp_path, suite="openllm_4"))
    assert "average" not in rows  # the suite's average is that of all subjects
    assert rows["mmlu"]["origin"] == "MMLU, 2 of 57 parts (anatomy, virology), test, local files"
    assert (rows["mmlu"]["n"], rows["mmlu"]["rows_in_split"]) == (2, 2)
    assert "mmlu is scored on 2 of 57 parts (anatomy, virology), since there are no files of the others" in caplog.text
    (tmp_path / "mmlu" / "anatomy" / "dev.jsonl").unlink()  # its examples
    with pytest.raises(UserError, match=r"lacks mmlu/anatomy/dev\.jsonl\. Add them"):
        task_rows(run_of(tmp_path, "eval.openllm.tasks=[mmlu]"))


@pytest.mark.parametrize("layout", ["test/anatomy_test.csv", "data/test/anatomy_test.csv", "anatomy/test.csv"])
def test_mmlus_own_csv_files(tmp_path: Path, layout: str) -> None:
    rows = [{**row, "question": f'{row["question"]}\n"Or, so," which'} for row in mmlu("anatomy", 3)]
    write(tmp_path / "jsonl" / "mmlu" / "anatomy" / "test.jsonl", rows)
    write(tmp_path / "jsonl" / "mmlu" / "anatomy" / "dev.jsonl", mmlu("anatomy", 5))
    write_csv(tmp_path / "csv" / "mmlu" / layout, rows)
    dev = tmp_path / "csv" / "mmlu" / layout.replace("test", "dev")
    write_csv(dev, mmlu("anatomy", 5), header="Question,choice_a,choice_b,choice_c,choice_d,Answer")
    runs = (run_of(tmp_path / name, "eval.openllm.tasks=[mmlu]") for name in ("jsonl", "csv"))
    jsonl, converted = (task_rows(run)["mmlu"] for run in runs)
    assert (jsonl["value"], jsonl["evaluated"], jsonl["n"]) == (converted["value"], converted["evaluated"], 3)
    assert converted["origin"].endswith("test, local files (converted)")


def test_choices_that_are_numbers_are_asked_as_their_digits(tmp_path: Path) -> None:
    numbers = {**mmlu("anatomy", 1)[0], "choices": [1, 2, 2.5, 4]}
    write(tmp_path / "numbers" / "mmlu" / "anatomy" / "test.jsonl", [numbers])
    write(tmp_path / "texts" / "mmlu" / "anatomy" / "test.jsonl", [{**numbers, "choices": ["1", "2", "2.5", "4"]}])
    overrides = ("eval.openllm.tasks=[mmlu]", NO_EXAMPLES)
    as_numbers, as_texts = (task_rows(run_of(tmp_path / name, *overrides))["mmlu"] for name in ("numbers", "texts"))
    assert as_numbers["value"] == as_texts["value"]


def test_authors_files_of_arc_hellaswag_and_winogrande(tmp_path: Path) -> None:
    hub, released = openllm_files(tmp_path / "hub"), tmp_path / "released"
    questions = [
        {
            "id": f"q{number}",
            "question": {
                "stem": row["question"],
                "choices": [
                    {"text": text, "label": label}
                    for text, label in zip(row["choices"]["text"], row["choices"]["label"], strict=True)
                ],
            },
            "answerKey": row["answerKey"],
        }
        for number, row in enumerate(arc(6))
    ]
    write(released / "arc_challenge" / "ARC-Challenge-Test.jsonl", questions)
    write(released / "hellaswag" / "hellaswag_val.jsonl", [{**row, "label": int(row["label"])} for row in hellaswag(6)])
    write(released / "winogrande" / "dev.jsonl", [{**row, "qID": "x", "answer": 1} for row in winogrande(4)])
    overrides = ["eval.openllm.tasks=[arc_challenge,hellaswag,winogrande]", NO_EXAMPLES]
    hub_rows, released_rows = task_rows(run_of(hub, *overrides)), task_rows(run_of(released, *overrides))
    assert [row["value"] for row in hub_rows.values()] == [row["value"] for row in released_rows.values()]
    assert hub_rows["hellaswag"]["evaluated"] == released_rows["hellaswag"]["evaluated"]


@pytest.mark.parametrize("spell", [str, lambda answer: "ABCD"[answer], lambda answer: "abcd"[answer]])
def test_an_answer_of_mmlu_as_digits_or_a_letter(tmp_path: Path, spell: Any) -> None:
    """An earlier version compared the text with a number, so that every answer counted as wrong."""
    rows = mmlu("anatomy", 4)
    write(tmp_path / "one" / "mmlu" / "anatomy" / "test.jsonl", rows)
    texts = [{**row, "answer": spell(row["answer"])} for row in rows]
    write(tmp_path / "other" / "mmlu" / "anatomy" / "test.jsonl", texts)
    overrides = ["eval.openllm.tasks=[mmlu]", NO_EXAMPLES]
    as_numbers, as_texts = (task_rows(run_of(tmp_path / name, *overrides))["mmlu"] for name in ("one", "other"))
    assert as_numbers["value"] == as_texts["value"] > 0


REFUSED = [
    ("mmlu/anatomy/test", {**mmlu("anatomy", 1)[0], "answer": "4"}, r"answer: got '4', expected 0 to 3 or A to D"),
    ("mmlu/anatomy/test", {**mmlu("anatomy", 1)[0], "choices": ["a", "b"]}, r"choices: got 2, expected 4"),
    ("winogrande/validation", {**winogrande(1)[0], "answer": ""}, r"answer: got '', expected 1 or 2"),
    ("winogrande/validation", {**winogrande(1)[0], "sentence": "No gap."}, r"sentence: got no _"),
    ("hellaswag/validation", {**hellaswag(1)[0], "label": ""}, r"label: got '', expected 0 to 3"),
    ("mmlu/anatomy/test", {**mmlu("anatomy", 1)[0], "answer": True}, r"answer: got True, expected 0 to 3"),
    ("arc_challenge/test", {**arc(1)[0], "answerKey": "E"}, r"answerKey: got 'E', expected one of A, B, C, D"),
    ("gsm8k/test", {**gsm8k(1)[0], "answer": "18"}, r"answer: got '18', expected a solution that ends with ####"),
]


@pytest.mark.parametrize(("file", "row", "words"), REFUSED)
def test_an_answer_that_no_model_could_give_is_refused(
    tmp_path: Path, file: str, row: dict[str, Any], words: str
) -> None:
    write(tmp_path / f"{file}.jsonl", [row])
    task = file.partition("/")[0]
    with pytest.raises(UserError, match=rf"\.jsonl:1: got a row that cannot be read \({words}"):
        task_rows(run_of(tmp_path, f"eval.openllm.tasks=[{task}]", NO_EXAMPLES))


ARC, SWAG, MMLU, GRANDE = arc(1)[0], hellaswag(1)[0], mmlu("anatomy", 1)[0], winogrande(1)[0]
TRUTH, MATHS = truthfulqa(1)[0], gsm8k(1)[0]
FAULTS = [  # the harness would end with an error of its own after training, or give a score that no model can change
    ("arc_challenge/test", {**ARC, "question": None}, "question: got 'None', expected a text"),
    ("arc_challenge/test", {**ARC, "question": " "}, "question: got an empty text"),
    ("arc_challenge/test", {**ARC, "choices": {"text": ["a", "b"], "label": ["A", "B", "C"]}}, "choices: got 2 texts and 3 labels"),
    ("arc_challenge/test", {**ARC, "choices": {"text": ["a", ""], "label": ["A", "B"]}}, "choices.text: got an empty text"),
    ("arc_challenge/test", {**ARC, "choices": {"text": [None, "b"], "label": ["A", "B"]}}, "choices.text: got 'None', expected a text"),
    ("arc_challenge/test", {**ARC, "choices": {"text": ["a"], "label": ["A"]}}, "choices.text: got 1, expected two at least"),
    ("arc_challenge/test", {**ARC, "choices": {"text": ["a", "b"], "label": ["A", "A"]}}, "choices.label: got A, A, expected each"),
    ("arc_challenge/test", {**ARC, "choices": None}, "TypeError"),
    ("hellaswag/validation", {**SWAG, "ctx_b": None}, "ctx_b: got 'None', expected a text"),
    ("hellaswag/validation", {**SWAG, "endings": ["she runs.", "[header]", "c", "d"]}, "endings without what is in brackets: got an"),
    ("hellaswag/validation", {**SWAG, "endings": "abcd"}, "endings: got 'abcd', expected a list of texts"),
    ("mmlu/anatomy/test", {**MMLU, "question": 5}, "question: got '5', expected a text"),
    ("mmlu/anatomy/test", {**MMLU, "choices": "abcd"}, "choices: got 'abcd', expected a list of texts"),
    ("truthfulqa/validation", {**TRUTH, "mc2_targets": {"choices": ["a", "b"], "labels": [1]}}, "mc2_targets: got 2 choices and 1 labels"),
    ("truthfulqa/validation", {**TRUTH, "mc2_targets": {"choices": ["a", "b"], "labels": ["1", "0"]}}, "mc2_targets.labels: got '1', expected 0 or 1"),
    ("truthfulqa/validation", {**TRUTH, "mc2_targets": {"choices": ["a", "b"], "labels": [0, 0]}}, "mc2_targets.labels: got 0 alone"),
    ("truthfulqa/validation", {**TRUTH, "mc2_targets": {"choices": ["a", " "], "labels": [0, 1]}}, "mc2_targets.choices: got an empty text"),
    ("winogrande/validation", {**GRANDE, "option2": ""}, "option2: got an empty text"),
    ("winogrande/validation", {**GRANDE, "sentence": "The lamp is too large for the _"}, "sentence: got nothing behind _"),
    ("gsm8k/test", {**MATHS, "answer": "Two.\n#### two"}, "answer: got 'Two.\\n#### two', expected a solution that ends"),
    ("gsm8k/test", {**MATHS, "answer": "1 + 1\n####2"}, "answer: got '1 + 1\\n####2', expected a solution that ends"),
    ("gsm8k/test", {**MATHS, "question": ""}, "question: got an empty text"),
]  # fmt: skip


def test_an_example_that_is_only_shown_may_have_nothing_to_compare(tmp_path: Path) -> None:
    openllm_files(tmp_path)
    path = next((tmp_path / "winogrande").glob("train*"))
    rows = [{**row, "sentence": "The lamp is too large for the _"} for row in winogrande(8)]
    write(path, rows)
    check_rows(tmp_path, "winogrande")


def check_rows(folder: Path, task: str, *more: str) -> None:
    """The check that a run makes before it calls a language model or trains."""
    check_openllm_rows(run_of(folder, f"eval.openllm.tasks=[{task}]", *(more or [NO_EXAMPLES])).eval.openllm)


@pytest.mark.parametrize(("file", "row", "words"), FAULTS)
def test_faults_that_the_harness_would_meet_late_are_told_before_a_run(
    tmp_path: Path, file: str, row: dict[str, Any], words: str
) -> None:
    write(tmp_path / f"{file}.jsonl", [row])
    task = file.partition("/")[0].replace("truthfulqa", "truthfulqa_mc2")
    with pytest.raises(
        UserError, match=rf"{Path(file).name}\.jsonl:1: got a row that cannot be read \({re.escape(words)}"
    ) as error:
        check_rows(tmp_path, task)
    assert len(str(error.value).splitlines()) == 1


def test_faults_of_a_whole_file_are_told_before_a_run(tmp_path: Path) -> None:
    path = tmp_path / "arc_challenge" / "test.jsonl"
    write(path, [])
    with pytest.raises(UserError, match=r"test\.jsonl: got no row, expected rows of arc_challenge\. Replace it\."):
        check_rows(tmp_path, "arc_challenge")
    write(path, [{**row, "id": number or "first"} for number, row in enumerate(arc(2))])
    with pytest.raises(UserError, match=r":2: got a number as id, expected a text as in 1, since a field has one type"):
        check_rows(tmp_path, "arc_challenge")
    write(path, [{**row, "notes": [["x"], [1]][number]} for number, row in enumerate(arc(2))])
    with pytest.raises(UserError, match=r":2: got a number as notes\[\], expected a text as in 1"):
        check_rows(tmp_path, "arc_challenge")
    write(path, [{**row, "level": [1, 2.5, None][number]} for number, row in enumerate(arc(3))])
    check_rows(tmp_path, "arc_challenge")  # the harness takes these as numbers
    write(tmp_path / "winogrande" / "validation.jsonl", winogrande(2))
    write(tmp_path / "winogrande" / "train.jsonl", winogrande(5))
    with pytest.raises(
        UserError, match=r"train\.jsonl: got 5 rows, expected at least 6, the examples that .* and one more"
    ):
        check_rows(tmp_path, "winogrande", "eval.openllm.num_fewshot=5")
    check_rows(tmp_path, "winogrande", "eval.openllm.num_fewshot=4")


def test_blanks_behind_the_number_of_a_solution_count_for_nothing(tmp_path: Path) -> None:
    """The harness compares it with what a model wrote, character by character."""
    write(tmp_path / "gsm8k" / "test.jsonl", [{**row, "answer": f"{row['answer']} \n"} for row in gsm8k(2)])
    (subtask,) = subtasks(run_of(tmp_path, "eval.openllm.tasks=[gsm8k]", NO_EXAMPLES).eval.openllm)
    assert rows_of(tmp_path / "gsm8k" / "test.jsonl", subtask, "test") == (gsm8k(2), True)


def test_garbled_csv_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "mmlu" / "test" / "anatomy_test.csv"
    write_csv(path, mmlu("anatomy", 2))
    path.write_text(path.read_text() + "only,three,cells\n")
    with pytest.raises(UserError, match=r"anatomy_test\.csv:3: got 3 columns, expected 6"):
        task_rows(run_of(tmp_path, "eval.openllm.tasks=[mmlu]", NO_EXAMPLES))
    write_csv(path, [{**row, "question": "One,\ntwo"} for row in mmlu("anatomy", 2)])
    path.write_text(path.read_text() + 'Is it "?,a,b,c,d,A\n"It is "what"?",a,b,c,d,A\n')
    with pytest.raises(UserError, match=r"anatomy_test\.csv:6: got a row that is no CSV \(.*\), expected the question"):
        task_rows(run_of(tmp_path, "eval.openllm.tasks=[mmlu]", NO_EXAMPLES))


def test_files_of_other_names_are_named_where_those_of_a_task_are_missing(tmp_path: Path) -> None:
    for subject in ("Anatomy", "Astronomy", "Biology", "Virology"):
        write(tmp_path / "mmlu" / subject / "test.jsonl", mmlu(subject, 1))
    write(tmp_path / "arc_challenge" / "test.jsonl", arc(1))
    files = "mmlu/Anatomy/test.jsonl, mmlu/Astronomy/test.jsonl, mmlu/Biology/test.jsonl and 1 more"
    with pytest.raises(UserError, match=rf"and 54 more like them, where there are {files}\. Add them"):
        check_openllm_files(run_of(tmp_path, "eval.openllm.tasks=[mmlu]", NO_EXAMPLES))


def test_a_folder_that_does_not_exist_is_called_that(tmp_path: Path) -> None:
    done = command(
        "eval.run", "model=tiny_decoder", "arms=[none]", "task=cb", "eval.superglue=false",
        "eval.openllm.suite=openllm_4", f"eval.openllm.data_dir={tmp_path / 'none'}", f"run.dir={tmp_path / 'run'}",
    )  # fmt: skip
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1
    assert f"eval.openllm.data_dir: got {tmp_path / 'none'}, which is no folder" in done.stderr


def test_a_warning_of_the_harness_is_shown_once_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), warnings_once("gsm8k"):
        for number in range(5):
            logging.getLogger("lm_eval.models.huggingface").warning(f"Prompt of {number} tokens is too long")
        logging.getLogger("lm_eval.api.task").warning("No filter defined")
        logging.getLogger("lm_eval.api.task").info("not shown")
    assert [record.getMessage() for record in caplog.records] == [
        "openllm: the harness says: Prompt of 0 tokens is too long",
        "openllm: the harness says: No filter defined",
        "openllm: gsm8k: 4 more of the harness's warnings were like these",
    ]
    assert {record.name for record in caplog.records} == {"eval.openllm.harness_output"}
