"""The sheet on which people judge synthetic rows without seeing their labels, and their agreement with the labels.

The sheet is a CSV file for any spreadsheet program. It does not show the labels, because people tend to agree with a label
that they see. A cell that a spreadsheet would take for a formula begins with an apostrophe.
"""

import csv
import hashlib
import io
import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.analysis.intervals import wilson
from eval.analysis.sets import DataSet, label_name
from eval.tables.formats import csv_text
from targen.runtime.errors import UserError, did_you_mean
from targen.runtime.jsonl import Json, write_text
from targen.runtime.randomness import rng
from targen.tasks.task import Row, Task
from targen.text.normalise import normalised

log = logging.getLogger(__name__)
JUDGEMENT = "your_label"
COLUMNS = ("task", "idx", "check", "text", "question", "options", JUDGEMENT, "remark")
DELIMITERS = ",;\t"


@dataclass(frozen=True)
class Judgement:
    """One row as a person judged it. `check` is the hash of the row; `line` is that of the sheet."""

    task: str
    idx: int
    check: str
    label: str
    line: int


@dataclass(frozen=True)
class _JudgedRow:
    """The label of a row, and the label that a person gave it."""

    idx: int
    label: str
    human_label: str


def write_sheet(path: Path, sets: Sequence[tuple[Task, DataSet]], rows: int, seed: int) -> bool:
    """Writes a sheet with up to `rows` rows per task; False if one exists, because it may have been filled in."""
    if path.exists():
        return False
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for task, data_set in sets:
        for row in sampled_rows(task, data_set, rows, seed):
            writer.writerow([csv_text(cell.replace("\x00", "")) for cell in _cells(task, row)])
    write_text(path, text.getvalue())
    return True


def sampled_rows(task: Task, data_set: DataSet, count: int, seed: int) -> list[Row]:
    """A random sample of labelled rows; of instances with several rows (AX-g) only the first."""
    labelled = [row for row in data_set.rows[:: task.rows_per_slot] if label_name(task, row) is not None]
    return rng(seed, task.name, "analysis", "sheet").sample(labelled, min(count, len(labelled)))


def _cells(task: Task, row: Row) -> list[str]:
    text = task.instance.format(**task.view(row))
    return [task.name, str(row["idx"]), row_hash(row), text, task.question, " | ".join(options(task, row)), "", ""]


def options(task: Task, row: Row) -> list[str]:
    """The labels that a person may give a row, as text."""
    return list(task.label_options(row))


def row_hash(row: Row) -> str:
    """Equal for equal rows, whatever their idx; begins with letters so that no spreadsheet takes it for a number."""
    text = json.dumps({key: value for key, value in row.items() if key != "idx"}, sort_keys=True)
    return f"row{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def read_sheet(path: Path) -> list[Judgement]:
    """The rows that were judged. Raises: UserError if the file is not such a sheet."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as err:
        raise UserError(f"sheet: {path} cannot be read ({err}). Save it as CSV in UTF-8.") from None
    header = text.partition("\n")[0]
    delimiter = max(DELIMITERS, key=header.count)  # spreadsheets may save another delimiter
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    absent = [name for name in ("task", "idx", "check", JUDGEMENT) if name not in (reader.fieldnames or [])]
    if absent:
        raise UserError(f"sheet: {path} has no column {', '.join(absent)}. Use a sheet that eval.analyze wrote.")
    judgements = []
    for line in reader:
        label = (line[JUDGEMENT] or "").strip().removeprefix("'")
        if label:
            if not (line["idx"] or "").strip().isdecimal():
                raise UserError(f"{path}:{reader.line_num}: idx: got {line['idx']!r}, expected an integer.")
            judgements.append(Judgement(line["task"], int(line["idx"]), line["check"], label, reader.line_num))
    return judgements


def human_agreement(
    path: Path, judgements: Sequence[Judgement], sets: Mapping[str, tuple[Task, DataSet]]
) -> dict[str, Json]:
    """The agreement of people with the labels, by task. Raises: UserError with every line that does not fit its row."""
    problems: list[str] = []
    judged: dict[str, list[_JudgedRow]] = {}
    for judgement in judgements:
        where = f"{path}:{judgement.line}"
        task, row = _row_of(judgement, sets)
        if task is None or row is None:
            problems.append(
                f"{where}: {judgement.task} {judgement.idx} is not a row of this data set, or has changed since."
            )
            continue
        labels = options(task, row)
        human_label = next((option for option in labels if normalised(option) == normalised(judgement.label)), None)
        if human_label is None:
            problems.append(f"{where}: {JUDGEMENT}: got {judgement.label!r}. {did_you_mean(judgement.label, labels)}")
            continue
        judged.setdefault(task.name, []).append(_JudgedRow(judgement.idx, label_name(task, row) or "", human_label))
    if problems:
        raise UserError("\n".join(problems))
    return {name: _agreement(sets[name][0], rows) for name, rows in judged.items()}


def _row_of(judgement: Judgement, sets: Mapping[str, tuple[Task, DataSet]]) -> tuple[Task, Row] | tuple[None, None]:
    """The task and the row that was judged, if the row has not changed."""
    if judgement.task not in sets:
        return None, None
    task, data_set = sets[judgement.task]
    for row in data_set.rows:
        if row["idx"] == judgement.idx and row_hash(row) == judgement.check:
            return task, row
    return None, None


def _agreement(task: Task, rows: Sequence[_JudgedRow]) -> Json:
    table = Counter((row.label, row.human_label) for row in rows)
    by_label = {label.name: _share([row for row in rows if row.label == label.name]) for label in task.labels}
    return {
        **(_share(rows) or {}),
        "by_label": {label: share for label, share in by_label.items() if share is not None},
        "table": [{"label": label, "said": human, "rows": count} for (label, human), count in sorted(table.items())]
        if task.labels
        else [],
        "disagreements": [
            {"idx": row.idx, "label": row.label, "said": row.human_label}
            for row in rows
            if row.human_label != row.label
        ],
    }


def _share(rows: Sequence[_JudgedRow]) -> Json | None:
    """How often people agree, with Wilson's interval; None if there are no rows."""
    hits = sum(row.label == row.human_label for row in rows)
    share = wilson(hits, len(rows))
    if share is None:
        return None
    return {"judged": len(rows), "agree": hits, "value": share.value, "low": share.low, "high": share.high}
