"""An example as the two texts of an encoder, as conf/task/<name>.yaml declares them."""

from targen.tasks.task import Example, Task


def encoder_texts(task: Task, example: Example) -> list[tuple[str, str]]:
    """Pairs of texts: one for a task with labels, one per choice if each choice is scored."""
    if task.choices == "labels":
        return [(task.encoder.first.format(**example.fields), task.encoder.second.format(**example.fields))]
    return [
        (
            _with_choice(task, task.encoder.first, example, choice),
            _with_choice(task, task.encoder.second, example, choice),
        )
        for choice in example.choices
    ]


def _with_choice(task: Task, template: str, example: Example, choice: str) -> str:
    """The template filled in; a placeholder of the query (ReCoRD) becomes the choice."""
    return task.with_choice(template.format(**example.fields, choice=choice), choice)
