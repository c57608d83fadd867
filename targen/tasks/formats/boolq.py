"""BoolQ: `{"question": "is house tax ...", "passage": "Property tax -- ...", "label": true, "idx": 1}`.

Official questions are lower case and have no question mark; official passages begin with the title of their article.
"""

from random import Random
from typing import ClassVar

from targen.runtime.errors import RowError
from targen.runtime.jsonl import Json
from targen.tasks.task import Fields, LabelCell, Row, Task
from targen.text.normalise import normalised, words

AUXILIARIES = frozenset(
    [
        "is",
        "are",
        "am",
        "was",
        "were",
        "do",
        "does",
        "did",
        "has",
        "have",
        "had",
        "can",
        "could",
        "will",
        "would",
        "shall",
        "should",
        "may",
        "might",
        "must",
    ]
)
MIN_PASSAGE_WORDS = 40


class BoolQ(Task):
    """A yes/no question about a passage."""

    reads_seed: ClassVar[bool] = True

    def check_instance_seed(self, seed: Json) -> None:
        count = len(words(seed["passage"]))
        if count < MIN_PASSAGE_WORDS:
            raise RowError(f"passage has {count} words, expected at least {MIN_PASSAGE_WORDS}")

    def build_rows(self, cell: LabelCell, seed: Json, drawn: Fields, answer: Json, rng: Random) -> list[Row]:
        passage = f"{seed['title'].strip()} -- {seed['passage'].strip()}"
        question = answer["question"].strip().rstrip("?").strip().lower()
        return super().build_rows(cell, seed, {"passage": passage}, {"question": question}, rng)

    def check_quality(self, row: Row, seed: Json) -> None:
        question = row["question"]
        question_words = words(question)
        if not question_words or not (question_words[0] in AUXILIARIES or question_words[0].endswith("n't")):
            raise RowError("question is not a yes/no question: it does not begin with an auxiliary verb")
        if question != question.lower() or question.endswith("?"):
            raise RowError("question is not lower case without a final question mark")
        if normalised(question) in normalised(row["passage"]):
            raise RowError("question is copied from the passage")
