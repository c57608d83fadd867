"""The expected length of answers for a task without a recording: what its prompts say.

A prompt says it in words: "three to six sentences", "12 to 20 words", "a paragraph".
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from random import Random
from string import Formatter

from targen.runtime.jsonl import Json
from targen.synthesis.recipe import Recipe
from targen.synthesis.slots.assignment import Slot
from targen.tasks.task import Fields, LabelCell, Row, Task

WORD = 5.5  # characters with the space, as in the shipped recording
UNITS = {"word": 1.0, "character": 1 / WORD, "line": 10.0, "sentence": 17.0, "paragraph": 80.0}  # in words of prose
ITEMS = 3  # of a list
DEFAULT_WORDS = 12  # words of a field whose length no prompt names
NAMES = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
NUMBERS = {"a few": 3, "several": 4, "a": 1, "an": 1} | {name: n for n, name in enumerate(NAMES, start=1)}
NUMBER = rf"\d+|{'|'.join(NUMBERS)}"
# Two short sentences, 12 to 20 words.
PHRASE = r"\b({number})(?:(?: to | or | and |-|–)({number}))?(?: (?!of\b)\w+){{0,2}}? {unit}s?\b"
EXPLANATION = "explanation"  # field of an answer of step 4


@dataclass(frozen=True)
class Length:
    """Words of a field, and the phrase of its prompt that says so; empty if no prompt does."""

    words: float
    phrase: str = ""


def requested_length(text: str) -> Length | None:
    """The length that a text asks for, None if it names none; of several, the one in the smaller unit."""
    for unit, words in UNITS.items():
        if match := re.search(PHRASE.format(number=NUMBER, unit=unit), text, re.IGNORECASE):
            low, high = (_number(group or match[1]) for group in match.group(1, 2))
            return Length((low + high) / 2 * words, match[0])
    return None


def _number(text: str) -> int:
    return int(text) if text.isdigit() else NUMBERS[text.lower()]


def expected_lengths(recipe: Recipe, slot: Slot) -> dict[str, Length]:
    """The length of every text that the model writes for a slot, by the name of its field.

    It is what the field's description says, or a sentence of the instruction that names the field, or the instruction.
    """
    task, variant = recipe.task, recipe.variant_of(slot)
    if recipe.method.instance_seed is None and task.whole is not None:
        parts = {**task.instance_seed.fields, **task.whole.fields, **task.generation.fields}
        steps = [(parts, task.whole.instruction)]
    else:
        seed = task.instance_seed
        steps = [(seed.fields, f"{seed.each}\n{seed.instruction}")]
        steps.append(({**task.free_variants, **task.generation.fields}, task.generation.instruction))
    if recipe.self_correct != "off":
        steps.append(({EXPLANATION: "why"}, recipe.method.self_correction))
    return {
        name: _length(name, _filled(spec, variant), _filled(instruction, variant))
        for described, instruction in steps
        for name, spec in described.items()
        if isinstance(spec, str)
    }


def _length(name: str, description: str, instruction: str) -> Length:
    naming = re.compile(rf"\b{re.escape(name.replace('_', ' '))}\b", re.IGNORECASE)
    sentences = [part for part in re.split(r"(?<=[.;])\s|\n", instruction) if naming.search(part)]
    return next(filter(None, map(requested_length, [description, *sentences, instruction])), Length(DEFAULT_WORDS))


def _filled(template: str, variant: Fields) -> str:
    """The template with the values of a variant; other fields stay as their names."""
    return re.sub(r"\{(\w+)\}", lambda match: variant.get(match[1], match[1].replace("_", " ")), template)


def expected_texts(recipe: Recipe, slot: Slot) -> Json:
    """A placeholder of the expected length for every field of the answers for a slot, by name."""
    task = recipe.task
    texts: Json = {name: filler(name, length.words) for name, length in expected_lengths(recipe, slot).items()}
    specs = {**task.instance_seed.fields, **task.generation.fields}
    lists = {name: str(spec.get("description", "")) for name, spec in specs.items() if not isinstance(spec, str)}
    return texts | {name: [filler(name, _item_length(description))] * ITEMS for name, description in lists.items()}


def _item_length(description: str) -> float:
    """Words of an item of a list: as its description says, else as many as a name has."""
    length = requested_length(description)
    return length.words if length is not None else 2


def filler(word: str, words: float) -> str:
    """A text of this many words of usual length, made of `word`."""
    length = round(words * WORD)
    text = f"{word.replace('_', ' ')} and so on "
    return (text * (length // len(text) + 1))[:length].strip()


class AnyAnswer(Task):
    """A task that takes every answer, so that all steps are reached. Its rows are the texts of the answers as they are."""

    def draw_fields(self, cell: LabelCell, seed: Json, rng: Random) -> dict[str, str]:  # noqa: ARG002
        """A text for every field of the prompt of step 3 that nothing else gives."""
        constraint = self.label(cell.label).constraint if cell.label is not None else ""
        names = {*_names(self.generation.instruction), *_names(constraint)}
        return {name: filler(name, DEFAULT_WORDS) for name in sorted(names - {"context", *self.variants, *seed})}

    def build_rows(self, cell: LabelCell, seed: Json, drawn: Fields, answer: Json, rng: Random) -> list[Row]:  # noqa: ARG002
        label = {"label": self.label(cell.label).value} if cell.label is not None else {}
        return [{**cell.fields, **seed, **drawn, **answer, **label}]

    def check_format(self, row: Row) -> None:
        """Takes every row."""

    def view(self, row: Row) -> dict[str, str]:
        return {name: str(row.get(name, filler(name, DEFAULT_WORDS))) for name in _names(self.instance)}

    def label_options(self, row: Row) -> list[str]:  # noqa: ARG002
        return [label.name for label in self.labels] or [filler("answer", 2)]

    def gold_option(self, row: Row) -> str:
        return self.label_of(row) or self.label_options(row)[0]


def any_answer(task: Task) -> AnyAnswer:
    """The task with the same prompts, and without its checks."""
    return AnyAnswer(**{field.name: getattr(task, field.name) for field in fields(task)})


def _names(template: str) -> Iterator[str]:
    return (name for _, name, _, _ in Formatter().parse(template) if name)
