"""Tasks in which one of several texts is right (`choices: texts`): `{"story": "...", "choice1": "...", "choice2": "...", "label": 0, "idx": 0}`.

The names of the labels are the names of the texts to choose from. Step 3 writes the right one first; the label cell decides its
position, and no model does.
"""

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from targen.runtime.errors import RowError
from targen.runtime.jsonl import Json
from targen.tasks.task import Example, Fields, LabelCell, Row, Task
from targen.text.normalise import normalised, words

MAX_LENGTH_RATIO = 2.5  # of the longest choice to the shortest, in words: the largest in COPA's official train and val


class Choosing(Task):
    """Which of several texts is right."""

    @property
    def choice_names(self) -> list[str]:
        """The names of the texts to choose from, in their order."""
        return [label.name for label in self.labels]

    def build_rows(self, cell: LabelCell, seed: Json, drawn: Fields, answer: Json, rng: Random) -> list[Row]:
        right, *wrong = (answer[name].strip() for name in self.generation.fields)
        texts = {name: right if name == cell.label else wrong.pop(0) for name in self.choice_names}
        return super().build_rows(cell, seed, drawn, texts, rng)

    def check_format(self, row: Row) -> None:
        super().check_format(row)
        _check_different([row[name] for name in self.choice_names])

    def check_quality(self, row: Row, seed: Json) -> None:
        choices = [normalised(row[name]) for name in self.choice_names]
        _check_different(choices)
        for name in self.row:
            if name not in self.choice_names and normalised(row[name]) in choices:
                raise RowError(f"a choice is the {name}")
        lengths = sorted(len(words(row[name])) for name in self.choice_names)
        if lengths[-1] > MAX_LENGTH_RATIO * lengths[0]:
            raise RowError(f"the choices have {' and '.join(map(str, lengths))} words")

    def examples(self, row: Row) -> list[Example]:
        (example,) = super().examples(row)
        return [replace(example, choices=tuple(row[name] for name in self.choice_names))]

    def balance_note(self) -> str:
        return f"The position of {self.folder}'s right alternative was drawn by the program, never by the model."

    def duplicate_key(self, row: Row) -> str:
        """The choices in any order: the same instance with its choices swapped is a duplicate."""
        other_texts = [normalised(row[name]) for name in self.row if name not in self.choice_names]
        return "\n".join([*other_texts, *sorted(normalised(row[name]) for name in self.choice_names)])


def _check_different(choices: Sequence[str]) -> None:
    if len(set(choices)) < len(choices):
        raise RowError("the two choices are the same" if len(choices) == 2 else "two of the choices are the same")
