"""AX-b: `{"sentence1": "The cat sat on the mat.", "sentence2": "The cat did not sit on the mat.", "idx": 0, "label": "not_entailment",
"logic": "Negation"}`.

An original row also names what it tests, under one or more of four keys (`logic`, `knowledge`, ...). Many pairs of sentences are in the
set twice, the second time in the other order.
"""

import hashlib
from dataclasses import replace

from targen.runtime.errors import RowError
from targen.runtime.jsonl import Json
from targen.tasks.row_checks import check_keys, check_text
from targen.tasks.task import Example, Row, Task
from targen.text.normalise import normalised

TESTED = ("lexical-semantics", "predicate-argument-structure", "logic", "knowledge")
MIN_SHARED = 0.2  # of the words of the shorter sentence


class AXb(Task):
    """Whether a sentence entails another that has most of its words."""

    def check_format(self, row: Row) -> None:
        check_keys(row, [*self.row, "idx"], optional=["label", *TESTED, "domain"])
        for name in self.row:
            check_text(row, name)
        for name in {*TESTED, "domain"} & set(row):
            if not isinstance(row[name], str):
                raise RowError(f"{name}: got {row[name]!r}, expected a text")
        self.check_label(row)

    def check_quality(self, row: Row, seed: Json) -> None:
        first, second = (normalised(row[name]) for name in self.row)
        if first == second:
            raise RowError("the second sentence is the first")
        first_words, second_words = set(first.split()), set(second.split())
        if len(first_words & second_words) < MIN_SHARED * min(len(first_words), len(second_words)):
            raise RowError("the two sentences have too few words in common")

    def examples(self, row: Row) -> list[Example]:
        """Rows with the same two sentences, in either order, are one group."""
        (example,) = super().examples(row)
        pair = "\n".join(sorted(normalised(row[name]) for name in self.row))
        return [replace(example, groups=(int.from_bytes(hashlib.sha256(pair.encode()).digest()[:6], "big"),))]
