"""A table as Markdown, LaTeX and CSV. Cells are plain text: they cannot become markup, a command or a formula."""

import csv
import io
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from targen.runtime.jsonl import write_text
from targen.text.markdown import markdown_table

Value = str | int | float | bool | None
SUFFIXES = ("md", "tex", "csv")


@dataclass(frozen=True)
class Table:
    """`header` and `lines` are for people; `records` are for programs, with one number each and the same columns."""

    name: str  # of its files
    title: str
    notes: tuple[str, ...]
    header: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    records: tuple[Mapping[str, Value], ...]
    numeric: frozenset[int] = frozenset()  # columns that are aligned right
    sentences: tuple[str, ...] = ()


def write_table(folder: Path, table: Table) -> None:
    """Writes <folder>/<name>.md, .tex and .csv."""
    write_text(folder / f"{table.name}.md", markdown(table))
    write_text(folder / f"{table.name}.tex", latex(table))
    write_text(folder / f"{table.name}.csv", tidy_csv(table.records))


def markdown(table: Table) -> str:
    """The title, the notes, the grid, and the sentences as a list."""
    header, *rows = ([markdown_text(text) for text in row] for row in (table.header, *table.lines))
    grid = markdown_table(header, rows, table.numeric)
    parts = [f"# {markdown_text(table.title)}", *map(markdown_text, table.notes), grid]
    if table.sentences:
        parts.append("\n".join(f"- {markdown_text(text)}" for text in table.sentences))
    return "\n\n".join(parts) + "\n"


def markdown_text(text: str) -> str:
    """Text that Markdown shows as it is; an underscore within a word needs no escape."""
    escaped = re.sub(r"([\\|`*\[\]<>&#~$])", r"\\\1", plain_text(text))
    return re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", escaped)


LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': "{''}", "'": "{'}", "`": "{`}", 
    "±": r"$\pm$", "×": r"$\times$", "–": r"\textendash{}", "—": r"\textemdash{}", "−": "$-$", "…": r"\ldots{}",
}  # fmt: skip
FIT = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"  # at most as wide as the page


def latex(table: Table) -> str:
    """A table environment; the document needs the packages booktabs and graphicx."""
    columns = "".join("r" if column in table.numeric else "l" for column in range(len(table.header)))
    caption = " ".join(f"{latex_text(text.rstrip('.'))}." for text in (table.title, *table.notes))
    rows = [" & ".join(latex_text(text) for text in row) + r" \\" for row in (table.header, *table.lines)]
    parts = [
        "% needs \\usepackage{booktabs} and \\usepackage{graphicx}",
        "\\begin{table}",
        "\\footnotesize",
        "\\centering",
        f"\\caption{{{caption}}}",
        FIT,
        f"\\begin{{tabular}}{{{columns}}}",
        "\\toprule",
        rows[0],
        "\\midrule",
        *rows[1:],
        "\\bottomrule",
        "\\end{tabular}}",
        "\\end{table}",
    ]
    return "\n".join(parts) + "\n"


def latex_text(text: str) -> str:
    """Text that LaTeX prints as it is; letters that its fonts may lack become their code points."""
    signs = (LATEX.get(sign, sign if sign.isascii() else _foreign(sign)) for sign in plain_text(text))
    return "".join(signs).replace("--", "-{}-")


def _foreign(sign: str) -> str:
    """Latin letters without their accents, anything else as its code point."""
    bare = unicodedata.normalize("NFKD", sign)[0]
    return bare if bare.isascii() and bare.isalnum() else f"(U+{ord(sign):04X})"


def tidy_csv(records: Sequence[Mapping[str, Value]]) -> str:
    """CSV as in RFC 4180, one number per line, with the columns of the first record."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(records[0]) if records else [], lineterminator="\r\n")
    writer.writeheader()
    for record in records:
        writer.writerow({name: csv_cell(value) for name, value in record.items()})
    return out.getvalue()


FORMULA_STARTS = ("=", "+", "-", "@", "＝", "＋", "－", "＠")


def csv_text(text: str) -> str:
    """Text that no spreadsheet takes for a formula: an apostrophe is put before what looks like one.

    Source: OWASP, CSV injection.
    """
    is_formula = text.lstrip().startswith(FORMULA_STARTS) or text.startswith(("\t", "\r", "\n"))
    return f"'{text}" if is_formula else text


def csv_cell(value: Value) -> str | int | float:
    """Numbers stay numbers, rounded to four decimals; text is on one line and never a formula."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return round(value, 4) + 0.0  # no -0.0
    if isinstance(value, str):
        return csv_text(plain_text(value))
    return "" if value is None else value


def plain_text(text: str) -> str:
    """The text on one line, without control characters and other invisible ones."""
    return "".join(" " if unicodedata.category(sign) in ("Cc", "Cf", "Cs", "Zl", "Zp") else sign for sign in text)
