"""COPA: `{"premise": "My body cast a shadow.", "choice1": "The sun was rising.", "choice2": "The grass was cut.",
"question": "cause", "label": 0, "idx": 0}`; label 0 is choice1.

The model says which alternative is probable; where it stands is drawn by us (the label cell), never by the model.
"""

from dataclasses import replace
from random import Random

from targen.runtime.errors import RowError
from targen.runtime.jsonl import Json
from targen.tasks.task import Example, Fields, LabelCell, Row, Task
from targen.text.normalise import normalised, words

MAX_LENGTH_RATIO = 2.5  # of the longer choice to the shorter, in words: the largest in the official train and val


class COPA(Task):
    """Which of two alternatives is the cause or effect."""

    def build_rows(self, cell: LabelCell, seed: Json, drawn: Fields, answer: Json, rng: Random) -> list[Row]:
        choices = [answer["probable"].strip(), answer["improbable"].strip()]
        if cell.label == "choice2":
            choices.reverse()
        return super().build_rows(cell, seed, drawn, {"choice1": choices[0], "choice2": choices[1]}, rng)

    def check_format(self, row: Row) -> None:
        super().check_format(row)
        if row["question"] not in ("cause", "effect"):
            raise RowError(f"question: got {row['question']!r}, expected cause or effect")
        if row["choice1"] == row["choice2"]:
            raise RowError("the two choices are the same")

    def check_quality(self, row: Row, seed: Json) -> None:
        premise, choice1, choice2 = (normalised(row[name]) for name in ("premise", "choice1", "choice2"))
        if choice1 == choice2:
            raise RowError("the two choices are the same")
        if premise in (choice1, choice2):
            raise RowError("a choice is the premise")
        lengths = sorted(len(words(row[name])) for name in ("choice1", "choice2"))
        if lengths[1] > MAX_LENGTH_RATIO * lengths[0]:
            raise RowError(f"the choices have {lengths[0]} and {lengths[1]} words")

    def examples(self, row: Row) -> list[Example]:
        (example,) = super().examples(row)
        return [replace(example, choices=(row["choice1"], row["choice2"]))]

    def duplicate_key(self, row: Row) -> str:
        """The choices in either order: the same instance with its choices swapped is a duplicate."""
        choices = sorted(normalised(row[name]) for name in ("choice1", "choice2"))
        return "\n".join([normalised(row["premise"]), row["question"], *choices])
