"""docs/notebook.ipynb shows the output of its cells: it is executed again and compared."""

import copy
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tests.support.commands import LONGEST, PROJECT

NOTEBOOK = PROJECT / "docs" / "notebook.ipynb"
VARIES = "varies"  # tag of a cell whose numbers may differ in the last digit between processors


def output_texts(cell: Any) -> list[str]:
    """The output of a cell, printed and returned, as texts."""
    printed = "".join(out.text for out in cell.outputs if out.output_type == "stream" and out.name == "stdout")
    return [printed, *(out.data["text/plain"] for out in cell.outputs if out.output_type == "execute_result")]


def test_it_is_committed_executed_and_names_no_machine() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert sum(any(output_texts(cell)) for cell in cells) >= len(cells) - 2
    assert {out.output_type for cell in cells for out in cell.outputs} <= {"stream", "execute_result"}
    assert not re.search(r"/(tmp|home|root|work|Users)/|stderr|\bseconds\b", NOTEBOOK.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_its_cells_still_give_what_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nbclient import NotebookClient

    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    committed = nbformat.read(NOTEBOOK, as_version=4)
    notebook = copy.deepcopy(committed)
    folder = tmp_path / "work"
    folder.mkdir()
    mistake = nbformat.v4.new_code_cell("load_task('cpoa')", metadata={"tags": ["raises-exception"]})
    notebook.cells.append(mistake)
    NotebookClient(
        notebook, timeout=LONGEST, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()
    compared = 0
    for before, now in zip(committed.cells, notebook.cells[:-1], strict=True):
        if before.cell_type == "code" and VARIES not in before.metadata.get("tags", ()):
            assert output_texts(now) == output_texts(before), before.source
            compared += 1
    assert compared >= 8
    assert mistake.outputs[0].traceback == [
        "error: task: got 'cpoa', expected a task of this run or of conf/task. Did you mean 'copa'?"
    ]
