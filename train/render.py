"""Examples as texts. Training and evaluation share it, so a model is asked as it was taught."""

from targen.task import Example, TaskSpec
from targen.tasks.record import PLACEHOLDER


def encoder_texts(task: TaskSpec, example: Example) -> list[tuple[str, str]]:
    """Pairs of texts: one for a task with labels, one per choice where each choice is scored."""
    if task.choices == "labels":
        return [(task.encoder.first.format(**example.fields), task.encoder.second.format(**example.fields))]
    return [
        (_with_choice(task.encoder.first, example, choice), _with_choice(task.encoder.second, example, choice))
        for choice in example.choices
    ]


def _with_choice(template: str, example: Example, choice: str) -> str:
    """The template filled in; a placeholder of the query (ReCoRD) becomes the choice."""
    return template.format(**example.fields, choice=choice).replace(PLACEHOLDER, choice)
