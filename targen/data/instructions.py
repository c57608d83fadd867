"""Public instruction data (data.self_instruct), from a file or from the Hub, for the arm self_instruct."""

from pathlib import Path

from targen.config.required_files import is_instruction_file
from targen.data.hub import records_of
from targen.runtime.errors import RowError, UserError
from targen.runtime.jsonl import Json, read_rows
from targen.tasks.formats.self_instruct import SHAPES, row_of
from targen.tasks.task import Row

CONFIG = "self_instruct"  # of the authors' data set on the Hub


def instruction_data(source: str) -> list[Row]:
    """All rows; `output` is empty where one has no answer.

    Raises: UserError if the source is missing or damaged, or none of its rows has an answer.
    """
    where = source if is_instruction_file(source) else f"{source} {CONFIG}"
    rows: list[Row] = []
    for number, record in _records(source):
        try:
            rows.append(row_of(record, len(rows)))
        except RowError as err:
            raise UserError(f"{where}:{number}: {err}. Expected {SHAPES}.") from None
    if not any(row["output"] for row in rows):
        got = f"{len(rows)} rows, none of them with an answer" if rows else "no row"
        raise UserError(f"{where}: got {got}, expected instruction data. Name another source.")
    return rows


def _records(source: str) -> list[tuple[int, Json]]:
    if is_instruction_file(source):
        return read_rows(Path(source))
    return list(enumerate(records_of(source, CONFIG), start=1))
