"""`python -m eval.analyze`, of a run and of two folders: it names what is missing and does the rest."""

import json
import math
import signal
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eval.analysis.arguments import AnalyzeArguments, parse_arguments
from eval.analysis.measures.difficulty import difficulty, folds_of
from eval.analysis.parts import PARTS as REGISTERED
from eval.analysis.run import analyze, draw, take_sheet
from eval.analysis.sets import DataSet, SetPair
from eval.run import evaluate
from targen.config.groups.analysis import ANALYSIS_PARTS
from targen.config.settings import Settings
from targen.data.original import FIXTURE
from targen.runtime.errors import UserError
from targen.runtime.jsonl import write_jsonl
from targen.runtime.randomness import rng
from targen.runtime.signals import Stopped, StopRequest
from targen.tasks.task import Row
from tests.support.commands import command, files, lines, settings
from tests.support.small_data import SPECS, small_run
from train.grid.cells import cells
from train.run import train

QUICK = ["model=tiny_encoder", "analysis.replicates=20"]
PARTS = "analysis.parts=[lexical,bias,correctness,contamination]"
HOSTILE = "</script><script>alert(1)</script> | `rm -rf` *bold* [x](javascript:y) \\input{z} =1+1"


def analysis_of(run: Settings, task: str) -> dict[str, Any]:
    analysis: dict[str, Any] = json.loads((run.paths.analysis / f"{task}.json").read_text(encoding="utf-8"))
    return analysis


def measures_by_name(analysis: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {measure["name"]: measure for measure in analysis["measures"]}


def comparison_settings(folder: Path, *overrides: str) -> Settings:
    return settings(*QUICK, PARTS, f"run.dir={folder / 'out'}", *overrides)


def folders(folder: Path, **sets: Sequence[Row]) -> AnalyzeArguments:
    """Two folders of the official layout, with the fixture's rows unless others are given."""
    for side in ("a", "b"):
        for name in ("cb", "rte"):
            fixture = lines(FIXTURE / SPECS[name].folder / "val.jsonl")
            write_jsonl(folder / side / SPECS[name].folder / "train.jsonl", sets.get(f"{side}_{name}", fixture))
    return AnalyzeArguments(folder / "a", folder / "b")


def test_two_folders_from_the_command_line(tmp_path: Path) -> None:
    arguments = folders(tmp_path)
    words = [f"a={arguments.a}", f"b={arguments.b}", "task=[cb,rte,wsc]", f"run.dir={tmp_path / 'out'}", *QUICK, PARTS]
    done = command("eval.analyze", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "no data in" in done.stderr and "for wsc" in done.stderr
    assert done.stdout.count("| MTLD (words) |") == 2
    assert (tmp_path / "out" / "analysis" / "summary.md").read_text() == done.stdout
    names = ("diversity", "bias", "contamination")
    figures = {f"figures/{name}.{suffix}" for name in names for suffix in ("pdf", "png")}
    assert set(files(tmp_path / "out" / "analysis")) == {"cb.json", "rte.json", "summary.md"} | figures
    assert done.stderr.splitlines()[-1].endswith("analysis, figures/ has diversity, bias, contamination")
    first_files = files(tmp_path / "out")
    assert command("eval.analyze", *words, cwd=tmp_path).returncode == 0
    assert files(tmp_path / "out") == first_files  # the same numbers to the last digit
    cb = json.loads(first_files["analysis/cb.json"])
    assert (cb["size"], cb["sets"]["a"]["rows"], sum(cb["sets"]["b"]["labels"].values())) == (10, 10, 10)
    for measure in cb["measures"]:
        if measure["difference"] is not None and measure["part"] == "lexical":
            a, b, difference = (measure[side]["value"] for side in ("a", "b", "difference"))
            assert difference == pytest.approx(b - a, abs=2e-6)
    missing_parts = {missing["part"] for missing in cb["missing"]}
    assert {"correctness.flips", "correctness.agreement", "contamination.val"} <= missing_parts


MISTAKES = [
    (["a=."], "b: got nothing with a=., expected a second folder."),
    (["a=.", "b=.", "task=cb"], ". and .: got no data set of cb, expected one of a task in each."),
    (["a=.", "b=.", "analysis.parts=[lexicla]"], "Did you mean 'lexical'?"),
    (
        ["a=.", "b=.", "analysis.model=minilmm"],
        "analysis.model: got 'minilmm', expected a file of conf/model/. Did you mean",
    ),
    (["sheet=/nowhere.csv"], "sheet: /nowhere.csv cannot be read"),
]


def test_a_mistake_is_one_line_and_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for arguments, words in MISTAKES:
        done = command("eval.analyze", *arguments, f"run.dir={tmp_path / 'run'}", cwd=tmp_path / "empty")
        assert (done.returncode, done.stderr.count("error: ")) == (2, 1), done.stderr
        assert words in done.stderr
    assert not list((tmp_path / "empty").iterdir())
    assert not [path for path in (tmp_path / "run").rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a=/nowhere", "b=/nowhere"], "a: got /nowhere, which is not a folder"),
        (["a=.", "a=.", "b=."], "a: given twice"),
        (["sheet="], "sheet: got nothing, expected a path"),
        (["b=."], "a: got nothing with b=., expected a second folder"),
    ],
)
def test_arguments_that_do_not_fit(arguments: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        parse_arguments(arguments)


def test_arguments_of_its_own_are_taken_out(tmp_path: Path) -> None:
    arguments, overrides = parse_arguments([f"a={tmp_path}", "task=cb", f"b={tmp_path}"])
    assert (arguments.a, arguments.b, arguments.sheet) == (tmp_path, tmp_path, None)
    assert overrides == ["task=cb", "run.dir=outputs/compared"]
    assert parse_arguments(["sheet=x.csv", "run.dir=y"]) == (AnalyzeArguments(sheet=Path("x.csv")), ["run.dir=y"])


def test_an_empty_set_one_row_and_rows_without_labels(tmp_path: Path) -> None:
    cb = lines(FIXTURE / "CB" / "val.jsonl")
    arguments = folders(tmp_path, b_cb=[], a_rte=lines(FIXTURE / "RTE" / "val.jsonl")[:1])
    run = comparison_settings(tmp_path, "task=[cb,rte]")
    analyze(run, arguments)
    empty, one_row = analysis_of(run, "cb"), analysis_of(run, "rte")
    assert empty["measures"] == []
    assert {missing["part"]: missing["why"] for missing in empty["missing"]}["b"].endswith("train.jsonl has no row")
    assert {missing["part"] for missing in empty["missing"]} >= {"lexical", "bias", "correctness", "contamination"}
    assert one_row["size"] == 1
    assert measures_by_name(one_row)["mtld"]["a"]["low"] is None
    why = {missing["part"]: missing["why"] for missing in one_row["missing"]}
    assert why["lexical.self_bleu"] == "1 rows in a set, expected at least 2"
    assert why["intervals"] == "1 rows in a set are too few for intervals"
    unlabelled = [{key: value for key, value in row.items() if key != "label"} for row in cb]
    arguments = folders(tmp_path, b_cb=unlabelled)
    run = comparison_settings(tmp_path, "task=cb", "analysis.parts=[lexical,difficulty]")
    analyze(run, arguments)
    why = {missing["part"]: missing["why"] for missing in analysis_of(run, "cb")["missing"]}
    assert why["difficulty"] == "b (b) has rows without labels"
    assert measures_by_name(analysis_of(run, "cb"))["mtld"]["b"] is not None


def test_hostile_rows_are_text_in_every_file(tmp_path: Path) -> None:
    rows = [row | {"premise": f"{HOSTILE} {row['premise']}"} for row in lines(FIXTURE / "CB" / "val.jsonl")]
    arguments = folders(tmp_path, b_cb=rows, a_cb=rows)
    run = comparison_settings(tmp_path, "task=cb")
    text = analyze(run, arguments)
    assert "alert" not in text and "javascript" not in text
    raw = (run.paths.analysis / "cb.json").read_text(encoding="utf-8")
    assert json.loads(raw, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_a_run_writes_its_analyses_and_takes_back_the_sheet(tmp_path: Path) -> None:
    run = small_run(tmp_path, *QUICK, PARTS, "arms=[original]", tasks=("cb", "axg"), original=("rte",))
    folder = run.paths.synthetic("cb")
    stats = {
        "checked": 20,
        "flips": 3,
        "flips_per_label": {"neutral": 3},
        "checked_per_label": {"entailment": 12, "neutral": 8},
    }
    (folder / "stats.json").write_text(json.dumps(stats))
    write_jsonl(folder / "provenance.jsonl", [{"label_before": "neutral", "label_after": "entailment"}] * 10)
    train(run)
    evaluate(run)
    analyze(run, AnalyzeArguments())
    cb, axg = analysis_of(run, "cb"), analysis_of(run, "axg")
    measures = measures_by_name(cb)
    names = ("flips", "flips.neutral", "flips.entailment")
    assert [measures[name]["b"]["value"] for name in names] == [3 / 20, 3 / 8, 0]
    assert cb["details"]["flips"]["kept"] == [{"before": "neutral", "after": "entailment", "instances": 10}]
    # the synthetic rows are here the evaluation rows, so agreement is accuracy
    name = next(cell.name for cell in cells(run) if cell.task == "cb")
    accuracy = next(
        row["value"] for row in lines(run.paths.scores) if row["cell"] == name and row["metric"] == "accuracy"
    )
    assert measures[f"agreement.{name}"]["b"]["value"] == pytest.approx(accuracy, abs=1e-6)
    detail = cb["details"][f"agreement {name}"]
    assert detail["score_on_original"] == pytest.approx(accuracy, abs=1e-6)
    assert sum(confusion["rows"] for confusion in detail["table"]) == 10
    assert len(detail["disagreements"]) == 10 - round(10 * accuracy)
    # a is AX-g's test split, which is the evaluation split, and every synthetic row repeats it
    assert measures_by_name(axg)["test_near"]["b"]["value"] == 1
    assert measures_by_name(axg)["test_near"]["a"] is None

    sheet = run.paths.analysis / "sheet.csv"
    empty_sheet = sheet.read_bytes()
    options = b"entailment | contradiction | neutral,"
    filled = empty_sheet.replace(options, options + b"neutral")
    sheet.write_bytes(filled)
    summary = take_sheet(run, AnalyzeArguments(), sheet)
    neutral = sum(row["label"] == "neutral" for row in lines(folder / "train.jsonl"))
    assert summary.startswith(f"cb: people agree with {neutral} of 10 labels")
    assert analysis_of(run, "cb")["details"]["human"]["agree"] == neutral
    assert draw(run) == ["diversity", "flips", "bias", "contamination"]
    analyze(run, AnalyzeArguments())
    assert analysis_of(run, "cb")["details"]["human"]["judged"] == 10  # stays
    assert sheet.read_bytes() == filled != empty_sheet  # what a person filled in is left alone


def test_without_the_original_rows_the_synthetic_ones_are_looked_at(tmp_path: Path) -> None:
    small_run(tmp_path, tasks=("cb",))
    run = settings("task=cb", "data.source=fixture", "arms=[synthetic]", f"run.dir={tmp_path / 'run'}", *QUICK, PARTS)
    analyze(run, AnalyzeArguments())
    analysis = analysis_of(run, "cb")
    assert set(analysis["sets"]) == {"b"}
    assert {missing["part"] for missing in analysis["missing"]} >= {"a", "correctness.flips", "correctness.agreement"}
    mtld = measures_by_name(analysis)["mtld"]
    assert mtld["b"]["value"] > 0 and mtld["difference"] is None


def labelled_rows(count: int, tells: bool) -> tuple[Row, ...]:
    """Rows whose text tells the label, or does not."""
    draws = rng(0, "rows", tells)
    rows = []
    for idx in range(count):
        entailed = idx % 2 == 0
        word = ("yes" if entailed else "no") if tells else draws.choice(["yes", "no"])
        label = "entailment" if entailed else "not_entailment"
        rows.append({"premise": f"{word} {word} {word}", "hypothesis": word, "label": label, "idx": idx})
    return tuple(rows)


def difficulty_settings(folder: Path, *overrides: str) -> Settings:
    return settings(*QUICK, "task=rte", f"run.dir={folder}", "analysis.folds=2", "train.batch_size=8", *overrides)


@pytest.mark.slow
def test_information_is_what_the_text_tells_of_the_label(tmp_path: Path) -> None:
    task = SPECS["rte"]
    sets = DataSet("a", "one", labelled_rows(48, tells=True)), DataSet("b", "two", labelled_rows(48, tells=False))
    pair = SetPair(task, *sets, seed=0, at_most=None)
    run = difficulty_settings(tmp_path, "train.epochs=10", "train.learning_rate=0.01")
    result = difficulty(run, pair, StopRequest())
    measures = {measure.name: measure for measure in result.measures}
    bits = measures["v_information"]
    assert bits.a is not None and bits.b is not None and bits.difference is not None
    assert bits.a.value > 0.8 > 0.2 > bits.b.value
    assert bits.difference.high is not None and bits.difference.high < 0
    entropy, conditional = measures["label_entropy"], measures["conditional_entropy"]
    assert entropy.a is not None and entropy.a.value == pytest.approx(1, abs=0.1)  # half of the labels are each
    assert conditional.a is not None and bits.a.value == pytest.approx(entropy.a.value - conditional.a.value)
    assert measures["accuracy"].a is not None and measures["accuracy"].a.value == 1
    assert measures["accuracy_of_other"].size == {"a": 48, "b": 48}
    detail = result.details["pvi"]
    assert sorted(idx for idx, _ in detail["a"]["rows"]) == list(range(48))  # each row is held out once
    values = [value for _, value in detail["b"]["rows"]]
    assert math.fsum(values) / 48 == pytest.approx(bits.b.value, abs=1e-4)
    assert detail["b"]["hardest"][0]["pvi"] == min(values) and detail["b"]["easiest"][0]["pvi"] == max(values)
    assert sum(detail["histogram"]["a"]) == sum(detail["histogram"]["b"]) == 48
    folder = run.paths.analysis / "difficulty"
    assert list((folder / "models").iterdir()) == []  # a model goes when it was asked
    times = {path.name: path.stat().st_mtime_ns for path in (folder / "predictions").iterdir()}
    assert len(times) == 10
    again = difficulty(run, pair, StopRequest())
    assert again == result
    assert {path.name: path.stat().st_mtime_ns for path in (folder / "predictions").iterdir()} == times


def test_choices_without_words_are_equally_likely(tmp_path: Path) -> None:
    task = SPECS["copa"]
    rows = tuple(lines(FIXTURE / "COPA" / "val.jsonl"))
    pair = SetPair(task, None, DataSet("b", "two", rows), seed=0, at_most=None)
    run = difficulty_settings(tmp_path, "task=copa", "train.epochs=1")
    result = difficulty(run, pair, StopRequest())
    measures = {measure.name: measure for measure in result.measures}
    assert measures["label_entropy"].b is not None and measures["label_entropy"].b.value == 1
    assert measures["v_information"].a is None
    assert len(list((run.paths.analysis / "difficulty" / "predictions").iterdir())) == 2


def test_every_part_of_the_settings_is_registered() -> None:
    assert tuple(ANALYSIS_PARTS) == tuple(REGISTERED) and len(REGISTERED) == 9


def test_folds_share_out_every_label() -> None:
    labels = ["x"] * 9 + ["y"] * 6
    folds = folds_of(labels, 3, rng(0, "folds"))
    assert Counter(label for fold, label in zip(folds, labels, strict=True) if fold == 0) == {"x": 3, "y": 2}
    assert [folds.count(fold) for fold in range(3)] == [5, 5, 5]
    assert folds != folds_of(labels, 3, rng(1, "folds"))


def test_models_that_cannot_say_are_named(tmp_path: Path) -> None:
    rows = labelled_rows(12, tells=True)
    pair = SetPair(SPECS["rte"], None, DataSet("b", "two", rows), seed=0, at_most=None)
    (missing,) = difficulty(difficulty_settings(tmp_path, "model=tiny_seq2seq"), pair, StopRequest()).missing
    assert missing.why == "tiny_seq2seq is not an encoder. Name one: analysis.model=deberta_v3_large"
    few = replace(pair, at_most=6)
    (missing,) = difficulty(difficulty_settings(tmp_path), few, StopRequest()).missing
    assert missing.why == "6 instances in a set, expected at least 8 for analysis.folds=2"


def test_told_to_stop_it_goes_on_later(tmp_path: Path) -> None:
    pair = SetPair(SPECS["rte"], None, DataSet("b", "two", labelled_rows(16, tells=True)), seed=0, at_most=None)
    run = difficulty_settings(tmp_path / "stopped", "train.epochs=2")
    stop = StopRequest()
    stop.note(signal.SIGTERM)
    with pytest.raises(Stopped):
        difficulty(run, pair, stop)
    uninterrupted = difficulty(difficulty_settings(tmp_path / "whole", "train.epochs=2"), pair, StopRequest())
    assert difficulty(run, pair, StopRequest()) == uninterrupted


def test_help_names_what_is_its_own() -> None:
    done = command("eval.analyze", "--help")
    assert done.returncode == 0
    assert "a=DIR b=DIR" in done.stdout and "sheet=FILE" in done.stdout


def test_the_hardest_answers_are_listed_with_the_question_that_was_asked(tmp_path: Path) -> None:
    task = SPECS["multirc"]
    rows = tuple(lines(FIXTURE / "MultiRC" / "val.jsonl"))
    pair = SetPair(task, None, DataSet("b", "two", rows), seed=0, at_most=None)
    run = difficulty_settings(tmp_path, "task=multirc", "train.epochs=1", "analysis.top=59")
    detail = difficulty(run, pair, StopRequest()).details["pvi"]["b"]
    examples = {example.id: example for row in rows for example in task.examples(row)}
    answers = detail["hardest"]
    assert {answer["example"] for answer in answers} == set(examples) and len(answers) == 59
    for answer in answers:
        example = examples[answer["example"]]
        assert answer["texts"] == dict(example.fields)
        assert answer["idx"] == example.groups[0]
        assert answer["label"] == ("right" if example.gold == (0,) else "wrong")
    hardest = {row["idx"]: min(answer["pvi"] for answer in answers if answer["idx"] == row["idx"]) for row in rows}
    assert dict(detail["rows"]) == hardest
