"""Local files of the OpenLLM tasks, as the Hub, the authors or others ship them, read as rows with the Hub's fields."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from targen.config.groups.evaluation import OpenLLM
from targen.config.openllm import Subtask, local_openllm_file, subtasks
from targen.data.openllm_rows import CHECKS, SCORE_CHECKS, SHAPES
from targen.runtime.errors import UserError
from targen.runtime.jsonl import Json, read_rows

COLUMNS = 6  # of MMLU's CSV files
MMLU_ROW = "the question, four choices and the answer's letter"
HEADER = "answer"  # the name of the last column where there is a header; the authors' files have none


def check_openllm_rows(openllm: OpenLLM) -> None:
    """Reads the local files of the chosen tasks once. Raises: UserError if one is damaged, or has fewer examples than are shown."""
    if openllm.data_dir is None:
        return
    for subtask in subtasks(openllm):
        for split in subtask.splits:
            if (path := local_openllm_file(Path(openllm.data_dir), subtask, split)) is None:
                continue  # reported by missing_openllm_files
            rows, _ = rows_of(path, subtask, split)
            # for tasks that it scores on a validation split the harness draws one more
            needed = subtask.shots + (subtask.split == "validation")
            if split == subtask.spec.shown and len(rows) < needed:
                examples = f"the examples that {subtask.name} shows{' and one more' * (needed > subtask.shots)}"
                raise UserError(
                    f"{path}: got {len(rows)} rows, expected at least {needed}, {examples}. Give the whole split, or set a smaller "
                    "eval.openllm.num_fewshot."
                )


def rows_of(path: Path, subtask: Subtask, split: str) -> tuple[list[Json], bool]:
    """(the rows of a local file with the Hub's fields, whether they were converted). Raises: UserError with file and line."""
    convert = SHAPES.get(subtask.task)
    tables = (CHECKS, SCORE_CHECKS) if split == subtask.split else (CHECKS,)
    checks = [table[subtask.task] for table in tables if subtask.task in table]
    rows: list[Json] = []
    changed = False
    kinds: dict[str, tuple[str, int]] = {}
    for number, row in _records(path):
        try:
            converted = convert(row) if convert is not None else row
            missing = [name for name in subtask.spec.fields if name not in converted]
            for check in checks if not missing else ():
                check(converted)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as err:
            reason = err if type(err) is ValueError else repr(err)
            raise UserError(
                f"{path}:{number}: got a row that cannot be read ({reason}), expected one of {subtask.name} with the fields as on the Hub. Repair it."
            ) from None
        if missing:
            raise UserError(
                f"{path}:{number}: lacks {', '.join(missing)}, expected a row of {subtask.name} with the fields as on the Hub. "
                "Repair it."
            )
        changed |= converted != row
        rows.append(converted)
        for name, kind in _kinds({field: converted.get(field) for field in rows[0]}):  # no other field is looked at
            earlier, line = kinds.setdefault(name, (kind, number))
            if kind != earlier:
                raise UserError(
                    f"{path}:{number}: got {kind} as {name}, expected {earlier} as in {line}, since a field has one type. Repair it."
                )
    if not rows:
        raise UserError(f"{path}: got no row, expected rows of {subtask.name}. Replace it.")
    return rows, changed


def _kinds(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """(field, kind of its value) of all fields, also inside lists and objects; a column of the harness's tables has one kind."""
    if isinstance(value, dict):
        if name:
            yield name, "an object"
        for key, inner in value.items():
            yield from _kinds(inner, f"{name}.{key}" if name else key)
    elif isinstance(value, list):
        yield name, "a list"
        for inner in value:
            yield from _kinds(inner, f"{name}[]")
    elif value is not None:
        yield name, "true or false" if isinstance(value, bool) else "a text" if isinstance(value, str) else "a number"


def _records(path: Path) -> list[tuple[int, Json]]:
    """(line or number, row) of a JSONL file, a file with a single JSON list, or a CSV file of MMLU."""
    return _csv_records(path) if path.suffix == ".csv" else read_rows(path)


def _csv_records(path: Path) -> list[tuple[int, Json]]:
    records, start = [], 1  # the line on which a row starts, which may have several
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.reader(lines, strict=True)
            for cells in reader:
                number, start = start, reader.line_num + 1
                if not cells or cells[-1].strip().lower() == HEADER:
                    continue
                if len(cells) != COLUMNS:
                    raise UserError(
                        f"{path}:{number}: got {len(cells)} columns, expected {COLUMNS}: {MMLU_ROW}. Repair it."
                    )
                question, *choices, answer = cells
                records.append((number, {"question": question, "choices": choices, "answer": answer}))
    except csv.Error as err:
        raise UserError(
            f"{path}:{start}: got a row that is no CSV ({err}), expected {MMLU_ROW}, with quotes inside quotes doubled. Repair it."
        ) from None
    except (OSError, ValueError) as err:
        raise UserError(f"{path}: cannot be read ({err}). Repair or replace it.") from None
    return records
