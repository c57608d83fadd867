"""Reports know the tasks of each run from its own config.yaml, and a cell's tasks from its rows or, in older runs, its name."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml

from eval.reporting.report import report_runs
from eval.reporting.run_settings import settings_of_run
from eval.scoring.metrics import METRICS, ClassCounts, ClassMetric, average
from eval.scoring.run_tasks import run_tasks
from eval.scoring.runs import read_runs
from targen.config.loading import as_values
from targen.runtime.cli import compose
from targen.runtime.errors import UserError
from targen.tasks.task import Task
from tests.support.commands import lines
from tests.support.scored_runs import (
    MORE,
    SPECS,
    FakeCell,
    answers,
    gold_of,
    write_cell,
    write_run,
    write_scores,
    write_tasks,
)

SMALL = dict.fromkeys(SPECS, 40)
OWN = "my_own_task"  # a name with the sign that joins the tasks of a mixture
ARMS = ("original", "synthetic")


def own_task(name: str = OWN, **changes: Any) -> Task:
    return replace(SPECS["rte"], name=name, folder="Mine", **changes)


def mixture(folder: Path, tasks: Sequence[str], arm: str, is_old: bool = False) -> list[dict[str, Any]]:
    """Rows and predictions of one model of several tasks; rows of earlier versions do not say which tasks."""
    name = f"flan_t5_base-multi-{'_'.join(sorted(tasks))}-{arm}-s0"
    rows = []
    for task in tasks:
        cell_rows = write_cell(folder, cell := FakeCell(SPECS.get(task, SPECS["rte"]).name, arm, 0.7), _answers(cell))
        path = folder / "predictions" / f"{cell_rows[0]['cell']}.jsonl"
        path.rename(folder / "predictions" / f"{name}.{task}.jsonl")
        columns = {"cell": name, "setting": "multi", "task": task} | ({} if is_old else {"tasks": sorted(tasks)})
        rows += [row | columns for row in cell_rows]
    return rows


def _answers(cell: FakeCell) -> Any:
    task = SPECS[cell.task]
    return answers(task, gold_of(task, 40), cell.right, Random(cell.arm))


def table(folder: Path, name: str = "original_vs_synthetic") -> list[list[str]]:
    lines = (folder / "tables" / f"{name}.md").read_text(encoding="utf-8").splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]


@pytest.mark.parametrize("is_old", [False, True])
def test_a_task_with_an_underscore_is_reported_in_a_mixture(tmp_path: Path, is_old: bool) -> None:
    run = tmp_path / "run"
    write_scores(run, [row for arm in ARMS for row in mixture(run, ("cb", OWN), arm, is_old)])
    write_tasks(run, {OWN: own_task(), "cb": SPECS["cb"]})
    report_runs([run], tmp_path / "out")
    titles = [row[0] for row in table(tmp_path / "out")[2:]]
    assert titles == ["Mine", "CB", "CB", "average of 2 tasks"]  # in the order of the run's configuration
    (run_read,) = read_runs([run])
    assert {run_score.cell_tasks for run_score in run_read.scores} == {("cb", OWN)}
    assert all(run_score.predictions.is_file() for run_score in run_read.scores)


def test_the_name_of_an_old_cell_is_read_as_the_tasks_that_were_scored(tmp_path: Path) -> None:
    """`a_b` may be one task or two; a cell of one task never becomes a mixture."""
    run = tmp_path / "run"
    tasks = {name: own_task(name) for name in ("a", "b", "a_b")}
    cell_rows = write_cell(run, model_cell := FakeCell("rte", "original", 0.7), _answers(model_cell))
    cell = "flan_t5_base-single-a_b-original-s0"
    (run / "predictions" / f"{cell_rows[0]['cell']}.jsonl").rename(run / "predictions" / f"{cell}.jsonl")
    row = cell_rows[0] | {"cell": cell, "task": "a_b"}
    write_scores(run, [row, *mixture(run, ("a", "b"), "original", is_old=True)])
    write_tasks(run, tasks)
    (run_read,) = read_runs([run])
    assert [run_score.cell_tasks for run_score in run_read.scores] == [("a_b",), ("a", "b"), ("a", "b")]
    assert all(run_score.predictions.is_file() for run_score in run_read.scores)


def test_a_task_may_have_fewer_metrics_than_its_packaged_file(tmp_path: Path) -> None:
    run = tmp_path / "run"
    model_cells = [FakeCell("cb", arm, 0.7) for arm in ARMS]
    larger = [FakeCell("cb", "synthetic", 0.75)]
    write_run(run, model_cells, SMALL)
    write_scores(run, [row for row in _rows(run) if row["metric"] == "accuracy"])
    large = write_run(tmp_path / "large", larger, SMALL, train_rows=1000)
    write_scores(large, [row for row in _rows(large) if row["metric"] == "accuracy"])
    for folder in (run, large):
        write_tasks(folder, {"cb": replace(SPECS["cb"], metrics=["accuracy"])})
    report_runs([run, large], tmp_path / "out")
    assert [row[:2] for row in table(tmp_path / "out")[2:]] == [["CB", "accuracy"]]
    header, _, *points = table(tmp_path / "out", "sizes")
    assert [row[header.index("metric")] for row in points] == ["accuracy", "accuracy"]
    both_metrics = write_run(tmp_path / "both", [replace(larger[0], model="t5_large")], SMALL)
    write_tasks(both_metrics, {"cb": SPECS["cb"]})
    report_runs([run, both_metrics], tmp_path / "together")  # each run has its own metrics
    header, _, *lines_together = table(tmp_path / "together")
    assert "macro-F1" in [row[header.index("metric")] for row in lines_together]


def _rows(run: Path) -> list[dict[str, Any]]:
    return lines(run / "scores.jsonl")


@pytest.mark.parametrize("extra", [0, 1, 2])
def test_the_papers_average_is_that_of_its_eight_tasks_whatever_else_was_run(tmp_path: Path, extra: int) -> None:
    run = write_run(tmp_path / "run", [FakeCell(task, arm, 0.7) for task in SPECS for arm in ARMS], SMALL)
    names = [f"own_{number}" for number in range(extra)]
    rows = _rows(run)
    for name in names:
        rows += [row | {"cell": row["cell"].replace("-rte-", f"-{name}-"), "task": name} for row in rows
                 if row["task"] == "rte"]  # fmt: skip
    write_scores(run, rows)
    write_tasks(run, SPECS | {name: own_task(name) for name in names})
    report_runs([run], tmp_path / "out")
    averages = {row[0]: row[-3:-1] for row in table(tmp_path / "out") if row[0].startswith("average")}
    published = ["81.12", "82.84"]
    if extra:
        assert averages == {f"average of {8 + extra} tasks": ["--", "--"],
                            "average of the 8 tasks of the paper": published}  # fmt: skip
    else:
        assert averages == {"average of 8 tasks": published}


def test_all_ten_tasks_have_the_papers_average_and_the_leaderboards(tmp_path: Path) -> None:
    tasks = SPECS | MORE
    run = write_run(
        tmp_path / "run", [FakeCell(task, arm, 0.7) for task in tasks for arm in ARMS], SMALL | dict.fromkeys(MORE, 48)
    )
    write_tasks(run, tasks)
    report_runs([run], tmp_path / "out")
    header, _, *rows = table(tmp_path / "out")
    averages = {row[0]: row for row in rows if row[0].startswith("average")}
    assert list(averages) == [
        "average of 10 tasks",
        "average of the 8 tasks of the paper",
        "average of the 8 tasks of the leaderboard",
    ]
    published = {name: row[-3:-1] for name, row in averages.items()}
    assert published["average of the 8 tasks of the paper"] == ["81.12", "82.84"]
    assert published["average of the 8 tasks of the leaderboard"] == published["average of 10 tasks"] == ["--", "--"]
    values: dict[str, dict[str, float]] = {}
    for line in _rows(run):
        if line["arm"] == "synthetic":
            values.setdefault(line["task"], {})[line["metric"]] = line["value"]
    mean = average({name: values[name] for name in ("boolq", "cb", "copa", "multirc", "record", "rte", "wic", "wsc")})
    text = averages["average of the 8 tasks of the leaderboard"][header.index("synthetic")]
    assert mean is not None and text.startswith(f"{100 * mean:.1f} (")
    (exact_match,) = [row for row in rows if row[1] == "exact match per question"]
    assert "(" in exact_match[header.index("synthetic")]


def test_a_metric_is_one_function_and_its_registration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else in scores, statistics, tables or figures knows it; its values may be negative."""

    def kappa(counts: ClassCounts) -> Any:
        total = counts.gold.sum(axis=-1)
        agreed, chance = counts.right.sum(axis=-1) / total, (counts.answered * counts.gold).sum(axis=-1) / total**2
        return (agreed - chance) / (1 - chance)

    monkeypatch.setitem(METRICS, "kappa", ClassMetric("kappa", "Cohen's kappa", kappa, lowest=-1))
    task = replace(SPECS["rte"], metrics=["accuracy", "kappa"])
    monkeypatch.setitem(SPECS, "rte", task)
    run = write_run(tmp_path / "run", [FakeCell("rte", "original", 0.9), FakeCell("rte", "synthetic", 0.0)], SMALL)
    write_tasks(run, {"rte": task})
    report_runs([run], tmp_path / "out")
    (row,) = [row for row in table(tmp_path / "out")[2:] if row[1] == "Cohen's kappa"]
    assert row[3].endswith("40×1") and "(" in row[3]
    bad = [line | {"value": -1.5} if line["metric"] == "kappa" else line for line in _rows(run)]
    write_scores(run, bad)
    with pytest.raises(UserError, match=r"value: got -1.5, expected -1 to 1, the range of kappa"):
        read_runs([run])


def test_a_configuration_of_endless_lists_is_one_line(tmp_path: Path) -> None:
    """The C parser of YAML would overflow its stack, which kills the process."""
    path = tmp_path / "config.yaml"
    path.write_text("tasks: " + "[" * 100_000 + "]" * 100_000 + "\n", encoding="ascii")
    with pytest.raises(UserError, match=r"config\.yaml: cannot be read \(nested more than 100 deep\)"):
        run_tasks(path, [])
    with pytest.raises(UserError, match=r"config\.yaml: cannot be read \(maximum recursion depth exceeded\)"):
        settings_of_run(tmp_path, {})


def test_only_other_keys_are_called_another_version(tmp_path: Path) -> None:
    values = as_values(compose(["+experiment=quickstart", "arms=[original,synthetic]", f"run.dir={tmp_path}"]))
    path = tmp_path / "config.yaml"

    def message(**changes: Any) -> str:
        path.write_text(yaml.safe_dump({key: value for key, value in (values | changes).items() if value is not ...}))
        with pytest.raises(UserError) as err:
            settings_of_run(tmp_path, {})
        assert "\n" not in str(err.value)
        return str(err.value)

    assert "seed: got 'x', expected" in (wrong := message(seed="x")) and "version" not in wrong
    assert "generator: got None" in (wrong := message(generator=None)) and "version" not in wrong
    assert "written by another version, or edited (unknown here: novel)" in message(novel=1)
    assert "missing: synth" in message(synth=...)
    path.write_text(yaml.safe_dump(values))
    assert settings_of_run(tmp_path, {"title": "Mine"}).report.title == "Mine"


def test_a_run_from_before_a_key_was_added_is_read_with_its_default(tmp_path: Path) -> None:
    values = as_values(compose(["+experiment=quickstart", "arms=[original]", f"run.dir={tmp_path}"]))
    for section, key in (("synth", "holdout"), ("synth", "few_rounds"), ("train", "max_rows"), ("data", "hub")):
        del values[section][key]
    del values["task_dir"], values["cell"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    run_settings = settings_of_run(tmp_path, {})
    assert (run_settings.synth.size, run_settings.synth.few_rounds, run_settings.cell) == (24, False, None)


def test_a_task_of_the_run_that_does_not_fit_is_named(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [FakeCell("cb", "original", 0.7)], SMALL)
    for changes, message in (
        ({"metrics": ["accurcy"]}, r"config.yaml: tasks.cb.metrics.0: got 'accurcy', .*Did you mean 'accuracy'"),
        ({"rows_per_slot": "x"}, r"config.yaml: tasks.cb.rows_per_slot: got 'x', expected"),
        ({"novel": 1}, r"config.yaml: was written by another version, or edited \(unknown here: tasks.cb.novel\)"),
    ):
        (run / "config.yaml").write_text(yaml.safe_dump({"tasks": {"cb": asdict(SPECS["cb"]) | changes}}))
        with pytest.raises(UserError, match=message):
            read_runs([run])
