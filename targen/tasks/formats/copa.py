"""COPA: `{"premise": "My body cast a shadow.", "choice1": "The sun was rising.", "choice2": "The grass was cut.",
"question": "cause", "label": 0, "idx": 0}`; label 0 is choice1.

The model says which alternative is probable; where it stands is drawn by us (the label cell), never by the model.
"""

from targen.runtime.errors import RowError
from targen.tasks.choosing import Choosing
from targen.tasks.task import Row


class COPA(Choosing):
    """Which of two alternatives is the cause or effect."""

    def check_format(self, row: Row) -> None:
        super().check_format(row)
        if row["question"] not in ("cause", "effect"):
            raise RowError(f"question: got {row['question']!r}, expected cause or effect")
