"""The rows on which a task is scored: original ones, or synthetic rows that were held out where there are none."""

from targen.config.settings import Settings
from targen.data.original import Split, eval_split, read_rows
from targen.runtime.errors import UserError
from targen.tasks.task import Task

HELD_OUT = "held_out.jsonl"  # below synthetic/<task>/
HELD_OUT_WORDS = "held-out synthetic rows"


def evaluation_split(settings: Settings, task: Task) -> Split:
    """The labelled rows on which the task is scored. Raises: UserError if they are not available."""
    if settings.data.source_of(task) == "none":
        return held_out_split(settings, task)
    return eval_split(settings.data, task)


def held_out_split(settings: Settings, task: Task) -> Split:
    """The synthetic rows that generation held out. Raises: UserError if there are none."""
    path = settings.paths.synthetic(task.name) / HELD_OUT
    if not path.is_file():
        raise UserError(
            f"{path}: is missing, expected the held-out synthetic rows on which {task.name} is scored, since it has no original "
            "data. Run phases=[generate] with the same settings, or name rows to score with data.dir=..."
        )
    return Split(read_rows(path, task, labelled=True), HELD_OUT_WORDS, "held_out", str(path), "held_out")
