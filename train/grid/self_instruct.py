"""The rows of the arm self_instruct: public instruction data, the baseline for pre-finetuning on synthetic rows."""

import logging
from pathlib import Path

from omegaconf import OmegaConf

from targen.config.required_files import is_instruction_file
from targen.config.settings import Settings
from targen.config.validation import check
from targen.data.hub import records_of
from targen.runtime.errors import RowError, UserError
from targen.runtime.jsonl import Json, read_rows
from targen.runtime.paths import CONF
from targen.runtime.randomness import rng
from targen.tasks.formats.self_instruct import SHAPES, row_of
from targen.tasks.registry import with_format
from targen.tasks.task import Row, Task
from train.families.registry import family_named

log = logging.getLogger(__name__)
CONFIG = "self_instruct"  # of the authors' data set on the Hub


def instruction_task() -> Task:
    """The layout of its rows, from conf/instructions/self_instruct.yaml."""
    values = OmegaConf.to_container(OmegaConf.load(CONF / "instructions" / "self_instruct.yaml"))
    return with_format(check(Task, values, "instructions.self_instruct"))


def instruction_rows(settings: Settings, seed: int, count: int | None) -> tuple[Row, ...]:
    """Its rows whose answers leave room for the instruction: all, or `count` of them drawn by the cell's seed.

    Raises: UserError if there are none, or the file is missing or damaged.
    """
    source = settings.data.self_instruct
    assert source is not None  # the settings' rules ensure it
    rows = _read(source)
    kept = _fitting(settings, rows)
    if skipped := len(rows) - len(kept):
        log.info(
            "self_instruct: %d of %d rows have no answer, or one of more than %d tokens, half of train.max_length, and are skipped",
            skipped,
            len(rows),
            _room(settings),
        )
    if not kept:
        raise UserError(f"data.self_instruct: {source} has no row whose answer fits. Set a larger train.max_length.")
    if count is None or len(kept) <= count:
        return tuple(kept)
    picked = rng(seed, "self_instruct", "rows").sample(range(len(kept)), count)
    return tuple(kept[index] for index in sorted(picked))


def _read(source: str) -> list[Row]:
    where = source if is_instruction_file(source) else f"{source} {CONFIG}"
    rows: list[Row] = []
    for number, record in _records(source):
        try:
            rows.append(row_of(record, len(rows)))
        except RowError as err:
            raise UserError(f"{where}:{number}: {err}. Expected {SHAPES}.") from None
    if not rows:
        raise UserError(f"{where}: got no row, expected instruction data.")
    return rows


def _records(source: str) -> list[tuple[int, Json]]:
    if is_instruction_file(source):
        return read_rows(Path(source))
    return list(enumerate(records_of(source, CONFIG), start=1))


def _room(settings: Settings) -> int:
    return settings.train.max_length // 2


def _fitting(settings: Settings, rows: list[Row]) -> list[Row]:
    tokenizer = family_named(settings.model.family).load_tokenizer(settings.model)
    sizes = [len(ids) for ids in tokenizer([row["output"] for row in rows], add_special_tokens=False)["input_ids"]]
    return [row for row, size in zip(rows, sizes, strict=True) if 0 < size <= _room(settings)]
