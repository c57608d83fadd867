"""Tasks whose rows have texts and a label of their own, so that a classifier can score them one by one."""

from targen.tasks.task import Task


def why_not_single(task: Task) -> str | None:
    """Why the task's rows cannot be scored one by one by their labels, as `which ...`; None if they can."""
    if task.choices != "labels":
        return "which chooses among texts"
    if not task.labels:
        return "which has no labels"
    return "whose rows belong together" if task.rows_per_slot > 1 else None
