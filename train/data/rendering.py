"""Examples as texts. Training and evaluation share it, so a model is asked as it was taught."""

from collections.abc import Sequence
from random import Random

from targen.tasks.formats.record import PLACEHOLDER
from targen.tasks.task import Example, Task

CUE, INSTRUCTION_CUE = "Answer:", "Output:"  # the last words of a prompt that is continued
QUOTES = "\"'`“”‘’«»"


def encoder_texts(task: Task, example: Example) -> list[tuple[str, str]]:
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


def prompt(task: Task, example: Example) -> str:
    """The example as one text for a model that answers in words: the question, what it can be answered with, the instance.

    The question comes first, so that no cut at the end can take it away.
    """
    question, text = _question(task, example), task.instance.format(**example.fields)
    return f"{question}\n{text}" if question else text


def with_cue(task: Task, example: Example, solved: Sequence[Example] = ()) -> str:
    """The prompt with solved examples before it, an empty line between them, and the cue behind which the answer stands."""
    shown = [f"{prompt(task, one)}\n{CUE} {right_answer(task, one)}" for one in solved]
    return "\n\n".join([*shown, f"{prompt(task, example)}\n{CUE}"])


def _question(task: Task, example: Example) -> str:
    options = "" if task.name in ("record", "self_instruct") else f" {' or '.join(answers(task, example))}?"
    return f"{task.question}{options}"


def instruction(task: Task, example: Example, positive: Sequence[Example]) -> str:
    """The example in the layout of Super-NaturalInstructions: definition, positive examples with answers, the input.

    Source: arXiv 2204.07705, figure 1 and section 5.
    """
    verbalized = ", ".join(f"{one.verbalizer} for {one.name}" for one in task.labels if one.verbalizer != one.name)
    definition = f"{task.description} {_question(task, example)}" + (f" Answer {verbalized}." if verbalized else "")
    shown = [
        f"Positive Example {number} -\nInput: {task.instance.format(**one.fields)}\n{INSTRUCTION_CUE} {right_answer(task, one)}"
        for number, one in enumerate(positive, start=1)
    ]
    asked = f"Now complete the following example -\nInput: {task.instance.format(**example.fields)}\n{INSTRUCTION_CUE}"
    return "\n\n".join([f"Definition: {definition}", *shown, asked])


def right_answer(task: Task, example: Example) -> str:
    """The first right answer in words."""
    return answers(task, example)[example.gold[0]]


def answers(task: Task, example: Example) -> list[str]:
    """What such a model may answer: the verbalizers of the labels, or the texts to choose from (ReCoRD)."""
    return [label.verbalizer for label in task.labels] or list(example.choices)


def read_answer(task: Task, text: str) -> str | None:
    """The label that a text says, of a task without labels (ReCoRD) the text itself; None: it cannot be read.

    A label is said by nothing but its verbalizer, up to case, surrounding blanks and quotes, and a final full stop.
    """
    said = text.strip()
    if not task.labels:
        return said or None
    bare = said.removesuffix(".").strip().strip(QUOTES).strip().removesuffix(".").strip().casefold()
    return next((label.name for label in task.labels if label.verbalizer.casefold() == bare), None)


def fewer_choices(example: Example, count: int, rng: Random) -> Example:
    """The example with one right choice and at most `count` - 1 wrong ones, drawn and in drawn order, for training."""
    wrong = [place for place in range(len(example.choices)) if place not in example.gold]
    places = [example.gold[0], *rng.sample(wrong, min(count - 1, len(wrong)))]
    rng.shuffle(places)
    choices = tuple(example.choices[place] for place in places)
    return Example(example.task, example.id, example.fields, choices, (places.index(example.gold[0]),), example.answers)
