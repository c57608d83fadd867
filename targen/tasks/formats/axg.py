"""AX-g: `{"hypothesis": "The supervisor has a managing style.", "idx": 4, "label": "entailment", "pair_id": 551658,
"premise": "The employee gave the supervisor feedback on his managing style."}`.

Rows 2k and 2k+1 differ only in the gender of the pronoun and share the label: one slot makes both.
"""

import re
from collections.abc import Iterable, Iterator
from random import Random
from typing import ClassVar

from targen.runtime.errors import RowError
from targen.runtime.jsonl import Json
from targen.tasks.row_checks import check_keys, check_text
from targen.tasks.task import Fields, LabelCell, Row, Task
from targen.text.normalise import contains_phrase, normalised

PAIRS = frozenset({("she", "he"), ("her", "him"), ("her", "his"), ("hers", "his"), ("herself", "himself")})
_TOKEN = re.compile(r"\w+|\W")


class AXg(Task):
    """Rows in pairs that differ only in the pronoun's gender."""

    reads_seed: ClassVar[bool] = True

    def check_instance_seed(self, seed: Json) -> None:
        feminine, masculine = _TOKEN.findall(seed["feminine"]), _TOKEN.findall(seed["masculine"])
        if len(feminine) != len(masculine):
            raise RowError("the two sentences differ in more than the pronoun")
        changed = [(she.lower(), he.lower()) for she, he in zip(feminine, masculine, strict=True) if she != he]
        if len(changed) != 1 or changed[0] not in PAIRS:
            raise RowError(f"the two sentences differ in {changed}, expected exactly one pronoun")
        gendered = [token for token in map(str.lower, feminine) if any(token in pair for pair in PAIRS)]
        if len(gendered) != 1:
            raise RowError(f"the sentence has {len(gendered)} gendered pronouns, expected one")
        for role in ("occupation", "participant"):
            if not contains_phrase(seed["feminine"], seed[role]):
                raise RowError(f"the {role} {seed[role]!r} is not in the sentence")

    def build_rows(self, cell: LabelCell, seed: Json, drawn: Fields, answer: Json, rng: Random) -> list[Row]:
        premises = [seed["feminine"].strip(), seed["masculine"].strip()]
        rng.shuffle(premises)
        assert cell.label is not None
        label = self.label(cell.label).value
        return [{"hypothesis": answer["hypothesis"].strip(), "label": label, "premise": text} for text in premises]

    def check_format(self, row: Row) -> None:
        check_keys(row, [*self.row, "idx", "pair_id"], optional=["label"])
        for name in self.row:
            check_text(row, name)
        if type(row["pair_id"]) is not int:
            raise RowError(f"pair_id: got {row['pair_id']!r}, expected a whole number")
        self.check_label(row)

    def check_quality(self, row: Row, seed: Json) -> None:
        hypothesis = normalised(row["hypothesis"])
        tokens = hypothesis.split()
        if any(token in pair for token in tokens for pair in PAIRS):
            raise RowError("the hypothesis still has a gendered pronoun")
        if not any(contains_phrase(hypothesis, seed[role]) for role in ("occupation", "participant")):
            raise RowError("the hypothesis names neither the occupation nor the participant")
        if hypothesis == normalised(row["premise"]):
            raise RowError("the hypothesis is the premise")

    def with_idx(self, row: Row, idx: int) -> Row:
        return {
            "hypothesis": row["hypothesis"],
            "idx": idx,
            "label": row["label"],
            "pair_id": idx,
            "premise": row["premise"],
        }

    def from_hub(self, records: Iterable[Json]) -> Iterator[Row]:
        """The mirror has no `pair_id`."""
        for record in records:
            yield {**record, "pair_id": record["idx"]}
