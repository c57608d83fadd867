"""A sheet on which people judge synthetic rows without seeing their labels, and what they judged.

A CSV for any spreadsheet. What a model wrote may begin like a formula: such a cell gets an apostrophe before it, as OWASP
advises against CSV injection. The labels are not on the sheet: who sees one tends to agree with it.
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
from targen.runtime.errors import UserError, did_you_mean
from targen.runtime.jsonl import Json, write_text
from targen.runtime.randomness import rng
from targen.tasks.task import Row, Task
from targen.text.normalise import normalised

log = logging.getLogger(__name__)
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
JUDGEMENT = "your_label"
COLUMNS = ("task", "idx", "check", "text", "question", "options", JUDGEMENT, "remark")
DELIMITERS = ",;\t"


@dataclass(frozen=True)
class Judgement:
    """One row as a person judged it, and the line of the sheet."""

    task: str
    idx: int
    check: str
    said: str
    line: int


def write_sheet(path: Path, sets: Sequence[tuple[Task, DataSet]], rows: int, seed: int) -> bool:
    """Writes a sheet with so many rows of each task; False where one lies there already, which may have been filled in."""
    if path.exists():
        return False
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for task, own in sets:
        for row in drawn(task, own, rows, seed):
            writer.writerow([safe(cell) for cell in _cells(task, row)])
    write_text(path, text.getvalue())
    return True


def drawn(task: Task, own: DataSet, count: int, seed: int) -> list[Row]:
    """So many labelled rows, at random; of instances with several rows (AX-g) the first."""
    step = task.rows_per_slot
    labelled = [row for row in own.rows[::step] if label_name(task, row) is not None]
    return rng(seed, task.name, "analysis", "sheet").sample(labelled, min(count, len(labelled)))


def _cells(task: Task, row: Row) -> list[str]:
    text = task.instance.format(**task.view(row))
    return [task.name, str(row["idx"]), check_of(row), text, task.question, " | ".join(options(task, row)), "", ""]


def options(task: Task, row: Row) -> list[str]:
    return list(task.label_options(row))


def check_of(row: Row) -> str:
    """Changes when the row does; a word, which no spreadsheet takes for a number."""
    text = json.dumps({key: value for key, value in row.items() if key != "idx"}, sort_keys=True)
    return f"row{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def safe(cell: str) -> str:
    """The cell as text for a spreadsheet, never a formula."""
    without = cell.replace("\x00", "")
    return f"'{without}" if without.startswith(FORMULA) else without


def read_sheet(path: Path) -> list[Judgement]:
    """The rows that were judged. Raises: UserError where the file is no such sheet."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as err:
        raise UserError(f"sheet: {path} cannot be read ({err}). Save it as CSV in UTF-8.") from None
    header = text.partition("\n")[0]
    delimiter = max(DELIMITERS, key=header.count)  # a spreadsheet may have saved it with another
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    lacking = [name for name in ("task", "idx", "check", JUDGEMENT) if name not in (reader.fieldnames or [])]
    if lacking:
        raise UserError(f"sheet: {path} has no column {', '.join(lacking)}. Take a sheet that eval.analyze wrote.")
    found = []
    for line in reader:
        said = (line[JUDGEMENT] or "").strip().removeprefix("'")
        if said:
            if not (line["idx"] or "").strip().isdecimal():
                raise UserError(f"{path}:{reader.line_num}: idx: got {line['idx']!r}, expected a whole number.")
            found.append(Judgement(line["task"], int(line["idx"]), line["check"], said, reader.line_num))
    return found


def judged(path: Path, judgements: Sequence[Judgement], sets: Mapping[str, tuple[Task, DataSet]]) -> dict[str, Json]:
    """By task the agreement of people with the labels. Raises: UserError with every line that does not fit."""
    problems: list[str] = []
    rows: dict[str, list[tuple[str, str, int]]] = {}
    for one in judgements:
        task, row = _found(one, sets)
        if task is None or row is None:
            problems.append(
                f"{path}:{one.line}: {one.task} {one.idx} is no row of this data set, or has changed since."
            )
            continue
        said = next((option for option in options(task, row) if normalised(option) == normalised(one.said)), None)
        if said is None:
            hint = did_you_mean(one.said, options(task, row))
            problems.append(f"{path}:{one.line}: {JUDGEMENT}: got {one.said!r}. {hint}")
            continue
        rows.setdefault(task.name, []).append((label_name(task, row) or "", said, one.idx))
    if problems:
        raise UserError("\n".join(problems))
    return {name: _agreement(sets[name][0], found) for name, found in rows.items()}


def _found(one: Judgement, sets: Mapping[str, tuple[Task, DataSet]]) -> tuple[Task, Row] | tuple[None, None]:
    """The row that was judged, as it was then, with its task."""
    if one.task not in sets:
        return None, None
    task, own = sets[one.task]
    return next(((task, row) for row in own.rows if row["idx"] == one.idx and check_of(row) == one.check), (None, None))


def _agreement(task: Task, found: Sequence[tuple[str, str, int]]) -> Json:
    hits = sum(label == said for label, said, _ in found)
    share = wilson(hits, len(found))
    assert share is not None
    by_label = {}
    for label in [label.name for label in task.labels]:
        own = [said == label for one, said, _ in found if one == label]
        if (part := wilson(sum(own), len(own))) is not None:
            by_label[label] = {
                "judged": len(own),
                "agree": sum(own),
                "value": part.value,
                "low": part.low,
                "high": part.high,
            }
    table = Counter((label, said) for label, said, _ in found)
    return {
        "judged": len(found),
        "agree": hits,
        "value": share.value,
        "low": share.low,
        "high": share.high,
        "by_label": by_label,
        "table": [{"label": one, "said": other, "rows": count} for (one, other), count in sorted(table.items())] if task.labels else [],
        "disagreements": [{"idx": idx, "label": label, "said": said} for label, said, idx in found if label != said],
    }  # fmt: skip
