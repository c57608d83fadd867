"""Archives for the leaderboard: official names and spellings, a warning where incomplete, equal bytes, no row predicted twice."""

import json
import logging
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from datasets import ClassLabel, Dataset, Features, Value

from eval.run import evaluate
from eval.scoring.baseline import gold_of
from eval.scoring.evaluation_rows import EvaluationRows
from eval.scoring.metrics import Prediction
from eval.scoring.ready_cells import ReadyCell
from eval.submission.__main__ import main
from eval.submission.archive_format import archive_problems, file_names
from eval.submission.archives import Predict, archive_cells, write_archives, zip_bytes
from targen.config.groups.data import Data
from targen.config.required_files import local_file, missing_files
from targen.config.settings import Settings
from targen.data.original import FIXTURE, leaderboard_split, read_rows
from targen.runtime.errors import UserError
from targen.tasks.task import Task
from tests.support.commands import ALL_TASKS, ORIGINALS, TASKS, files, settings
from tests.support.commands import lines as lines_of
from tests.support.small_data import SPECS, model_of, small_overrides, small_run, tiny_overrides
from train.grid.cells import cells
from train.run import train
from train.runtime.processes import Processes

FOLDERS = {SPECS[name].folder: name for name in TASKS}


def unlabelled(row: dict[str, Any]) -> dict[str, Any]:
    """The row as a test split has it."""
    row = {key: value for key, value in row.items() if key != "label"}
    if "qas" in row:
        row["qas"] = [{key: value for key, value in query.items() if key != "answers"} for query in row["qas"]]
    if "questions" in row.get("passage", {}):
        row["passage"] = {
            **row["passage"],
            "questions": [without(question, "label") for question in row["passage"]["questions"]],
        }
    return row


def without(question: dict[str, Any], *keys: str) -> dict[str, Any]:
    """A question of MultiRC whose answers lack these keys."""
    answers = [{key: value for key, value in answer.items() if key not in keys} for answer in question["answers"]]
    return {**question, "answers": answers}


def with_test_splits(
    folder: Path, *overrides: str, tasks: tuple[str, ...] = TASKS, model: str = "tiny_encoder"
) -> Settings:
    """A run with the fixture as test splits, labels hidden."""
    for name in set(tasks) - {"axb", "axg"}:  # whose test splits are labelled, and their evaluation splits
        task = SPECS[name]
        rows = read_rows(local_file(FIXTURE, task, task.eval_split), task)
        path = folder / "data" / task.folder / "test.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(unlabelled(row)) + "\n" for row in rows))
    usual = [f"model={model}", "arms=[synthetic]", "eval.submission=true"]
    return settings(*small_overrides(folder, *usual, *overrides, tasks=tasks))


def right_answers(name: str) -> list[Any]:
    """The labels of the fixture's official rows; ReCoRD: the first answer of each query."""
    rows = read_rows(local_file(FIXTURE, SPECS[name], SPECS[name].eval_split), SPECS[name])
    if name == "record":
        return [query["answers"][0]["text"] for row in rows for query in row["qas"]]
    return [row["label"] for row in rows]


def oracle(ready: ReadyCell, task: Task, split: EvaluationRows) -> list[Prediction]:
    """The fixture's right answers."""
    assert all(not example.gold for example in split.examples) or task.name in ("axb", "axg")
    rows = read_rows(local_file(FIXTURE, task, task.eval_split), task)
    gold = {e.id: gold_of(task, e)[0] for row in rows for e in task.examples(row)}
    return [Prediction(example.id, (), gold[example.id], {}, groups=example.groups) for example in split.examples]


def archives_of(run: Settings, predict: Predict = oracle) -> list[Path]:
    return write_archives(run, Processes(), [ReadyCell(cell, {}) for cell in cells(run)], predict)


def contents_of(path: Path) -> dict[str, list[dict[str, Any]]]:
    with zipfile.ZipFile(path) as archive:
        return {name: [json.loads(line) for line in archive.read(name).splitlines()] for name in archive.namelist()}


def test_the_right_answers_are_submitted_in_the_official_spelling(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = with_test_splits(tmp_path)
    with caplog.at_level(logging.INFO):
        (path,) = archives_of(run)
    assert path == tmp_path / "run" / "submission" / "tiny_encoder-single-all-synthetic-s0.zip"
    archive = contents_of(path)
    assert sorted(archive) == sorted(f"{folder}.jsonl" for folder in FOLDERS)
    spelling = {"BoolQ": {True: "true", False: "false"}, "WiC": {True: "true", False: "false"}}
    spelling["WSC"] = {True: "True", False: "False"}
    for folder, name in FOLDERS.items():
        expected = [spelling.get(folder, {}).get(label, label) for label in right_answers(name)]
        assert archive[f"{folder}.jsonl"] == [{"idx": idx, "label": label} for idx, label in enumerate(expected)]
    assert {type(line["label"]) for line in archive["COPA.jsonl"]} == {int}
    assert archive["CB.jsonl"][:3] == [
        {"idx": 0, "label": "entailment"}, {"idx": 1, "label": "neutral"}, {"idx": 2, "label": "contradiction"}
    ]  # fmt: skip
    log_text = caplog.text
    assert "CB.jsonl: got 10 of 250 idx, expected all; the first missing one is 10." in log_text
    assert "lacks AX-b.jsonl, MultiRC.jsonl: this run does not have their tasks" in log_text


def test_answers_of_all_ten_tasks_are_in_one_archive_and_those_of_multirc_nested(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        (path,) = archives_of(with_test_splits(tmp_path, tasks=ALL_TASKS))
    archive = contents_of(path)
    assert sorted(archive) == file_names()
    assert "lacks" not in caplog.text
    assert "MultiRC.jsonl: got 16 of 1820 question idx, expected all; the first missing one is 16." in caplog.text
    assert [line["label"] for line in archive["AX-b.jsonl"]] == right_answers("axb")
    for line, row in zip(archive["MultiRC.jsonl"], lines_of(FIXTURE / "MultiRC" / "val.jsonl"), strict=True):
        questions = [without(question, "text") for question in row["passage"]["questions"]]
        expected = [{"idx": question["idx"], "answers": question["answers"]} for question in questions]
        assert line == {"idx": row["idx"], "passage": {"questions": expected}}


def test_an_unreadable_answer_of_multirc_is_an_empty_text_and_told(tmp_path: Path) -> None:
    run = with_test_splits(tmp_path, tasks=("multirc",))
    (path,) = archives_of(
        run, lambda ready, task, split: [replace(answer, prediction=None) for answer in oracle(ready, task, split)]
    )
    lines = contents_of(path)["MultiRC.jsonl"]
    labels = {
        answer["label"] for line in lines for question in line["passage"]["questions"] for answer in question["answers"]
    }
    assert labels == {""}
    assert any(
        problem.endswith('got "", expected the label 0 or 1. 59 lines are like this.')
        for problem in archive_problems(path)
    )


def test_the_same_answers_are_the_same_bytes(tmp_path: Path) -> None:
    run = with_test_splits(tmp_path, tasks=("cb", "wsc"))
    (path,) = archives_of(run)
    assert path.name == "tiny_encoder-single-cb_wsc-synthetic-s0.zip"
    first = path.read_bytes()
    path.unlink()
    archives_of(run)
    assert path.read_bytes() == first
    test_file = tmp_path / "data" / "WSC" / "test.jsonl"
    test_file.write_text("".join(test_file.read_text().splitlines(keepends=True)[:4]))
    archives_of(run)
    assert path.read_bytes() != first and len(contents_of(path)["WSC.jsonl"]) == 4
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_files_that_were_put_into_an_archive_stay_in_it(tmp_path: Path) -> None:
    run = with_test_splits(tmp_path, tasks=("cb",))
    (path,) = archives_of(run)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("AX-b.jsonl", '{"idx": 0, "label": "entailment"}\n')
    archives_of(run)
    assert contents_of(path)["AX-b.jsonl"] == [{"idx": 0, "label": "entailment"}]
    assert len(contents_of(path)["CB.jsonl"]) == 10
    path.write_bytes(b"no zip")
    archives_of(run)
    assert list(contents_of(path)) == ["CB.jsonl"]


def test_single_cells_share_an_archive_by_arm_and_seed_and_a_mixture_has_its_own() -> None:
    single = settings("arms=[original,synthetic]", "seeds=[0,1]")
    names = [archive.name for archive, _ in archive_cells(cells(single))]
    assert names == [f"minilm-single-all-{arm}-s{seed}" for arm in ("original", "synthetic") for seed in (0, 1)]
    assert all(len(parts) == 8 for _, parts in archive_cells(cells(single)))
    multi = settings("train.setting=multi", "task=[cb,copa]", "arms=[synthetic]")
    assert [archive.name for archive, _ in archive_cells(cells(multi))] == ["minilm-multi-cb_copa-synthetic-s0"]
    alone = settings("task=[cb]", "arms=[synthetic]")
    assert [archive.name for archive, _ in archive_cells(cells(alone))] == [cell.name for cell in cells(alone)]


def test_an_unreadable_answer_is_an_empty_text_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = with_test_splits(tmp_path, tasks=("boolq",))

    def silent(ready: ReadyCell, task: Task, split: EvaluationRows) -> list[Prediction]:
        return [Prediction(example.id, (), "yes" if example.id else None, {}) for example in split.examples]

    (path,) = archives_of(run, silent)
    assert [line["label"] for line in contents_of(path)["BoolQ.jsonl"][:2]] == ["", "true"]
    assert "1 of 10 answers to BoolQ could not be read" in caplog.text
    assert 'BoolQ.jsonl:1: got "", expected the label "true" or "false".' in archive_problems(path)


def test_a_part_of_a_test_split_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = with_test_splits(tmp_path, tasks=("record",))
    folder = tmp_path / "data" / "ReCoRD"
    (folder / "test.jsonl").rename(folder / "test_partial.jsonl")
    (path,) = archives_of(run)
    count = len(right_answers("record"))
    assert f"ReCoRD.jsonl: got {count} of 10000 idx, expected all; the first missing one is {count}." in caplog.text
    assert len(contents_of(path)["ReCoRD.jsonl"]) == count


def test_missing_test_splits_are_told_before_anything_runs(tmp_path: Path) -> None:
    run = small_run(tmp_path, "arms=[synthetic]", "eval.submission=true", tasks=("cb", "axg"))
    (problem,) = missing_files(run)
    assert "CB/test.jsonl is missing" in problem and "leave cb out, or set eval.submission=false" in problem
    assert missing_files(small_run(tmp_path, "arms=[synthetic]", tasks=("cb", "axg"))) == []
    with pytest.raises(UserError, match=r"eval\.submission: got true with data\.source=fixture"):
        settings("data.source=fixture", "arms=[synthetic]", "eval.submission=true")
    with pytest.raises(UserError, match=r"eval\.submission: got true, but the test split of CB is not available"):
        leaderboard_split(Data("hub", None, "nobody/nothing", "fixture"), SPECS["cb"])


def test_a_row_that_stands_twice_in_a_test_split_is_told(tmp_path: Path) -> None:
    run = with_test_splits(tmp_path, tasks=("cb",))
    path = tmp_path / "data" / "CB" / "test.jsonl"
    path.write_text(path.read_text() + path.read_text().splitlines()[3])
    with pytest.raises(UserError, match=r"CB/test\.jsonl: idx 3 of CB occurs more than once"):
        archives_of(run)


def test_a_test_split_of_the_mirror_is_read_with_its_labels_hidden(tmp_path: Path) -> None:
    names = ["entailment", "contradiction", "neutral"]
    rows = [unlabelled(dict(row)) for row in read_rows(FIXTURE / "CB" / "val.jsonl", SPECS["cb"])]
    kinds = {
        "premise": Value("string"),
        "hypothesis": Value("string"),
        "idx": Value("int32"),
        "label": ClassLabel(names=names),
    }
    (tmp_path / "cb").mkdir()
    Dataset.from_list([row | {"label": -1} for row in rows], features=Features(kinds)).to_parquet(
        tmp_path / "cb" / "test-00000-of-00001.parquet"
    )
    (tmp_path / "README.md").write_text(
        "---\nconfigs:\n- config_name: cb\n  data_files:\n  - split: test\n    path: cb/test-*\n---\n"
    )
    split = leaderboard_split(Data("hub", None, str(tmp_path), None), SPECS["cb"])
    assert list(split.rows) == rows and split.origin == f"{tmp_path} test"


def lengthen_splits(folder: Path) -> None:
    """Makes each test split as long as the official one, by repeating its rows; ReCoRD keeps its few."""
    for name in set(TASKS) - {"record"}:
        task = SPECS[name]
        path = folder / "data" / task.folder / "test.jsonl"
        rows = lines_of(path)
        size = task.sizes["test"]
        path.write_text("".join(json.dumps(rows[idx % len(rows)] | {"idx": idx}) + "\n" for idx in range(size)))


def first_choice(ready: ReadyCell, task: Task, split: EvaluationRows) -> list[Prediction]:
    names = [label.name for label in task.labels]
    return [Prediction(e.id, (), names[0] if names else e.choices[0], {}) for e in split.examples]


def test_test_splits_of_the_official_size_give_complete_files(tmp_path: Path) -> None:
    """As with the original test splits below, on rows of our own: only ReCoRD's rest and files of other tasks are missing."""
    run = with_test_splits(tmp_path)
    lengthen_splits(tmp_path)
    (path,) = archives_of(run, first_choice)
    record = len(right_answers("record"))
    assert archive_problems(path) == [
        "AX-b.jsonl: got none, expected it in the archive. Add it.",
        "MultiRC.jsonl: got none, expected it in the archive. Add it.",
        f"ReCoRD.jsonl: got {record} of 10000 idx, expected all; the first missing one is {record}.",
    ]


@pytest.mark.skipif(not ORIGINALS.is_dir(), reason=f"{ORIGINALS} is not there")
def test_the_original_test_splits_give_files_of_the_official_size(tmp_path: Path) -> None:
    """Every answer is the first possible one; nothing but ReCoRD's part and the files of other tasks is missing."""
    run = settings("arms=[synthetic]", "data.source=local", f"data.dir={ORIGINALS}", f"run.dir={tmp_path}")
    (path,) = archives_of(run, first_choice)
    assert archive_problems(path) == [
        "AX-b.jsonl: got none, expected it in the archive. Add it.",
        "MultiRC.jsonl: got none, expected it in the archive. Add it.",
        "ReCoRD.jsonl: got 5 of 10000 idx, expected all; the first missing one is 5.",
    ]


def test_the_evaluate_phase_submits_what_its_models_say_of_all_test_rows_and_asks_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tasks = ("copa", "rte")
    with_test_splits(tmp_path, tasks=tasks)
    overrides = ["eval.submission=true", "eval.max_rows=4", "train.setting=multi"]
    run = settings(*tiny_overrides(tmp_path, *overrides, tasks=tasks))
    train(run)
    evaluate(run)
    folder = tmp_path / "run" / "submission"
    (path,) = folder.glob("*.zip")
    assert path.name == "tiny_encoder-multi-copa_rte-synthetic-s0.zip"
    archive = contents_of(path)
    for name in tasks:
        predicted = lines_of(folder / "predictions" / f"{path.stem}.{name}.jsonl")
        assert [(line["idx"], line["gold"]) for line in predicted] == [(idx, []) for idx in range(10)]
        values = {label.name: label.value for label in SPECS[name].labels}
        expected = [{"idx": line["idx"], "label": values[line["prediction"]]} for line in predicted]
        assert archive[f"{SPECS[name].folder}.jsonl"] == expected
    assert {row["n"] for row in lines_of(run.paths.scores)} == {4}
    before = files(folder)
    (weights,) = model_of(run).glob("*.safetensors")
    weights.rename(tmp_path / weights.name)  # no model can be loaded, and none is: nothing is asked again
    evaluate(run)
    assert files(folder) == before
    (tmp_path / weights.name).rename(weights)
    test_file = tmp_path / "data" / "RTE" / "test.jsonl"
    test_file.write_text("".join(test_file.read_text().splitlines(keepends=True)[:6]))
    evaluate(run)
    assert "was predicted on RTE/test.jsonl before and is predicted again" in caplog.text
    assert [len(rows) for rows in contents_of(path).values()] == [10, 6]
    (tmp_path / "data" / "RTE" / "test.jsonl").unlink()
    run.paths.scores.unlink()
    with pytest.raises(UserError, match=r"RTE/test\.jsonl is missing"):
        evaluate(run)
    assert not run.paths.scores.exists()  # it was told before anything was computed


# ---- the check of an archive

SIZES = {
    "BoolQ": 3245,
    "CB": 250,
    "COPA": 500,
    "ReCoRD": 10000,
    "RTE": 3000,
    "WiC": 1400,
    "WSC": 146,
    "AX-b": 1104,
    "AX-g": 356,
}
LABELS = {"BoolQ": "true", "CB": "neutral", "COPA": 1, "ReCoRD": "Kenya", "WiC": "false", "WSC": "False"}


def multirc() -> list[dict[str, Any]]:
    """Passages with all questions in the last one, and all further answers in the last question."""
    questions = [{"idx": idx, "answers": [{"idx": idx, "label": idx % 2}]} for idx in range(1820)]
    questions[-1]["answers"] = [{"idx": idx, "label": 0} for idx in range(1819, 9693)]
    last = {"idx": 165, "passage": {"questions": questions}}
    return [*({"idx": idx, "passage": {"questions": []}} for idx in range(165)), last]


def swapped(first: int, second: int) -> list[dict[str, Any]]:
    """multirc() with its questions over two passages, of which two are swapped."""
    *rest, passage, last = multirc()
    questions = last["passage"]["questions"]
    questions[first], questions[second] = questions[second], questions[first]
    halves = (
        {**row, "passage": {"questions": part}} for row, part in ((passage, questions[:900]), (last, questions[900:]))
    )
    return [*rest, *halves]


def lines(rows: Sequence[object]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@pytest.fixture(scope="module")
def complete_files() -> dict[str, bytes]:
    """All files of a complete archive without problems."""
    flat = {
        f"{folder}.jsonl": lines([{"idx": idx, "label": LABELS.get(folder, "not_entailment")} for idx in range(size)])
        for folder, size in SIZES.items()
    }
    return {**flat, "MultiRC.jsonl": lines(multirc())}


def test_a_whole_archive_has_no_problem(
    complete_files: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sorted(complete_files) == file_names()
    path = tmp_path / "whole.zip"
    path.write_bytes(zip_bytes(complete_files))
    assert main([str(path)]) == 0
    assert capsys.readouterr().out == f"{path}: complete and well-formed\n"


CB = [{"idx": idx, "label": "neutral"} for idx in range(250)]
BROKEN = [  # file, its content, its problems
    ("CB.jsonl", lines(CB[:249]), ["CB.jsonl: got 249 of 250 idx, expected all; the first missing one is 249."]),
    ("CB.jsonl", lines([*CB, CB[3]]), ["CB.jsonl:251: got idx 3 again, expected each idx exactly once."]),
    ("CB.jsonl", lines([*CB, {"idx": 250, "label": "neutral"}]), ["CB.jsonl:251: got 250, expected an integer from 0 to 249 as idx."]),
    ("CB.jsonl", lines([{**row, "label": 2} for row in CB]), ['CB.jsonl:1: got 2, expected the label "entailment" or "contradiction" or "neutral". 250 lines are like this.']),
    ("CB.jsonl", lines([{**CB[0], "idx": "0"}, *CB[1:]]), ['CB.jsonl:1: got "0", expected an integer from 0 to 249 as idx.', "CB.jsonl: got 249 of 250 idx, expected all; the first missing one is 0."]),
    ("CB.jsonl", lines([*CB[:249], {"idx": 249}]), ["CB.jsonl:250: got '{\"idx\": 249}', expected an object with the keys \"idx\" and \"label\".", "CB.jsonl: got 249 of 250 idx, expected all; the first missing one is 249."]),
    ("CB.jsonl", lines(CB) + b"\xff\n", ["CB.jsonl:251: got '\ufffd', expected an object with the keys \"idx\" and \"label\"."]),
    ("CB.jsonl", lines(CB) + b"[" * 100_000, ["CB.jsonl:251: got '" + "[" * 60 + "', expected an object with the keys \"idx\" and \"label\"."]),
    ("BoolQ.jsonl", lines([{"idx": idx, "label": True} for idx in range(3245)]), ['BoolQ.jsonl:1: got true, expected the label "true" or "false". 3245 lines are like this.']),
    ("WSC.jsonl", lines([{"idx": idx, "label": "true"} for idx in range(146)]), ['WSC.jsonl:1: got "true", expected the label "True" or "False". 146 lines are like this.']),
    ("COPA.jsonl", lines([{"idx": idx, "label": True} for idx in range(500)]), ["COPA.jsonl:1: got true, expected the label 0 or 1. 500 lines are like this."]),
    ("ReCoRD.jsonl", lines([{"idx": idx, "label": ["Kenya"]} for idx in range(10_000)]), ['ReCoRD.jsonl:1: got ["Kenya"], expected a text as label. 10000 lines are like this.']),
    ("MultiRC.jsonl", lines([*multirc()[:165], {"idx": 165, "passage": {"questions": [{"idx": 0, "answers": [{"idx": 0, "label": "1"}]}]}}]), [
        'MultiRC.jsonl:166: got "1", expected the label 0 or 1.',
        "MultiRC.jsonl: got 1 of 1820 question idx, expected all; the first missing one is 1.",
        "MultiRC.jsonl: got 1 of 9693 answer idx, expected all; the first missing one is 1.",
    ]),
    ("MultiRC.jsonl", lines([*multirc(), {"idx": 0, "label": 1}]), ["MultiRC.jsonl:167: got '{\"idx\": 0, \"label\": 1}', expected a passage with its questions and their answers."]),
    ("MultiRC.jsonl", lines(swapped(3, 1000)), ["MultiRC.jsonl:165: got question idx 4 after 1000, expected question idx that ascend through the file."]),
    ("MultiRC.jsonl", lines(swapped(899, 900)), ["MultiRC.jsonl:166: got question idx 899 after 900, expected question idx that ascend through the file."]),
    ("\x1bCB.txt", b"", ["'\\x1bCB.txt': got a file of this name, expected only AX-b.jsonl, AX-g.jsonl, BoolQ.jsonl, CB.jsonl, COPA.jsonl, MultiRC.jsonl, RTE.jsonl, ReCoRD.jsonl, WSC.jsonl, WiC.jsonl. Leave it out."]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "messages"), BROKEN)
def test_what_is_wrong_with_an_archive_is_told_a_line_a_kind(
    name: str,
    content: bytes,
    messages: list[str],
    complete_files: dict[str, bytes],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "broken.zip"
    path.write_bytes(zip_bytes({**complete_files, name: content}))
    assert main([str(path)]) == 2
    assert capsys.readouterr().err.splitlines() == [f"error: {path}: {line}" for line in messages]


def test_what_is_no_archive_is_told_in_one_line(
    complete_files: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, torn, flipped = tmp_path / "text.zip", tmp_path / "torn.zip", tmp_path / "flipped.zip"
    data = zip_bytes(complete_files)
    text.write_text("no zip")
    torn.write_bytes(data[:-100])
    flipped.write_bytes(data[:200] + bytes([data[200] ^ 0xFF]) + data[201:])
    for path in (text, torn, flipped):
        assert main([str(path)]) == 2
        (message,) = capsys.readouterr().err.splitlines()
        assert message.startswith(f"error: {path}: is not a readable zip archive")
    assert main([str(tmp_path / "nowhere.zip")]) == 2
    assert "nowhere.zip: cannot be read (No such file or directory), expected a zip archive" in capsys.readouterr().err
    for arguments, code in (([], 2), (["--help"], 0)):
        with pytest.raises(SystemExit) as exit:
            main(arguments)
        assert exit.value.code == code
    assert "the following arguments are required: FILE.zip" in capsys.readouterr().err


def test_a_file_that_is_there_twice_is_told(complete_files: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / "twice.zip"
    path.write_bytes(zip_bytes(complete_files))
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("CB.jsonl", complete_files["CB.jsonl"])
    assert archive_problems(path) == ["CB.jsonl: got it 2 times, expected once. Keep one."]
