"""Markdown tables."""

from collections.abc import Collection, Iterable, Sequence


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[object]], numeric: Collection[int] = ()) -> str:
    """A table without a final newline. Cells must already be Markdown; the columns in `numeric` are aligned right.

    Raises: ValueError if a row and the header differ in their number of cells.
    """
    rule = ["---:" if column in numeric else "---" for column in range(len(header))]
    lines = []
    for cells in (header, rule, *rows):
        if len(cells) != len(header):
            raise ValueError(f"got a row of {len(cells)} cells, expected {len(header)}: {cells}")
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def inline_code(value: object) -> str:
    """A name as inline code, on one line and safe in a table cell, whatever characters it holds."""
    text = " ".join(str(value).split()).replace("`", "'").replace("|", "\\|")
    return f"`{text}`"
