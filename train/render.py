"""Examples as texts. Training and evaluation share it, so a model is asked as it was taught."""

from random import Random

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


def prompt(task: TaskSpec, example: Example) -> str:
    """The example as one text for a model that answers in words: the question, what it can be answered with, the instance.

    The question comes first, so that no cut at the end can take it away.
    """
    options = "" if task.name == "record" else f" {' or '.join(answers(task, example))}?"
    return f"{task.question}{options}\n{task.instance.format(**example.fields)}"


def answers(task: TaskSpec, example: Example) -> list[str]:
    """What such a model may answer: the verbalizers of the labels, or the texts to choose from (ReCoRD)."""
    return [label.verbalizer for label in task.labels] or list(example.choices)


def fewer_choices(example: Example, count: int, rng: Random) -> Example:
    """The example with one right choice and at most `count` - 1 wrong ones, drawn and in drawn order, for training."""
    wrong = [place for place in range(len(example.choices)) if place not in example.gold]
    places = [example.gold[0], *rng.sample(wrong, min(count - 1, len(wrong)))]
    rng.shuffle(places)
    choices = tuple(example.choices[place] for place in places)
    return Example(example.task, example.id, example.fields, choices, (places.index(example.gold[0]),), example.answers)
