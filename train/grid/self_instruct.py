"""The rows of the arm self_instruct: public instruction data, the baseline for pre-finetuning on synthetic rows."""

import logging

from omegaconf import OmegaConf

from targen.config.settings import Settings
from targen.config.validation import check
from targen.data.instructions import instruction_data
from targen.runtime.errors import UserError
from targen.runtime.paths import CONF
from targen.runtime.randomness import rng
from targen.tasks.registry import with_format
from targen.tasks.task import Row, Task
from train.families.registry import family_named

log = logging.getLogger(__name__)


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
    rows = instruction_data(source)
    fitting = _fitting(settings, rows)
    if skipped := len(rows) - len(fitting):
        log.info(
            "self_instruct: %d of %d rows have no answer, or one of more than %d tokens, half of train.max_length, and are skipped",
            skipped,
            len(rows),
            _room(settings),
        )
    if not fitting:
        raise UserError(f"data.self_instruct: {source} has no row whose answer fits. Set a larger train.max_length.")
    if count is None or len(fitting) <= count:
        return tuple(fitting)
    picked = rng(seed, "self_instruct", "rows").sample(range(len(fitting)), count)
    return tuple(fitting[index] for index in sorted(picked))


def _room(settings: Settings) -> int:
    return settings.train.max_length // 2


def _fitting(settings: Settings, rows: list[Row]) -> list[Row]:
    tokenizer = family_named(settings.model.family).load_tokenizer(settings.model)
    sizes = [len(ids) for ids in tokenizer([row["output"] for row in rows], add_special_tokens=False)["input_ids"]]
    return [row for row, size in zip(rows, sizes, strict=True) if 0 < size <= _room(settings)]
