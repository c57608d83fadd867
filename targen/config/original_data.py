"""Which rows of the original train splits a run reads."""

from collections.abc import Iterator

from targen.config.arms import ARMS
from targen.config.group_files import task_from_file
from targen.config.groups.data import Source
from targen.config.settings import Settings
from targen.tasks.task import Task

HELD_OUT_SHARE = 0.2  # of the synthetic rows of a task without original data


def original_train_task(settings: Settings, task: Task) -> Task:
    """The task itself, or the one whose train split stands in for it (AX-g: RTE, with the same labels)."""
    if task.original_train is None:
        return task
    return settings.tasks.get(task.original_train) or task_from_file(task.original_train)


def stand_in_problems(settings: Settings, task: Task) -> Iterator[str]:
    """A line for each text of the task that its stand-in lacks; models are shown rows of both in one form."""
    owner, where = original_train_task(settings, task), f"tasks.{task.name}.original_fields"
    for name in task.original_fields:
        if name not in task.row:
            yield f"{where}: got {name!r}, expected one of {', '.join(task.row)}, each with what {owner.name} calls it. Correct it."
    for name in task.row if owner is not task else ():
        if (owner_field := task.original_fields.get(name, name)) not in owner.row:
            expected = f"expected one of {', '.join(owner.row)}, the texts of {owner.name}"
            yield f"{where}: got {owner_field!r} for {name!r}, {expected}, whose rows stand in. Name it: `original_fields: {{{name}: ...}}`."


def train_source(settings: Settings, task: Task) -> Source:
    """Where the original training rows of the task, or of its stand-in, come from; fixture and none have none."""
    return settings.data.source_of(original_train_task(settings, task))


def without_original(settings: Settings) -> bool:
    """Whether no task of the run has an original train split, as its data settings say."""
    return all(train_source(settings, task) in ("fixture", "none") for task in settings.tasks.values())


def rows_to_hold_out(settings: Settings, task: Task) -> int:
    """About how many synthetic rows of the task are held out for evaluation: none of a pilot, which a person judges."""
    holdout = settings.synth.holdout
    if settings.synth.pilot is not None:
        return 0
    if holdout is None:
        holdout = HELD_OUT_SHARE if settings.data.source_of(task) == "none" else 0
    return round(holdout * settings.synth.size_of(task)) if isinstance(holdout, float) else holdout


def source_words(settings: Settings) -> str:
    """`data.source` as its errors name it: also where it follows from what else is set."""
    sources = dict.fromkeys(settings.data.source_of(task) for task in settings.tasks.values())
    return " and ".join(f"data.source={source}" for source in sources)


def needs_original(settings: Settings) -> bool:
    """Whether training reads the original train split."""
    has_checker = "original" in settings.train.checkers or settings.train.select_rows == "checker"
    return has_checker or any(ARMS[name].uses_original for name in settings.arms)


def shows_original(settings: Settings) -> bool:
    """Whether models that are not finetuned are shown rows of the original train split."""
    has_instruct_examples = settings.train.instruct and settings.train.instruct_examples > 0
    return "none" in settings.arms and (settings.eval.shots > 0 or has_instruct_examples)
