"""The page and the table: a model's output is shown as text, gaps are named, and nobody mistakes the fixture for SuperGLUE."""

import base64
import hashlib
import json
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from eval.analysis.arguments import AnalyzeArguments
from eval.analysis.run import analyze
from eval.page.funnel import funnel
from eval.reporting.report import report
from eval.scoring.scores import Score, as_score
from eval.tables.score_tables import ScoreLine, fixture_warning, markdown, score_lines
from targen.config.settings import Settings
from targen.data.original import FIXTURE
from targen.dataset.card import write_card
from targen.generate import generate
from targen.runtime.errors import UserError
from targen.runtime.jsonl import write_jsonl
from tests.support.commands import files, lines, settings
from tests.support.fake_model import FakeModel, served_by
from tests.support.page_runs import HOSTILE, hostile_run
from tests.support.scored_runs import write_tasks


class Elements(HTMLParser):
    """The page as a browser parses it; `entries` is what its browser of rows reads."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.handlers: list[str] = []
        self.text = ""
        self.scripts: list[str] = []
        self.feed(page.read_text(encoding="utf-8"))
        self.data = next((script for script in self.scripts if script.startswith("{")), "")
        self.entries: list[dict[str, Any]] = json.loads(self.data)["entries"] if self.data else []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] == "script" and data.strip():
            self.scripts.append(data)
        else:
            self.text += data


def score_of(task: str, arm: str, value: float, **changes: object) -> Score:
    row: dict[str, Any] = {
        "benchmark": "superglue",
        "cell": f"minilm-single-{task}-{arm}-s0",
        "model": "minilm",
        "setting": "single",
        "task": task,
        "arm": arm,
        "seed": 0,
        "instruct": False,
        "scoring": "class_head",
        "shots": 0,
    }
    row |= dict.fromkeys(("train_rows", "real_rows", "method", "self_correct", "generator"))
    row |= {
        "metric": "accuracy",
        "value": value,
        "majority": 0.5,
        "n": 10,
        "rows": 10,
        "rows_in_split": 20,
        "unparsed": 1,
    }
    row |= {"split": "val", "origin": "SuperGLUE val", "evaluated": "0" * 16, "is_fixture": False}
    return as_score(row | changes, "row")


def test_what_a_model_wrote_is_text_on_the_page(tmp_path: Path) -> None:
    page = Elements(hostile_run(tmp_path).paths.report / "index.html")
    assert not {"img", "iframe", "link"} & set(page.tags)
    assert page.tags.count("style") == 1
    assert page.tags.count("script") == len(page.scripts) == 3  # the rows, and the program in two parts
    assert page.handlers == []
    assert "<script>document.title='owned'</script>" in page.text and "{{ 7*7 }}" in page.text  # a reason
    assert all(dict(entry["texts"])["premise"] == HOSTILE for entry in page.entries if "texts" in entry)
    assert [entry["text"] for entry in page.entries if "step" in entry] == [HOSTILE, HOSTILE]


def test_only_the_pages_own_program_may_run(tmp_path: Path) -> None:
    run = settings(f"run.dir={tmp_path}", "task=rte")
    generate(run)
    text = report(run).read_text(encoding="utf-8")
    digest = base64.b64encode(
        hashlib.sha256(text.split("<script>")[1].split("</script>")[0].encode()).digest()
    ).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'" in text
    with_network = [line for line in text.splitlines() if "http" in line]
    assert all("http-equiv" in line for line in with_network)


def test_the_page_has_the_whole_story_of_every_row(tmp_path: Path) -> None:
    run = settings(f"run.dir={tmp_path}", "task=record")
    generate(run)
    page = Elements(report(run))
    stories = lines(run.paths.synthetic("record") / "provenance.jsonl")
    assert len(page.entries) == len(stories) and "This run has no evaluation yet" in page.text
    for entry, story in zip(page.entries, stories, strict=True):
        assert (entry["before"], entry["label"]) == (story["label_before"], story["label_after"])
        assert entry["shown"] == [["context", story["context"]]] and entry["explanation"] == story["explanation"]
        texts = [text for _, text in entry["texts"]]
        article = dict(entry["seed"])["article"]  # by its place where the row has the very same text
        assert story["instance_seed"]["article"] == (texts[article] if isinstance(article, int) else article)


def test_a_page_that_would_be_too_large_has_an_even_sample(tmp_path: Path) -> None:
    run = settings(f"run.dir={tmp_path}", "task=[axg,wsc]", "report.rows_megabytes=0.01")
    generate(run)
    page = Elements(report(run))
    assert len(page.data) < 11_000
    slots = [(entry["task"], entry["slot"]) for entry in page.entries if "texts" in entry]
    counts = Counter(slots)
    assert {count for (task, _), count in counts.items() if task == 0} == {2}  # pairs are whole
    row_counts = [sum(task == number for task, _ in slots) for number in (0, 1)]
    assert all(0 < count < 24 for count in row_counts)
    assert f"AX-g {row_counts[0]} of 24 rows" in page.text and f"WSC {row_counts[1]} of 24 rows" in page.text
    assert Elements(report(run)).entries == page.entries


def test_the_funnel_loses_what_was_refused_or_held_back(tmp_path: Path) -> None:
    overrides = ["+experiment=superglue_recorded", "synth.label_share=original", "synth.learnability_rows=0"]
    run = settings(*overrides, "task=[axg,cb]", f"run.dir={tmp_path}")
    generate(run)
    cb_losses = {"pass the checks": 3, "in the data set": 3}
    for name, lost in (("axg", {"have an instance seed": 2, "pass the checks": 12}), ("cb", cb_losses)):
        task_funnel = funnel(run.tasks[name], run.paths.synthetic(name) / "stats.json", has_seeds=True)
        stages, stats = task_funnel.stages, task_funnel.stats
        assert {stage.name: stage.lost for stage in stages if stage.lost} == lost
        assert (stages[0].count, stages[-1].count) == (stats["attempts"], stats["instances"])
        assert sum(count for _, count in task_funnel.reasons) == sum(lost.values())


def test_the_funnel_loses_what_repeats_other_rows(tmp_path: Path, serve) -> None:
    """Rows of the fake model share words; here few may."""
    strict = ["synth.near_duplicates=0.3", "synth.contexts=4", "synth.size=12", "synth.max_attempts=40"]
    run = settings(*served_by(serve(FakeModel()).url, tmp_path), "task=[rte]", *strict)
    generate(run)
    steps = Counter(reject["step"] for reject in lines(run.paths.synthetic("rte") / "rejects.jsonl"))
    repeated = sum(steps[name] for name in ("duplicate", "near_duplicate", "repeated_seed"))
    task_funnel = funnel(run.tasks["rte"], run.paths.synthetic("rte") / "stats.json", has_seeds=True)
    lost = {stage.name: stage.lost for stage in task_funnel.stages}
    assert lost["repeat nothing"] == repeated > 0
    assert task_funnel.stages[-1].count == task_funnel.stats["instances"] == 12


def test_what_is_missing_or_damaged_costs_its_own_task_and_is_said(tmp_path: Path) -> None:
    run = settings(f"run.dir={tmp_path}", "task=[cb,copa,axg,wsc]")
    generate(settings(f"run.dir={tmp_path}", "task=[cb,copa,axg]"))
    (run.paths.synthetic("cb") / "stats.json").write_text('{"attempts": 3}')
    with (run.paths.synthetic("copa") / "provenance.jsonl").open("a") as file:
        file.write('{"idx": 24}\n')
    run.paths.analysis.mkdir()
    (run.paths.analysis / "axg.json").write_text("{broken")
    page = Elements(report(run))
    assert len(page.entries) == 24 + 2  # AX-g's, and what was refused of it
    for text in (
        "stats.json: got no contexts, rejects, duplicates",
        "provenance.jsonl: got 25 lines, expected one for each of 24 rows",
        "analysis of AX-g: ",
        "axg.json: not a JSON object",
        "synthetic rows of WSC: not generated",
        "analysis of CB, COPA: not done",
    ):
        assert text in page.text


def test_steps_that_were_not_taken_are_not_told(tmp_path: Path) -> None:
    run = settings(f"run.dir={tmp_path}", "task=rte", "synth.self_correct=off")
    generate(run)
    page = Elements(report(run))
    assert '"checked": false' in page.data and "pass self-correction" not in page.text


def test_every_start_of_the_run_is_told(tmp_path: Path) -> None:
    run = settings(f"run.dir={tmp_path}", "task=rte")
    generate(run)
    assert "started one by one" in Elements(report(run)).text
    first = {"overrides": ["task=rte", "report.title=It's mine"], "git_commit": "abc", "seconds": {"generate": 1.5}}
    record = {"overrides": ["phases=[report]"], "seconds": {}, "earlier_starts": [first]}
    (tmp_path / "run.json").write_text(json.dumps(record))
    text = Elements(report(run)).text
    assert """python -m targen.run task=rte 'report.title=It'"'"'s mine'""" in text and "generate 1.5 s" in text
    assert text.index("commit abc") < text.index("python -m targen.run 'phases=[report]'")


def analysed_run(folder: Path) -> Settings:
    """A run with analyses, whose synthetic rows are also the original evaluation split."""
    data = ["data.source=local", f"data.dir={folder / 'data'}", "synth.contamination=off"]
    keys = ["analysis.parts=[lexical,bias,contamination]", "analysis.spacy_model=none_such", "analysis.replicates=20"]
    run = settings(f"run.dir={folder / 'run'}", "task=rte", *data, *keys)
    generate(run)
    fixture, synthetic = lines(FIXTURE / "RTE" / "val.jsonl"), lines(run.paths.synthetic("rte") / "train.jsonl")
    write_jsonl(folder / "data" / "RTE" / "train.jsonl", fixture)
    write_jsonl(folder / "data" / "RTE" / "val.jsonl", synthetic)
    analyze(run, AnalyzeArguments())
    return run


def test_what_was_found_in_the_data_stands_on_the_page_and_at_its_rows(tmp_path: Path) -> None:
    page = Elements(report(run := analysed_run(tmp_path)))
    analysis = json.loads((run.paths.analysis / "rte.json").read_text())
    assert len(analysis["measures"]) > 10 and all(measure["title"] in page.text for measure in analysis["measures"])
    assert "bias.entities: spaCy has no model none_such. Run python -m spacy download none_such" in page.text
    repeated = {measure["idx"] for measure in analysis["details"]["repeats"]["b"]}
    assert (len(repeated), analysis["size"]) == (24, 10)  # of every row, also where ten are compared
    assert repeated == {entry["idx"] for entry in page.entries if "near" in entry and "texts" in entry}


def test_an_analysis_of_other_rows_says_so_and_marks_none(tmp_path: Path) -> None:
    run = analysed_run(tmp_path)
    path = run.paths.synthetic("rte") / "train.jsonl"
    write_jsonl(path, [row | {"premise": f"{row['premise']} Indeed."} for row in lines(path)])
    page = Elements(report(run))
    assert "analysis of RTE: the rows have changed since they were analysed" in page.text
    assert not any("near" in entry and "texts" in entry for entry in page.entries)


def warning_of(table: list[ScoreLine]) -> str | None:
    return fixture_warning((line.title, line.fixture_mark) for line in table)


def test_the_table_as_markdown() -> None:
    tasks = list(settings("task=[rte,cb]").tasks.values())
    scores = [score_of("rte", "original", 0.6, train_rows=250), score_of("rte", "original", 0.7, seed=1, cell="other")]
    table = score_lines(tasks, ["original", "synthetic"], scores)
    assert markdown("Title", warning_of(table), None, ["original", "synthetic"], table).splitlines() == [
        "# Title",
        "",
        "| task | metric | majority | original | synthetic | training rows | examples | unreadable | evaluated on |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
        "| RTE | accuracy | 50.0 | 65.0 ± 7.1 | -- | original 250 | 10 | 2 | SuperGLUE val, 10 of 20 rows |",
    ]


def test_the_title_says_that_it_is_not_superglue() -> None:
    tasks = list(settings("task=[rte,copa]").tasks.values())
    fixture = {"origin": "this project's own fixture, NOT SuperGLUE", "is_fixture": True}
    alone = score_lines(tasks, ["synthetic"], [score_of("rte", "synthetic", 0.5, **fixture)])
    title = markdown("T", warning_of(alone), None, ["synthetic"], alone).splitlines()[0]
    assert "NOT SuperGLUE (all tasks" in title
    scores = [score_of("rte", "synthetic", 0.5, **fixture), score_of("copa", "synthetic", 0.5)]
    assert "NOT SuperGLUE (RTE:" in str(warning_of(score_lines(tasks, ["synthetic"], scores)))
    assert warning_of(score_lines(tasks, ["synthetic"], scores[1:])) is None


def test_a_task_of_ones_own_is_said_to_be_no_other(tmp_path: Path) -> None:
    """Neither SuperGLUE nor the paper's numbers stand on the page, in tables or on the card of a task that is not theirs."""
    recorded = settings(f"run.dir={tmp_path}", "task=rte", "arms=[synthetic]")
    generate(recorded)
    recorded.paths.synthetic("rte").rename(recorded.paths.synthetic("tickets"))
    task = replace(recorded.tasks["rte"], name="tickets", folder="Tickets", title="Ticket routing")
    run = replace(recorded, name="tickets", tasks={"tickets": task})
    fixture = {"origin": "this project's own fixture", "is_fixture": True}
    score = score_of("tickets", "synthetic", 0.5, train_rows=24, real_rows=0, method="targen", **fixture)
    write_jsonl(run.paths.scores, [score.row])
    write_tasks(tmp_path, run.tasks)
    write_card(run)
    page = Elements(report(run)).text
    tables = {name: text.decode() for name, text in files(tmp_path).items() if name.endswith((".md", ".tex", ".csv"))}
    assert {"synthetic/README.md", "report/tables/scores.md", "report/tables/original_vs_synthetic.tex"} <= set(tables)
    for text in (page, *tables.values()):
        assert not [
            claim for claim in ("SuperGLUE", "81.12", "82.84", "paper: original", "reproduced") if claim in text
        ]
    assert "Ticket routing: synthetic data" in page and "FIXTURE ONLY (all tasks" in page
    assert "Trained on as few as 24 rows" in page and "24 training rows" in page
    assert all("synthetic 24" in tables[f"report/tables/{name}"] for name in ("scores.md", "original_vs_synthetic.tex"))


def test_scores_on_different_rows_never_share_a_line() -> None:
    tasks = list(settings("task=rte").tasks.values())
    mixed = [score_of("rte", "original", 0.5), score_of("rte", "synthetic", 0.5, origin="elsewhere", cell="b")]
    with pytest.raises(UserError, match=r"original-s0 was scored on SuperGLUE val \(10 rows, 0{16}\), b on elsewhere"):
        score_lines(tasks, ["original", "synthetic"], mixed)
