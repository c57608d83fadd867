"""WiC: `{"word": "place", "sentence1": "Do you want to come over to my place later?", "sentence2": "A political system
with no place for the less prominent groups.", "idx": 0, "label": false, "start1": 31, "start2": 27, "end1": 36,
"end2": 32, "version": 1.1}`.

Offsets count characters, the end is exclusive; they point at the inflected form, `word` is the lemma.
"""

import re
from collections.abc import Iterable, Iterator
from random import Random
from typing import ClassVar

from targen.runtime.errors import RowError
from targen.runtime.jsonl import Json
from targen.tasks.row_checks import check_keys, check_text
from targen.tasks.task import Fields, LabelCell, Row, Task
from targen.text.normalise import is_form_of, normalised, words

VERSION = 1.1  # of the WiC data format, as in the official files
# Official train row 1868 marks "round" of "The engineer called round" for the word "call".
OFFICIAL_EXCEPTIONS = frozenset({("call", "round")})
_CLITIC = re.compile(r"n['’]t\b")


class WiC(Task):
    """Whether a word has one sense in two sentences."""

    reads_seed: ClassVar[bool] = True
    drawn_fields: ClassVar[tuple[str, ...]] = ("first_sense", "second_sense")
    view_fields: ClassVar[tuple[str, ...]] = ("marked1", "marked2")
    pointer_fields: ClassVar[tuple[str, ...]] = ("word",)

    def check_instance_seed(self, seed: Json) -> None:
        if len(words(seed["word"])) != 1:
            raise RowError(f"word {seed['word']!r} is not one word")
        if normalised(seed["sense_1"]) == normalised(seed["sense_2"]):
            raise RowError("the two senses are the same")

    def draw_fields(self, cell: LabelCell, seed: Json, rng: Random) -> dict[str, str]:
        """Which sense the first sentence uses, and the second."""
        senses = [seed["sense_1"], seed["sense_2"]]
        rng.shuffle(senses)
        return {"first_sense": senses[0], "second_sense": senses[0] if cell.label == "same" else senses[1]}

    def build_rows(self, cell: LabelCell, seed: Json, drawn: Fields, answer: Json, rng: Random) -> list[Row]:
        assert cell.label is not None
        row: Row = {"word": seed["word"].strip().lower()}
        row |= {name: answer[name].strip() for name in ("sentence1", "sentence2")}
        row["label"] = self.label(cell.label).value
        for number in ("1", "2"):
            form, sentence = answer[f"form{number}"].strip(), row[f"sentence{number}"]
            starts = [match.start() for match in re.finditer(rf"(?<!\w){re.escape(form)}(?!\w)", sentence)]
            if len(starts) != 1:
                raise RowError(f"form{number} {form!r} stands {len(starts)} times in sentence{number}, expected once")
            row |= {f"start{number}": starts[0], f"end{number}": starts[0] + len(form)}
        return [row | {"version": VERSION}]

    def check_format(self, row: Row) -> None:
        offsets = ["start1", "end1", "start2", "end2"]
        check_keys(row, [*self.row, *offsets, "idx", "version"], optional=["label"])
        for name in self.row:
            check_text(row, name)
        self.check_label(row)
        for number in ("1", "2"):
            sentence, start, end = row[f"sentence{number}"], row[f"start{number}"], row[f"end{number}"]
            if not (type(start) is int and type(end) is int and 0 <= start < end <= len(sentence)):
                raise RowError(f"start{number}, end{number}: got {start!r}, {end!r}, outside of sentence{number}")
            form = sentence[start:end]
            begins_inside = start > 0 and sentence[start - 1].isalnum() and form[0].isalnum()  # "I've" is marked at 've
            ends_inside = sentence[end : end + 1].isalnum() and not _CLITIC.match(sentence, end)  # "doesn't" at does
            if begins_inside or ends_inside:
                raise RowError(f"offsets of sentence{number} cut a word: {form!r}")
            if not is_form_of(form, row["word"]) and (row["word"], form) not in OFFICIAL_EXCEPTIONS:
                raise RowError(f"sentence{number} marks {form!r}, which is no form of {row['word']!r}")

    def check_quality(self, row: Row, seed: Json) -> None:
        if normalised(row["sentence1"]) == normalised(row["sentence2"]):
            raise RowError("the two sentences are the same")

    def view(self, row: Row) -> dict[str, str]:
        """The texts of the row, and the sentences with the word between asterisks."""
        texts = super().view(row)
        for number in ("1", "2"):
            sentence, start, end = row[f"sentence{number}"], row[f"start{number}"], row[f"end{number}"]
            texts[f"marked{number}"] = f"{sentence[:start]}*{sentence[start:end]}*{sentence[end:]}"
        return texts

    def with_idx(self, row: Row, idx: int) -> Row:
        order = ["word", "sentence1", "sentence2", "idx", "label", "start1", "start2", "end1", "end2", "version"]
        return {name: ({**row, "idx": idx})[name] for name in order}

    def from_hub(self, records: Iterable[Json]) -> Iterator[Row]:
        """The mirror has no `version`."""
        for record in records:
            yield {**record, "version": VERSION}
