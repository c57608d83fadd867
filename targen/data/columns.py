"""Rows of data files and data sets that name columns and labels in their own way, in the format of their task.

A task says so in its YAML: `columns: {text: Ticket body, label: Queue}` and `label_names: {Billing & payments: billing, 3: other}`.
"""

import csv
import sys
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from targen.config.required_files import TABLES
from targen.runtime.errors import RowError, UserError
from targen.runtime.jsonl import Json, read_jsonl
from targen.tasks.choosing import Choosing
from targen.tasks.registry import SUPERGLUE_TASKS
from targen.tasks.task import Row, Task

LabelValue = str | bool | int
Records = Iterable[tuple[int, Json]]  # the number of each record in its file or data set
DELIMITERS = {".tsv": "\t", ".csv": ",;\t"}  # by the ending of a file; the first with which all columns are there
MOST_SHOWN = 5  # labels or columns in an error message
LABEL = "label"


def has_plain_rows(task: Task) -> bool:
    """Whether its rows are named texts and a label, from any file; else they have an official format of their own."""
    return task.name not in SUPERGLUE_TASKS and type(task) in (Task, Choosing)


def read_records(path: Path, task: Task) -> Records:
    """(line, record) of a JSONL, CSV or TSV file, by its ending. Raises: UserError with file and line of any damage."""
    return _read_table(path, task) if path.suffix.lower() in TABLES else read_jsonl(path)


def rows_of(task: Task, records: Records, where: str, labelled: bool = True) -> Iterator[tuple[int, Row]]:
    """(number, row) of each record; other columns are left out. A row without an `idx` gets its position.

    Raises: UserError if a column is missing (that of the label only if `labelled`), or a label is none of the task's.
    """
    unknown: Counter[str] = Counter()
    values, first_unknown = label_values(task), 0
    for position, (number, record) in enumerate(records):
        if position == 0:
            _check_columns(task, list(record), where, labelled)
        row: Row = {name: record.get(column_of(task, name, record)) for name in task.row}
        label = record.get(column_of(task, LABEL, record))
        if label is not None and label != "":
            value = value_of(values, label)
            if value is None:
                first_unknown = first_unknown or number
                unknown[str(label)] += 1
                continue
            row[LABEL] = value
        idx = record.get("idx")
        yield number, row | {"idx": idx if type(idx) is int else position}
    if unknown:
        raise UserError(_unknown_labels(task, unknown, f"{where}:{first_unknown}"))


def label_values(task: Task) -> dict[str, LabelValue]:
    """The official value of each label by every name that a file may use: label_names, its value, its name, also in lower case."""
    by_name = {label.name: label.value for label in task.labels}
    exact = {str(label.value): label.value for label in task.labels} | by_name
    exact |= {str(key): by_name[name] for key, name in task.label_names.items()}
    return {key.casefold(): value for key, value in exact.items()} | exact


def value_of(values: Mapping[str, LabelValue], label: object) -> LabelValue | None:
    """The official value of a label as a file names it; None if it is not one of the task's."""
    text = str(label).strip()
    return values.get(text, values.get(text.casefold()))


def check_labels(task: Task, rows: Sequence[Row], where: str) -> None:
    """Raises: UserError if a label has fewer than two rows, with which nothing can be said about it."""
    counts = Counter(task.label_of(row) for row in rows)
    rare = [f"{counts[label.name]} of {label.name!r}" for label in task.labels if counts[label.name] < 2]
    if rare:
        raise UserError(
            f"{where}: got {_first_few(rare)} in {len(rows)} rows, expected at least two rows of each label of {task.name}. Add rows, or "
            "leave the label out of the task."
        )


def column_of(task: Task, name: str, present: Container[str]) -> str:
    """The column of a text of the row, or of its label: as the task says in `columns`, else the task's own name.

    So one task reads both the Hub's data set and a file with the task's names.
    """
    column = task.columns.get(name, name)
    return column if column in present or name not in present else name


def _check_columns(task: Task, present: Sequence[str], where: str, labelled: bool) -> None:
    needed = [*task.row, *([LABEL] if task.labels and labelled else [])]
    missing = [column for name in needed if (column := column_of(task, name, present)) not in present]
    if missing:
        example = ", ".join(f"{name}: ..." for name in needed if column_of(task, name, present) in missing)
        raise UserError(
            f"{where}: got the columns {_first_few([repr(name) for name in present if name != 'idx'])}, expected also "
            f"{', '.join(map(repr, missing))} for {task.name}. Rename them, or name them in the task: `columns: {{{example}}}`."
        )


def _unknown_labels(task: Task, unknown: Counter[str], where: str) -> str:
    got = _first_few([f"{name!r} ({count} rows)" for name, count in unknown.most_common()])
    names = ", ".join(repr(label.name) for label in task.labels)
    return (
        f"{where}: label: got {got}, expected one of {names}. Say in the task which they are: "
        f"`label_names: {{{next(iter(unknown))}: {task.labels[0].name}}}`, or correct the file."
    )


def _first_few(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - MOST_SHOWN} more" if len(texts) > MOST_SHOWN else ""
    return ", ".join(texts[:MOST_SHOWN]) + more


def _read_table(path: Path, task: Task) -> Records:
    delimiters = DELIMITERS[path.suffix.lower()]
    headers = {delimiter: _header(path, delimiter) for delimiter in delimiters}
    for delimiter, header in headers.items():
        if {column_of(task, name, header) for name in task.row} <= set(header):
            return _records(path, delimiter)
    return _records(path, delimiters[0])


def _header(path: Path, delimiter: str) -> list[str]:
    return next((list(record) for _, record in _records(path, delimiter)), [])


def _records(path: Path, delimiter: str) -> Records:
    """(line on which it ends, record) of each row of a table with a header, in UTF-8 with or without a byte order mark."""
    csv.field_size_limit(sys.maxsize)  # a document may be longer than the default of 128 kB
    line = 1
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter=delimiter, strict=True)
            reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
            for record in reader:
                line = reader.line_num
                if None in record or None in record.values():
                    got = (
                        len(record) - (None in record) + len(record.get(None) or ()) - list(record.values()).count(None)
                    )
                    raise RowError(f"got {got} fields, expected {len(reader.fieldnames or ())} as in its first line")
                yield line, record
    except UnicodeDecodeError as err:
        raise UserError(f"{path}: not UTF-8 ({err.reason} after line {line}). Save the file as UTF-8.") from None
    except csv.Error as err:
        raise UserError(f"{path}:{line + 1}: {err}. Repair the line: a quote may not be closed.") from None
    except RowError as err:
        raise UserError(
            f"{path}:{line}: {err}. Repair the line; a text with {delimiter!r} or a line break needs quotes."
        ) from None
    except OSError as err:
        raise UserError(f"{path}: cannot be read ({err.strerror}). Check the path.") from None
