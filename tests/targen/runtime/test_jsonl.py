"""JSON files as they come from elsewhere: what nothing could read later is named by file and line."""

import json
from pathlib import Path

import pytest

from targen.runtime.errors import UserError
from targen.runtime.jsonl import AppendLog, Lines, dumps, read_json, read_jsonl, without_surrogates, write_text

HALF = "\ud83d"  # of an emoji, as scrapers that cut by UTF-16 units leave it
DEEP = '{"text": ' + "[" * 100_000 + "]" * 100_000 + "}\n"


@pytest.mark.parametrize("row", [{"text": f"so {HALF}"}, {"texts": [{"x": HALF}]}, {f"a{HALF}": 1}])
def test_half_a_character_is_named_by_file_and_line(tmp_path: Path, row: dict[str, object]) -> None:
    path = tmp_path / "val.jsonl"
    path.write_text(dumps({"text": "whole \U0001f600 \\ud83d"}) + "\n\n" + dumps(row) + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"val\.jsonl:3: got half a character \(the lone surrogate \\ud83d\)"):
        list(read_jsonl(path))
    assert [record for _, record in read_jsonl(path, surrogates=True)][1] == row
    assert without_surrogates({"text": f"so {HALF} \U0001f600"}) == {"text": "so  \U0001f600"}


def test_a_line_of_a_hundred_thousand_lists_is_named_by_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "val.jsonl"
    for deep in (DEEP, '{"text": ' + "[" * 101 + "]" * 101 + "}"):
        path.write_text("{}\n" + deep, encoding="ascii")
        with pytest.raises(UserError, match=r"val\.jsonl:2: got lists or objects nested more than 100 deep"):
            list(read_jsonl(path))
    path.write_text(DEEP, encoding="ascii")
    with pytest.raises(UserError, match=r"val\.jsonl: got lists or objects nested more than 100 deep"):
        read_json(path)
    wide = {"lists": [[number] for number in range(1000)]}
    path.write_text(json.dumps(wide), encoding="ascii")
    assert read_json(path) == wide


def test_a_log_that_ends_in_a_deep_line_is_cut_before_it(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    path.write_text('{"id": 1}\n' + DEEP.strip(), encoding="ascii")
    AppendLog(path).close()
    lines = Lines(path)
    assert [record for _, _, record in lines.records()] == [{"id": 1}]
    lines.close()


def test_a_file_is_whole_or_not_there(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="ascii")
    for path in (tmp_path / "file" / "sub" / "a.txt", tmp_path / ("a" * 300), tmp_path):
        with pytest.raises(UserError, match=r"cannot be written \((Not a directory|File name too long|Is a dir)"):
            write_text(path, "text")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
