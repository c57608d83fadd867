"""Markdown tables, by hand."""

import pytest

from targen.text.markdown import markdown_table


def test_a_table_by_hand() -> None:
    table = markdown_table(("task", "rows"), [("`cb`", 24), ("a \\| b", "--")], numeric={1})
    assert table == "| task | rows |\n| --- | ---: |\n| `cb` | 24 |\n| a \\| b | -- |"
    assert markdown_table(("task",), []) == "| task |\n| --- |"


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="got a row of 1 cells, expected 2"):
        markdown_table(("task", "rows"), [("cb",)])
