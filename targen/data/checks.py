"""Checks of the original data before the first call: damaged or missing rows, and which rows models are scored on."""

import logging

from targen.config.original_data import rows_to_hold_out
from targen.config.required_files import is_instruction_file, needed_splits
from targen.config.settings import Settings
from targen.data.instructions import instruction_data
from targen.data.openllm_files import check_openllm_rows
from targen.data.original import eval_split, leaderboard_split, original_train_split
from targen.tasks.registry import SUPERGLUE_TASKS
from targen.tasks.task import Task

log = logging.getLogger(__name__)
FREE = ("recorded",)  # backends whose calls cost nothing


def check_rows(settings: Settings) -> None:
    """Reads what later phases need, before calls are paid for: local rows, and those of the Hub where calls cost something.

    Raises: UserError if rows are missing or damaged.
    """
    check_local_rows(settings)
    if "generate" in settings.phases and settings.generator.backend not in FREE and not settings.plan:
        for task, split in needed_splits(settings, "hub"):
            _read_split(settings, task, split)
        if (source := _instruction_source(settings)) is not None and not is_instruction_file(source):
            instruction_data(source)


def check_local_rows(settings: Settings) -> None:
    """Reads all local rows once, to find damaged lines before anything is asked or trained. Raises: UserError if there is one."""
    for task, split in needed_splits(settings):
        _read_split(settings, task, split)
    if (source := _instruction_source(settings)) is not None and is_instruction_file(source):
        instruction_data(source)
    if "evaluate" in settings.phases:
        check_openllm_rows(settings.eval.openllm)


def _instruction_source(settings: Settings) -> str | None:
    """The instruction data that will be trained on; None if there will be none."""
    return settings.data.self_instruct if "train" in settings.phases and "self_instruct" in settings.arms else None


def _read_split(settings: Settings, task: Task, split: str) -> None:
    if split == task.eval_split:
        eval_split(settings.data, task)
    elif split == "train":
        original_train_split(settings.data, task)
    else:
        leaderboard_split(settings.data, task)


def log_evaluation_rows(settings: Settings) -> None:
    """Says in a line which rows a task of the user's own is scored on."""
    if "evaluate" not in settings.phases or not settings.eval.superglue:
        return
    for task in settings.tasks.values():
        source = settings.data.source_of(task)
        if source == "none":
            log.info(
                "data: %s has no original data: about %d of its %d synthetic rows are held out to score models on",
                task.name,
                rows_to_hold_out(settings, task),
                settings.synth.size_of(task),
            )
        elif source == "local" and task.name not in SUPERGLUE_TASKS:
            split = eval_split(settings.data, task)
            log.info("data: %s is scored on the %d rows of %s", task.name, len(split.rows), split.location)
