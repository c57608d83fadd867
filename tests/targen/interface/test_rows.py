"""Rows as a table, a data frame and a data set."""

from pathlib import Path

import pytest

from targen import Rows, generate_rows, load_task


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    keys = {"synth.seeds_per_context": 2, "synth.learnability_rows": 0}
    return generate_rows("cb", "recorded", size=12, run_dir=tmp_path_factory.mktemp("run"), settings=keys)


def test_a_data_frame_has_the_row_and_its_provenance(rows: Rows) -> None:
    frame = rows.to_pandas()
    assert frame.shape == (12, 13)
    assert list(frame)[:5] == ["premise", "hypothesis", "label", "idx", "label_name"]
    assert list(frame.label_name) == [row.label for row in rows]
    assert list(frame.context) == [row.context for row in rows]
    part = rows[2:4]
    assert isinstance(part, Rows) and part.task is rows.task
    assert [row.idx for row in part] == [2, 3] and rows[-1].idx == 11
    assert "[12 rows x 13 columns]" in repr(rows)
    assert repr(rows[:0]) == "an empty table"


def test_a_notebook_shows_it_escaped_and_short(rows: Rows) -> None:
    html = rows._repr_html_()
    assert html.count("<tr>") == 10 + 1 + 0 if "..." not in html else html.count("<tr>") <= 12
    assert "mathjax_ignore" in html
    hostile = Rows(rows.task, [type(rows[0])(**{**vars(rows[0]), "context": "<script>alert('$x$')</script>"})])
    assert "<script>" not in hostile._repr_html_() and "&lt;script&gt;" in hostile._repr_html_()


def test_a_data_set_has_numbered_labels(rows: Rows, capfd: pytest.CaptureFixture[str]) -> None:
    data = rows.to_datasets()
    assert data.column_names == ["premise", "hypothesis", "label", "idx"]
    names = [label.name for label in load_task("cb").labels]
    assert data.features["label"].names == names
    assert data.features["label"].int2str(data["label"]) == [row.label for row in rows]
    assert rows[3:5].to_datasets()["idx"] == [3, 4]
    assert len(rows[:0].to_datasets()) == 0
    assert capfd.readouterr().err == ""


def test_a_task_without_labels_keeps_its_nested_rows(tmp_path: Path) -> None:
    keys = {"synth.seeds_per_context": 2, "synth.learnability_rows": 0}
    rows = generate_rows("record", "recorded", size=3, run_dir=tmp_path, settings=keys)
    assert {row.label for row in rows} == {None}
    assert rows.to_datasets()[0]["passage"]["text"] == rows[0].row["passage"]["text"]
    assert len(rows.to_pandas()) == 3
