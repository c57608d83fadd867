"""Examples as texts. Training and evaluation share it, so that a model is evaluated on the prompts it was trained on."""

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from targen.tasks.task import Example, Task

CUE, INSTRUCTION_CUE = "Answer:", "Output:"  # the last words of a prompt that is continued
QUOTES = "\"'`“”‘’«»"


def prompt(task: Task, example: Example) -> str:
    """The example as one text for a model that answers in words: the question, its possible answers, the instance.

    The question comes first, so that truncation at the end cannot remove it.
    """
    question, text = _question(task, example), task.instance.format(**example.fields)
    return f"{question}\n{text}" if question else text


def cued_prompt(task: Task, example: Example, demonstrations: Sequence[Example] = ()) -> str:
    """The prompt followed by the cue for the answer, after few-shot demonstrations separated by empty lines."""
    shots = [
        f"{prompt(task, demonstration)}\n{CUE} {right_answer(task, demonstration)}" for demonstration in demonstrations
    ]
    return "\n\n".join([*shots, f"{prompt(task, example)}\n{CUE}"])


def _question(task: Task, example: Example) -> str:
    options = f" {' or '.join(answers(task, example))}?" if task.classes else ""
    return f"{task.question}{options}"


def instruction_prompt(task: Task, example: Example, positive_examples: Sequence[Example]) -> str:
    """The example in the layout of Super-NaturalInstructions: definition, positive examples with answers, the input.

    Source: arXiv 2204.07705, figure 1 and section 5.
    """
    verbalized = ", ".join(
        f"{label.verbalizer} for {label.name}" for label in task.classes if label.verbalizer != label.name
    )
    definition = f"{task.description} {_question(task, example)}" + (f" Answer {verbalized}." if verbalized else "")
    positive = [
        f"Positive Example {number} -\nInput: {task.instance.format(**shown.fields)}\n{INSTRUCTION_CUE} {right_answer(task, shown)}"
        for number, shown in enumerate(positive_examples, start=1)
    ]
    request = (
        f"Now complete the following example -\nInput: {task.instance.format(**example.fields)}\n{INSTRUCTION_CUE}"
    )
    return "\n\n".join([f"Definition: {definition}", *positive, request])


def right_answer(task: Task, example: Example) -> str:
    """The first right answer in words."""
    return answers(task, example)[example.gold[0]]


def answers(task: Task, example: Example) -> list[str]:
    """The possible answers in words: the verbalizers of the labels, or the texts to choose from (ReCoRD)."""
    return [label.verbalizer for label in task.classes] or list(example.choices)


def read_answer(task: Task, text: str) -> str | None:
    """The label that a generated text names, or the text itself if the task has no labels (ReCoRD); None: unreadable.

    Only its verbalizer names a label, whatever the case, surrounding blanks and quotes, and a final full stop.
    """
    answer = text.strip()
    if not task.classes:
        return answer or None
    bare = answer.removesuffix(".").strip().strip(QUOTES).strip().removesuffix(".").strip().casefold()
    return next((label.name for label in task.classes if label.verbalizer.casefold() == bare), None)


def fewer_choices(example: Example, count: int, draws: Random) -> Example:
    """The example with one right choice and at most `count` - 1 wrong ones, drawn and in drawn order, for training."""
    wrong = [index for index in range(len(example.choices)) if index not in example.gold]
    indices = [example.gold[0], *draws.sample(wrong, min(count - 1, len(wrong)))]
    draws.shuffle(indices)
    choices = tuple(example.choices[index] for index in indices)
    return replace(example, choices=choices, gold=(indices.index(example.gold[0]),))
