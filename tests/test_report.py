"""The page and the table: what a model wrote is text, what was not run says so, and nobody mistakes the fixture for SuperGLUE."""

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
from conftest import settings

from eval.report import report
from eval.tables import lines as table_lines
from eval.tables import markdown, warning
from targen.errors import UserError
from targen.generate import generate
from targen.jsonl import write_jsonl

HOSTILE = "</dd></style><script>alert(1)</script><img src=x onerror=alert(2)> {{ 7*7 }} ]]> \" ' & |"


class Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.handlers: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data: str) -> None:
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
    page = Elements()
    page.feed(report(found).read_text(encoding="utf-8"))
    assert not {"script", "img", "iframe", "link"} & set(page.tags)
    assert page.tags.count("style") == 1
    assert page.handlers == []
    assert page.text.count("<script>alert(1)</script>") >= 4 * 4
    assert "{{ 7*7 }}" in page.text


def test_the_page_shows_the_whole_story_and_the_corrected_label_first(tmp_path: Path) -> None:
    found = settings(f"run.dir={tmp_path}", "task=record")
    generate(found)
    page = Elements()
    page.feed(report(found).read_text(encoding="utf-8"))
    story = next(
        json.loads(line)
        for line in (found.paths.synthetic("record") / "provenance.jsonl").read_text().splitlines()
        if json.loads(line)["label_before"] != json.loads(line)["label_after"]
    )
    for text in (story["context"], story["instance_seed"]["article"], story["explanation"], "Nothing was evaluated"):
        assert text in page.text
    assert f"{story['label_before']} → {story['label_after']}" in page.text
    with_network = [line for line in (tmp_path / "report" / "index.html").read_text().splitlines() if "http" in line]
    assert all("http-equiv" in line for line in with_network)


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
