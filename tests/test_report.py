"""The page and the table: what a model wrote is text, what was not run says so, and nobody mistakes the fixture for SuperGLUE."""

import base64
import hashlib
import json
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from conftest import lines, settings

from eval.analysis.arguments import Own
from eval.analysis.run import analyze
from eval.page.funnel import funnel
from eval.report import report
from eval.tables import lines as table_lines
from eval.tables import markdown, warning
from targen.config import Settings
from targen.data import FIXTURE
from targen.errors import UserError
from targen.generate import generate
from targen.jsonl import write_jsonl

HOSTILE = "</dd></style><script>alert(1)</script><img src=x onerror=alert(2)> {{ 7*7 }} ]]> \" ' & |"


class Elements(HTMLParser):
    """The page as a browser takes it apart; `entries` is what its browser of rows reads."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.handlers: list[str] = []
        self.text = ""
        self.scripts: list[str] = []
        self.feed(page.read_text(encoding="utf-8"))
        self.entries: list[dict[str, Any]] = json.loads(self.scripts[0])["entries"] if self.scripts else []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] == "script" and data.strip():
            self.scripts.append(data)
        else:
            self.text += data


def score_row(task: str, arm: str, value: float, **changes: object) -> dict[str, object]:
    row = {
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
    return row | {"split": "val", "origin": "SuperGLUE val", "evaluated": "0" * 16, "is_fixture": False} | changes


def test_what_a_model_wrote_is_text_on_the_page(tmp_path: Path) -> None:
    found = settings(f"run.dir={tmp_path}", "task=rte")
    generate(found)
    folder = found.paths.synthetic("rte")
    for name in ("train", "provenance", "rejects"):
        path = folder / f"{name}.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for row in rows:
            if name == "train":
                row["premise"] = row["hypothesis"] = HOSTILE
            if name == "provenance":
                row |= {"context": HOSTILE, "explanation": HOSTILE, "instance_seed": {"premise": HOSTILE}}
        if name == "rejects":
            rows = [
                {
                    "slot": "c0-00000",
                    "attempt": 0,
                    "step": "generation",
                    "reason": HOSTILE,
                    "text": HOSTILE,
                    "call_ids": [],
                }
            ]
        write_jsonl(path, rows)
    stats = json.loads((folder / "stats.json").read_text())
    (folder / "stats.json").write_text(json.dumps(stats | {"rejects_per_reason": {HOSTILE: 1}}))
    page = Elements(report(found))
    assert not {"img", "iframe", "link"} & set(page.tags)
    assert page.tags.count("style") == 1
    assert page.tags.count("script") == len(page.scripts) == 2  # the rows and the program
    assert page.handlers == []
    assert "<script>alert(1)</script>" in page.text and "{{ 7*7 }}" in page.text  # a reason
    assert all(dict(entry["texts"])["premise"] == HOSTILE for entry in page.entries if "texts" in entry)
    assert [entry["text"] for entry in page.entries if "step" in entry] == [HOSTILE]


def test_only_the_pages_own_program_may_run(tmp_path: Path) -> None:
    found = settings(f"run.dir={tmp_path}", "task=rte")
    generate(found)
    text = report(found).read_text(encoding="utf-8")
    digest = base64.b64encode(
        hashlib.sha256(text.split("<script>")[1].split("</script>")[0].encode()).digest()
    ).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'" in text
    with_network = [line for line in text.splitlines() if "http" in line]
    assert all("http-equiv" in line for line in with_network)


def test_the_page_has_the_whole_story_of_every_row(tmp_path: Path) -> None:
    found = settings(f"run.dir={tmp_path}", "task=record")
    generate(found)
    page = Elements(report(found))
    stories = lines(found.paths.synthetic("record") / "provenance.jsonl")
    assert len(page.entries) == len(stories) and "Nothing was evaluated" in page.text
    for entry, story in zip(page.entries, stories, strict=True):
        assert (entry["before"], entry["label"]) == (story["label_before"], story["label_after"])
        assert entry["shown"] == [["context", story["context"]]] and entry["explanation"] == story["explanation"]
        texts = [text for _, text in entry["texts"]]
        article = dict(entry["seed"])["article"]  # by its place where the row has the very same text
        assert story["instance_seed"]["article"] == (texts[article] if isinstance(article, int) else article)


def test_a_page_that_would_be_too_large_has_an_even_sample(tmp_path: Path) -> None:
    found = settings(f"run.dir={tmp_path}", "task=[axg,wsc]", "report.rows_megabytes=0.01")
    generate(found)
    page = Elements(report(found))
    assert len(page.scripts[0]) < 11_000
    kept = [(entry["task"], entry["slot"]) for entry in page.entries if "texts" in entry]
    counts = Counter(kept)
    assert {count for (task, _), count in counts.items() if task == 0} == {2}  # pairs are whole
    shown = [sum(task == number for task, _ in kept) for number in (0, 1)]
    assert all(0 < count < 24 for count in shown)
    assert f"AX-g {shown[0]} of 24 rows" in page.text and f"WSC {shown[1]} of 24 rows" in page.text
    assert Elements(report(found)).entries == page.entries


def test_the_funnel_loses_what_was_refused(tmp_path: Path) -> None:
    found = settings(f"run.dir={tmp_path}", "task=[rte,wsc]")
    generate(found)
    for name, lost in (("rte", {"repeats nothing": 1, "in the set": 1}), ("wsc", {"instance seed written": 1})):
        stats = json.loads((found.paths.synthetic(name) / "stats.json").read_text())
        stages = funnel(found.tasks[name], stats).stages
        assert {stage.name: stage.refused for stage in stages if stage.refused} == lost
        assert (stages[0].count, stages[-1].count) == (stats["attempts"], stats["instances"])


def analysed(folder: Path) -> Settings:
    """A run that was analysed; its rows stand in the original's evaluation split, too."""
    data = ["data.source=local", f"data.dir={folder / 'data'}", "synth.contamination=off"]
    keys = ["analysis.parts=[lexical,bias,contamination]", "analysis.spacy_model=none_such", "analysis.replicates=20"]
    found = settings(f"run.dir={folder / 'run'}", "task=rte", *data, *keys)
    generate(found)
    fixture, made = lines(FIXTURE / "RTE" / "val.jsonl"), lines(found.paths.synthetic("rte") / "train.jsonl")
    write_jsonl(folder / "data" / "RTE" / "train.jsonl", fixture)
    write_jsonl(folder / "data" / "RTE" / "val.jsonl", made)
    analyze(found, Own())
    return found


def test_what_was_found_in_the_data_stands_on_the_page_and_at_its_rows(tmp_path: Path) -> None:
    page = Elements(report(found := analysed(tmp_path)))
    analysis = json.loads((found.paths.analysis / "rte.json").read_text())
    assert len(analysis["measures"]) > 10 and all(one["title"] in page.text for one in analysis["measures"])
    assert "bias.entities: spaCy has no model none_such. Run python -m spacy download none_such" in page.text
    repeated = {one["idx"] for one in analysis["details"]["repeats"]["b"]}
    assert len(repeated) == analysis["size"] == 10
    assert repeated == {entry["idx"] for entry in page.entries if "near" in entry and "texts" in entry}


def test_an_analysis_of_other_rows_says_so_and_marks_none(tmp_path: Path) -> None:
    found = analysed(tmp_path)
    path = found.paths.synthetic("rte") / "train.jsonl"
    write_jsonl(path, [row | {"premise": f"{row['premise']} Indeed."} for row in lines(path)])
    page = Elements(report(found))
    assert "the rows have changed since they were analysed" in page.text
    assert not any("near" in entry and "texts" in entry for entry in page.entries)


def test_the_table_as_markdown() -> None:
    tasks = list(settings("task=[rte,cb]").tasks.values())
    scores = [score_row("rte", "original", 0.6), score_row("rte", "original", 0.7, seed=1, cell="other")]
    table = table_lines(tasks, ["original", "synthetic"], scores)
    assert markdown("Title", warning(table), None, ["original", "synthetic"], table).splitlines() == [
        "# Title",
        "",
        "| task | metric | majority | original | synthetic | examples | unreadable | evaluated on |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | --- |",
        "| RTE | accuracy | 50.0 | 65.0 ± 7.1 | -- | 10 | 2 | SuperGLUE val, 10 of 20 rows |",
    ]


def test_the_title_says_that_it_is_not_superglue() -> None:
    tasks = list(settings("task=[rte,copa]").tasks.values())
    fixture = {"origin": "this project's own fixture, NOT SuperGLUE", "is_fixture": True}
    every = table_lines(tasks, ["synthetic"], [score_row("rte", "synthetic", 0.5, **fixture)])
    assert "NOT SuperGLUE (all tasks" in markdown("T", warning(every), None, ["synthetic"], every).splitlines()[0]
    some = [score_row("rte", "synthetic", 0.5, **fixture), score_row("copa", "synthetic", 0.5)]
    assert "NOT SuperGLUE (RTE:" in str(warning(table_lines(tasks, ["synthetic"], some)))
    assert warning(table_lines(tasks, ["synthetic"], some[1:])) is None


def test_scores_on_different_rows_never_share_a_line() -> None:
    tasks = list(settings("task=rte").tasks.values())
    mixed = [score_row("rte", "original", 0.5), score_row("rte", "synthetic", 0.5, origin="elsewhere", cell="b")]
    with pytest.raises(UserError, match=r"original-s0 was scored on SuperGLUE val \(10 rows, 0{16}\), b on elsewhere"):
        table_lines(tasks, ["original", "synthetic"], mixed)
