"""Tables of runs: every number from their scores, what cannot be compared is refused, text stays text, equal bytes."""

import csv
import io
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import yaml

from eval.reporting.report import report, report_runs
from eval.scoring.metrics import Prediction
from eval.statistics.comparisons import Comparison
from eval.tables.formats import Table, csv_cell, latex, markdown, tidy_csv
from eval.tables.sentences import sentence
from targen.config.run_directory import open_run
from targen.runtime.cli import compose
from targen.runtime.errors import UserError
from targen.runtime.randomness import rng
from tests.support.commands import LONGEST, PROJECT, command, files, settings
from tests.support.scored_runs import (
    SPECS,
    FakeCell,
    answers,
    gold_of,
    write_cell,
    write_run,
    write_scores,
    write_tasks,
)

SMALL = {"axg": 40, "boolq": 40, "cb": 40, "copa": 40, "record": 40, "rte": 40, "wic": 40, "wsc": 40}
MAIN = "original_vs_synthetic"


def tables(folder: Path, *runs: Path) -> dict[str, str]:
    """The Markdown tables of the runs, by name."""
    report_runs(runs, folder)
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted((folder / "tables").glob("*.md"))}


def records(folder: Path, name: str = MAIN) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((folder / "tables" / f"{name}.csv").read_bytes().decode())))


def cells_of(text: str, *starts: str) -> list[str]:
    """The cells of the only line of a Markdown table that begins with these."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    (cells,) = (row for row in rows if row[: len(starts)] == list(starts))
    return cells


def hits(task: str, pattern: str) -> list[Prediction]:
    """Predictions on two classes: `+` right, `-` wrong, `?` unreadable."""
    names = [label.name for label in SPECS[task].labels]
    predictions = []
    for idx, (sign, (gold,)) in enumerate(zip(pattern, gold_of(SPECS[task], len(pattern)), strict=True)):
        wrong = next(name for name in names if name != gold)
        predictions.append(Prediction(idx, (gold,), {"+": gold, "-": wrong, "?": None}[sign], {}))
    return predictions


def test_a_sentence_says_what_hand_worked_numbers_say(tmp_path: Path) -> None:
    both_right, only_original, only_synthetic, none_right = "+" * 38, "+" * 8, "-" * 2, "-" * 8
    original = both_right + only_original + only_synthetic + none_right
    synthetic = both_right + "-" * 8 + "+" * 2 + none_right
    rows = write_cell(tmp_path / "run", FakeCell("rte", "original", 0), hits("rte", original))
    rows += write_cell(tmp_path / "run", FakeCell("rte", "synthetic", 0), hits("rte", synthetic))
    rows += write_cell(tmp_path / "run", FakeCell("wic", "original", 0), hits("wic", "-" * 40))
    rows += write_cell(tmp_path / "run", FakeCell("wic", "synthetic", 0), hits("wic", "+" * 40))
    write_scores(tmp_path / "run", rows)
    table = tables(tmp_path / "out", tmp_path / "run")[MAIN]
    # RTE: McNemar with 8 and 2 of 56 rows is 112 / 1024, the larger of two p-values stays; WiC: 2 / 2^40
    assert re.search(
        r"- RTE: synthetic 71\.4 against original 82\.1 accuracy on 56 rows, 1 seed: not distinguishable at this size "
        r"\(difference -10\.7, 95% interval -21\.4 to 0\.0, p = 0\.11 after Holm's correction over 2 tasks\)\.",
        table,
    )
    assert "WiC: synthetic 100.0 against original 0.0 accuracy on 40 rows, 1 seed: synthetic is better" in table
    assert cells_of(table, "RTE")[3].startswith("82.1 (")
    assert cells_of(table, "RTE")[3].endswith(" 56×1")
    by_kind = {(row["kind"], row["level"]): row for row in records(tmp_path / "out") if row["task"] == "rte"}
    assert float(by_kind["score", "original"]["value"]) == pytest.approx(100 * 46 / 56, abs=1e-4)
    assert float(by_kind["difference", "synthetic - original"]["p"]) == pytest.approx(112 / 1024, abs=1e-4)


def test_an_interval_that_excludes_0_beside_a_p_that_does_not_is_explained() -> None:
    facts = {
        "task": "cb",
        "metric": "f1_macro",
        "level": "synthetic",
        "reference": "original",
        "n": 56,
        "seeds": 1,
        "spread": None,
    }
    comparison = Comparison(**facts, values=(0.9, 0.8), bounds=(0.01, 0.2), p=0.03, corrected=0.09, tests=3, tasks=2)
    assert comparison.disagrees
    assert "not distinguishable" in sentence(comparison, "CB")
    assert "the interval, of this score alone, excludes 0, but p decides" in sentence(comparison, "CB")
    assert not replace(comparison, bounds=(-0.01, 0.2)).disagrees
    assert not replace(comparison, corrected=0.03).disagrees


def test_seeds_are_averaged_and_the_average_is_over_task_scores(tmp_path: Path) -> None:
    run, rows = tmp_path / "run", []
    for arm in ("original", "synthetic"):
        for seed, (cb, axg) in enumerate((("+" * 20 + "-" * 20, "+" * 30 + "-" * 10), ("+" * 40, "+" * 20 + "?" * 20))):
            rows += write_cell(run, FakeCell("cb", arm, 0, seed), hits("cb", cb))
            rows += write_cell(run, FakeCell("axg", arm, 0, seed), hits("axg", axg))
    write_scores(run, rows)
    table = tables(tmp_path / "out", run)[MAIN]
    assert cells_of(table, "AX-g", "accuracy")[3].startswith("62.5 ± 17.7 (")  # 75 and 50
    assert cells_of(table, "AX-g", "accuracy")[3].endswith(" 40×2, 25.0 % unreadable")
    macro = [row["value"] for row in rows if (row["task"], row["arm"], row["metric"]) == ("cb", "original", "f1_macro")]
    mean = (100 * (0.5 + macro[0]) / 2 + 75 + 100 * (1 + macro[1]) / 2 + 50) / 4  # AX-g enters with its accuracy alone
    assert cells_of(table, "average of 2 tasks")[3].startswith(f"{mean:.1f} ± ")
    assert "average of 2 tasks: synthetic" in table
    assert "difference +0.0, 95% interval" in table


def test_what_was_not_run_is_said_to_be(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [FakeCell("cb", "synthetic", 0.7), FakeCell("rte", "original", 0.7)], SMALL)
    write_tasks(run, {name: SPECS[name] for name in ("cb", "rte", "wsc")})
    table = tables(tmp_path / "out", run)[MAIN]
    assert cells_of(table, "WSC") == ["WSC", "accuracy", *["--"] * 5]
    assert cells_of(table, "RTE")[4] == "--"
    assert cells_of(table, "average of 2 tasks")[3:5] == ["--", "--"]


EVERY = [FakeCell(task, arm, 0.7, seed) for task in SPECS for arm in ("original", "synthetic") for seed in (0, 1)]


def test_the_papers_numbers_stand_beside_the_average_of_all_eight_tasks_alone(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", EVERY, SMALL)
    table = tables(tmp_path / "out", run)[MAIN]
    assert cells_of(table, "average of 8 tasks")[-3:-1] == ["81.12", "82.84"]
    assert cells_of(table, "CB", "accuracy")[-3:-1] == ["--", "--"]
    assert "arXiv 2310.17876v1, abstract" in table
    published = [row for row in records(tmp_path / "out") if row["kind"] == "published"]
    assert [(row["level"], row["value"]) for row in published] == [("original", "81.12"), ("synthetic", "82.84")]
    assert all("2310.17876v1" in row["source"] for row in published)
    few = write_run(tmp_path / "few", [cell for cell in EVERY if cell.task != "wsc"], SMALL)
    assert "81.12" not in tables(tmp_path / "few_out", few)[MAIN]
    elsewhere = write_run(
        tmp_path / "elsewhere", [cell for cell in EVERY if cell.seed == 0], SMALL, origin="CB/val.jsonl", source="file"
    )
    assert "81.12" not in tables(tmp_path / "elsewhere_out", elsewhere)[MAIN]
    other_model = write_run(tmp_path / "other", [replace(cell, model="t5_large") for cell in EVERY], SMALL)
    assert "81.12" not in tables(tmp_path / "other_out", other_model)[MAIN]


def test_the_published_numbers_are_these_and_each_has_its_place() -> None:
    paper = yaml.safe_load((PROJECT / "results" / "paper.yaml").read_text())
    scores = {(number["instruct"], number["arm"]): number["value"] for number in paper["scores"]}
    assert scores == {
        (False, "original"): 81.12, (False, "synthetic"): 82.84, (True, "original"): 81.49, (True, "synthetic"): 84.54,
    }  # fmt: skip
    assert {(number["models"][0], number["value"]) for number in paper["differences"]} == {
        ("t5_3b", 4.14),
        ("llama2_7b", 2.62),
    }
    assert all("arXiv 2310.17876v" in number["source"] for number in [*paper["scores"], *paper["differences"]])
    assert len(paper["token_sums"]["tasks"]) == 8


def variants(folder: Path) -> list[Path]:
    """Runs that differ in instructions, correction, method, size, and the leaderboard's tasks."""
    synthetic, mixed = FakeCell("rte", "synthetic", 0.7), FakeCell("rte", "mixed", 0.75)

    def run(name: str, cell: FakeCell, **fields: Any) -> Path:
        return write_run(folder / name, [cell], SMALL, **fields)

    board = write_run(folder / "board", [], SMALL)
    common = write_cell(folder / "unused", replace(synthetic, model="t5_3b", setting="multi"), hits("rte", "+-"))[0]
    board_rows = []
    for arm, value in (("synthetic", 0.5), ("self_instruct", 0.46)):
        for task in ("arc_challenge", "average"):
            columns = {"benchmark": "openllm_4", "task": task, "arm": arm, "metric": "acc_norm", "value": value}
            columns |= {
                "cell": f"t5_3b-multi-all-{arm}-s0",
                "harness": "lm-eval 0.4.13",
                "stderr": 0.01,
                "majority": None,
            }
            board_rows.append(common | columns)
    write_scores(board, board_rows)
    return [
        run("plain", synthetic),
        run("instruct", replace(synthetic, setting="single-instruct")),
        run("off", synthetic, self_correct="off"),
        run("zero", synthetic, method="zero_shot"),
        run("large", synthetic, train_rows=1000),
        run("mixed_a", mixed, train_rows=300, real_rows=50),
        run("mixed_b", mixed, train_rows=350, real_rows=100),
        board,
    ]


def test_weighted_losses_are_compared_with_cross_entropy(tmp_path: Path) -> None:
    run, half = tmp_path / "run", "+" * 20 + "-" * 20
    patterns = [("rte", "single", half), ("rte", "single-imp", "+" * 32 + "-" * 8), ("rte", "single-dimp", half)]
    patterns += [("wic", "single", half), ("wic", "single-imp", "+" * 16 + "-" * 24)]
    patterns += [("wic", "multi-lora", half), ("wic", "multi-lora-dimp-init", "+" * 40)]  # differ in more than the loss
    rows = write_cell(run, FakeCell("rte", "original", 0), hits("rte", half))  # has no rows that are weighted
    for task, setting, pattern in patterns:
        rows += write_cell(run, FakeCell(task, "synthetic", 0, setting=setting), hits(task, pattern))
    write_scores(run, rows)
    table = tables(tmp_path / "out", run)["losses"]
    assert cells_of(table, "task")[3:6] == ["ce", "imp", "dimp"]
    assert [cell[:4] for cell in cells_of(table, "RTE")[3:6]] == ["50.0", "80.0", "50.0"]
    assert "RTE: imp 80.0 against ce 50.0 accuracy on 40 rows, 1 seed: imp is better" in table
    tests = {(row["task"], row["level"]): row for row in records(tmp_path / "out", "losses") if row["p"]}
    assert tests.keys() == {("rte", "imp - ce"), ("rte", "dimp - ce"), ("wic", "imp - ce"), ("average", "imp - ce")}
    # McNemar: 12 rows of 12, 2 / 2^12, of two tasks; 4 of 4, 2 / 2^4, the larger of the two
    assert float(tests["rte", "imp - ce"]["p_corrected"]) == pytest.approx(2 * 2 / 2**12, abs=1e-4)
    assert float(tests["wic", "imp - ce"]["p_corrected"]) == pytest.approx(2 / 2**4, abs=1e-4)
    assert float(tests["rte", "imp - ce"]["low"]) > 0


def test_selections_of_synthetic_rows_are_compared_with_all_rows(tmp_path: Path) -> None:
    half, better = hits("rte", "+" * 20 + "-" * 20), hits("rte", "+" * 32 + "-" * 8)
    plain, chosen, synthetic = tmp_path / "plain", tmp_path / "chosen", FakeCell("rte", "synthetic", 0)
    name = "flan_t5_base-single-rte-synthetic-checker75-s0"
    original_rows = write_cell(plain, FakeCell("rte", "original", 0), half)
    write_scores(plain, [*original_rows, *write_cell(plain, synthetic, half)])
    write_scores(chosen, write_cell(chosen, synthetic, better, cell=name, selection="checker75", train_rows=188))
    by_name = tables(tmp_path / "out", plain, chosen)
    assert cells_of(by_name["selection"], "task")[3:5] == ["all rows", "75% by checker"]
    assert [cell[:4] for cell in cells_of(by_name["selection"], "RTE")[3:5]] == ["50.0", "80.0"]
    sentence = "RTE: 75% by checker 80.0 against all rows 50.0 accuracy on 40 rows, 1 seed: 75% by checker is better"
    assert sentence in by_name["selection"]
    # beside the same original rows there is a line for each way of making and keeping synthetic ones
    assert "by a-model, 75% by checker" in by_name[MAIN] and by_name[MAIN].count("| RTE") == 2
    rows = records(tmp_path / "out", "selection")
    assert {row["selection"] for row in rows if row["level"] == "75% by checker"} == {"checker75"}


def test_every_table_has_its_comparison(tmp_path: Path) -> None:
    by_name = tables(tmp_path / "out", *variants(tmp_path))
    assert sorted(by_name) == sorted([MAIN, "instructions", "self_correction", "methods", "sizes", "mixing", "openllm"])
    assert "with instructions - without" in by_name["instructions"]
    assert "paper - off" in by_name["self_correction"]
    assert "zero_shot (self-correction paper) - targen (self-correction paper)" in by_name["methods"]
    assert [row["train_rows"] for row in records(tmp_path / "out", "sizes")] == ["250", "1000"]
    assert [row["real_rows"] for row in records(tmp_path / "out", "mixing")] == ["0", "50", "100"]
    board = cells_of(by_name["openllm"], "average")
    assert board[2:7] == [
        "50.0 (48.0 to 52.0) 2×1",
        "46.0 (44.0 to 48.0) 2×1",
        "synthetic 250, self_instruct 250",
        "+4.0",
        "4.14",
    ]
    rows = {row["level"]: row["train_rows"] for row in records(tmp_path / "out", "methods") if row["kind"] == "score"}
    assert set(rows.values()) == {"250"}  # the largest that all have, though one has 1000
    figures = {path.name for path in (tmp_path / "out" / "figures").iterdir()}
    assert {f"{name}.{suffix}" for name in ("scores", "sizes", "mixing") for suffix in ("pdf", "png")} <= figures


def test_original_rows_of_checkers_are_not_mixed_in(tmp_path: Path) -> None:
    cells, right = [FakeCell("rte", "synthetic", 0), FakeCell("rte", "mixed", 0)], hits("rte", "+" * 40)
    plain = write_run(tmp_path / "plain", cells, SMALL)
    chosen, weighted = tmp_path / "chosen", tmp_path / "weighted"
    rows, weighted_rows = [], []
    for cell, (train_rows, real_rows) in zip(cells, [(250, 48), (500, 298)], strict=True):  # 48 of a checker
        counts = {"train_rows": train_rows, "real_rows": real_rows}
        name = f"flan_t5_base-single-rte-{cell.arm}-checker75-s0"
        rows += write_cell(chosen, cell, right, cell=name, selection="checker75", **counts)
        weighted_rows += write_cell(weighted, replace(cell, setting="single-imp"), right, **counts)
    write_scores(chosen, rows)
    write_scores(weighted, weighted_rows)
    tables(tmp_path / "out", plain, chosen, weighted)
    points = records(tmp_path / "out", "mixing")
    assert {(row["setting"], row["selection"], row["made_rows"]) for row in points} == {("single", "", "250")}
    assert [row["real_rows"] for row in points] == ["0", "250"]


def test_tables_of_earlier_results_are_removed(tmp_path: Path) -> None:
    runs = variants(tmp_path)
    tables(tmp_path / "out", *runs)
    assert sorted(tables(tmp_path / "out", runs[0])) == [MAIN]
    assert {path.stem for path in (tmp_path / "out" / "figures").iterdir()} == {"scores"}


def test_equal_results_give_equal_bytes(tmp_path: Path) -> None:
    first = write_run(tmp_path / "one", EVERY[:20], SMALL)
    second = write_run(tmp_path / "two", EVERY[20:], SMALL)
    report_runs([first, second], tmp_path / "a")
    done = command(
        "eval.report", f"run.dir={tmp_path}/[ot]*", f"report.dir={tmp_path / 'b'}", PYTHONHASHSEED="1", TZ="Asia/Tokyo"
    )
    assert done.returncode == 0, done.stderr
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert {"tables/original_vs_synthetic.csv", "figures/differences.pdf"} <= set(files(tmp_path / "a"))


def test_the_same_cell_in_two_runs_counts_once_or_is_kept_apart(tmp_path: Path) -> None:
    cells = [FakeCell("rte", "original", 0.7), FakeCell("rte", "synthetic", 0.7)]
    first, copy = write_run(tmp_path / "one", cells, SMALL), write_run(tmp_path / "copy", cells, SMALL)
    table = tables(tmp_path / "out", first, copy)[MAIN]
    assert cells_of(table, "RTE")[3].endswith(" 40×1")
    different = write_run(tmp_path / "other", [replace(cells[0], right=0.2), cells[1]], SMALL)
    table = tables(tmp_path / "out", first, different)[MAIN]
    assert [cells_of(table, run, "RTE")[4] for run in ("one", "other")] != ["--", "--"]
    assert cells_of(table, "one", "RTE")[4] != cells_of(table, "other", "RTE")[4]


def test_the_report_of_a_run_is_the_same_wherever_it_lies(tmp_path: Path) -> None:
    for name in ("one", "two"):
        run = write_run(tmp_path / name, EVERY[:4], SMALL)
        report_runs([run], tmp_path / f"of_{name}")
    assert files(tmp_path / "of_one") == files(tmp_path / "of_two")


def test_seeds_of_several_runs_stand_in_one_line(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / f"s{seed}", [FakeCell("rte", "original", 0.7, seed)], SMALL) for seed in (0, 1, 2)]
    assert cells_of(tables(tmp_path / "out", *runs)[MAIN], "RTE")[3].endswith(" 40×3")


def test_different_evaluation_data_in_one_line_are_refused(tmp_path: Path) -> None:
    first = write_run(tmp_path / "one", [FakeCell("rte", "original", 0.7)], SMALL)
    second = write_run(tmp_path / "two", [FakeCell("rte", "synthetic", 0.7)], SMALL | {"rte": 38})
    with pytest.raises(
        UserError,
        match=r"original-s0 \(.*/one\) was scored on different rows than .*synthetic-s0 \(.*/two\): rows 40, n 40",
    ):
        report_runs([first, second], tmp_path / "out")
    same_size = write_run(tmp_path / "same", [FakeCell("rte", "synthetic", 0.7)], SMALL, evaluated="f" * 16)
    with pytest.raises(UserError, match=r"evaluated [0-9a-f]{16}; evaluated f{16}"):
        report_runs([first, same_size], tmp_path / "out")


def test_scores_that_their_predictions_do_not_give_are_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [FakeCell("rte", "original", 0.7)], SMALL)
    path = run / "predictions" / "flan_t5_base-single-rte-original-s0.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(UserError, match=r"rte-original-s0.jsonl: accuracy of its 39 answers is .*Evaluate .* again"):
        report_runs([run], tmp_path / "out")
    path.unlink()
    report_runs([run], tmp_path / "out")  # without predictions there is a score, and no interval
    (row,) = (row for row in records(tmp_path / "out") if row["kind"] == "score")
    assert row["value"] and not row["low"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "rtee"}, r"scores.jsonl:1: task: got 'rtee', expected a task of the run. Did you mean 'rte'\?"),
        ({"metric": "f1_macro"}, r"scores.jsonl:1: metric: got 'f1_macro', expected one of rte's: accuracy"),
        (
            {"cell": "other-single-rte-original-s0"},
            r"scores.jsonl:1: cell: got 'other-single-rte-original-s0', expected",
        ),
        ({"seed": 1}, r"scores.jsonl:1: cell: got .* expected flan_t5_base-single-<task>-original-s1"),
        ({"cell": "flan_t5_base-single-cb-original-s0"}, r"scores.jsonl:1: cell: got .* with the task rte"),
        ({"value": float("nan")}, r"scores.jsonl:1: value: got nan"),
        ({"value": 71.4}, r"scores.jsonl:1: value: got 71.4, expected 0 to 1, the range of accuracy"),
        ({"n": None}, r"scores.jsonl:1: n: got None"),
        ({"evaluated": ...}, r"scores.jsonl:1: evaluated: is missing"),
    ],
)
def test_a_line_that_is_no_score_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    run = write_run(tmp_path / "run", [FakeCell("rte", "original", 0.7)], SMALL)
    row = json.loads((run / "scores.jsonl").read_text()) | change
    (run / "scores.jsonl").write_text(json.dumps({key: value for key, value in row.items() if value is not ...}) + "\n")
    with pytest.raises(UserError, match=message) as caught:
        report_runs([run], tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_line_that_is_no_json_or_stands_twice_is_named(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [FakeCell("rte", "original", 0.7)], SMALL)
    line = (run / "scores.jsonl").read_text()
    (run / "scores.jsonl").write_text(line + line)
    with pytest.raises(UserError, match=r"scores.jsonl:2: .* is already on line 1"):
        report_runs([run], tmp_path / "out")
    (run / "scores.jsonl").write_text(line + line[:50] + "\n")
    with pytest.raises(UserError, match=r"scores.jsonl:2: not a JSON object"):
        report_runs([run], tmp_path / "out")


HOSTILE = "=1+1|$x_{2}$ \\input{/etc/passwd} <script>alert(1)</script> `a` [b](http://x) %&#~^\"' ?` -- 模 é"


def hostile_run(folder: Path) -> Path:
    rows = []
    for arm in ("original", "synthetic"):
        cell = FakeCell("rte", arm, 0.5)
        predictions = answers(SPECS["rte"], gold_of(SPECS["rte"], 40), 0.5, rng(0, arm))
        rows += [
            row
            | {"model": HOSTILE, "cell": f"{HOSTILE}-single-rte-{arm}-s0", "generator": row["generator"] and HOSTILE}
            for row in write_cell(folder, cell, predictions)
        ]
    plain_rows = write_cell(
        folder, FakeCell("rte", "original", 0.5), hits("rte", "+-" * 20)
    )  # so that the model has a column
    write_scores(folder, [*rows, *plain_rows])
    return folder


def test_what_a_name_holds_is_text(tmp_path: Path) -> None:
    table = tables(tmp_path / "out", hostile_run(tmp_path / "run"))[MAIN]
    grid = [line for line in table.splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in grid}) == 1
    assert not re.search(r"(?<!\\)[<\[`$]", table)
    text = (tmp_path / "out" / "tables" / f"{MAIN}.tex").read_text(encoding="utf-8")
    assert text.isascii()
    assert r"\input" not in text
    assert r"=1+1\textbar{}\$x\_\{2\}\$ \textbackslash{}input\{/etc/passwd\}" in text
    models = {row["model"] for row in records(tmp_path / "out")} - {"flan_t5_base"}
    assert models == {"'" + HOSTILE}


def test_cells_of_a_spreadsheet() -> None:
    assert [csv_cell(value) for value in ("=a", "+1", "-1", "@x", " =a", "a=b")] == [
        "'=a",
        "'+1",
        "'-1",
        "'@x",
        "' =a",
        "a=b",
    ]
    assert [csv_cell(value) for value in (-3.6, 4, None, True, "a\r\nb\0")] == [-3.6, 4, "", "true", "a  b "]
    assert tidy_csv([{"a": 'x,"y"', "b": -0.00001}]) == 'a,b\r\n"x,""y""",0.0\r\n'


def test_a_table_as_markdown_and_latex() -> None:
    table = Table("t", "A_b", ("50 %",), ("task", "score"), (("C|B", "7±1 -- 3"),), (), frozenset({1}), ("so p < 1.",))
    assert markdown(table).splitlines()[4:7] == ["| task | score |", "| --- | ---: |", "| C\\|B | 7±1 -- 3 |"]
    assert markdown(table).endswith("- so p \\< 1.\n")
    assert r"C\textbar{}B & 7$\pm$1 -{}- 3 \\" in latex(table)
    assert r"\caption{A\_b. 50 \%.}" in latex(table)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_compiles(tmp_path: Path) -> None:
    report_runs([*variants(tmp_path), hostile_run(tmp_path / "hostile")], tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out" / "tables").glob("*.tex"))
    assert len(names) == 7
    head = r"\documentclass{article}\usepackage{booktabs}\usepackage{graphicx}\begin{document}"
    body = "\n".join(rf"\input{{out/tables/{name}}}\clearpage" for name in names)
    (tmp_path / "all.tex").write_text(f"{head}\n{body}\n\\end{{document}}\n")
    arguments = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "all.tex"]
    done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, timeout=LONGEST)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull \\hbox" not in done.stdout


def test_a_run_alone_is_reported_by_its_own_configuration(tmp_path: Path) -> None:
    run = write_run(
        tmp_path / "run", [FakeCell("rte", arm, 0.7, model="minilm") for arm in ("original", "synthetic")], SMALL
    )
    open_run(compose(["+experiment=quickstart", "task=rte", "report.title=Mine", f"run.dir={run}"]))
    done = command("eval.report", f"run.dir={run}")
    assert done.returncode == 0, done.stderr
    page = (run / "report" / "index.html").read_text(encoding="utf-8")
    assert "<h1>Mine</h1>" in page
    assert "RTE: synthetic" in unescape(page)
    assert re.search(r'<span class="range">\d+\.\d to \d+\.\d</span>', page)
    assert (run / "report" / "tables" / "scores.md").is_file()
    assert (run / "report" / "tables" / f"{MAIN}.csv").is_file()
    before = files(run / "report")
    report(settings("task=rte", "report.title=Mine", f"run.dir={run}", f"report.dir={tmp_path / 'again'}"))
    after = files(tmp_path / "again")
    assert {name: data for name, data in before.items() if name != "index.html"} == {
        name: data for name, data in after.items() if name != "index.html"
    }


def test_several_runs_take_no_settings_of_one(tmp_path: Path) -> None:
    runs = [
        f"run.dir={write_run(tmp_path / name, [FakeCell('rte', 'original', 0.7)], SMALL)}" for name in ("one", "two")
    ]
    for arguments, message in (
        ([*runs, "task=rte"], "error: task=rte: got it with several runs"),
        ([*runs, f"run.dir={tmp_path / 'none'}"], "which has no scores.jsonl"),
        ([f"run.dir={tmp_path}/x*"], "which matches no run with scores.jsonl"),
    ):
        done = command("eval.report", *arguments)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
        assert message in done.stderr


def test_help_imports_no_library_of_numbers() -> None:
    script = (
        "import runpy, sys; sys.argv[1:] = ['--help']\n"
        "try: runpy.run_module('eval.report', run_name='__main__')\n"
        "except SystemExit as end: assert not end.code\n"
        "assert not {'numpy', 'scipy', 'sklearn', 'matplotlib', 'torch'} & set(sys.modules), set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=LONGEST)
    assert done.returncode == 0, done.stderr[-500:]
