"""Which rows are original ones, as the data settings say."""

from pathlib import Path

import pytest

from tests.support.commands import PROJECT, settings


@pytest.mark.parametrize("folder", [False, True])
def test_a_file_of_evaluation_rows_leaves_no_original_arm(tmp_path: Path, folder: bool) -> None:
    """In a folder of official files, a train split that is missing is an error, which names it."""
    rows = (PROJECT / "eval" / "fixture" / "CB" / "val.jsonl").read_bytes()
    (tmp_path / "CB").mkdir()
    (tmp_path / "CB" / "val.jsonl").write_bytes(rows)
    path = tmp_path if folder else tmp_path / "CB" / "val.jsonl"
    run = settings("task=cb", f"data.dir={path}")
    assert list(run.arms) == (["original", "synthetic"] if folder else ["synthetic"])
