"""WiC: `{"word": "place", "sentence1": "Do you want to come over to my place later?", "sentence2": "A political system
with no place for the less prominent groups.", "idx": 0, "label": false, "start1": 31, "start2": 27, "end1": 36,
"end2": 32, "version": 1.1}`.

Offsets count characters, the end is exclusive; they point at the inflected form, `word` is the lemma.
"""

import re
from random import Random

from targen.runtime.errors import RowError
from targen.runtime.jsonl import Json
from targen.tasks import plain
from targen.tasks.plain import TaskCode
from targen.tasks.task import Fields, LabelCell, Row, TaskSpec
from targen.text.normalise import is_form_of, normalised, words

VERSION = 1.1  # of the WiC data format, as in the official files
# Official train row 1868 marks "round" of "The engineer called round" for the word "call".
OFFICIAL_EXCEPTIONS = frozenset({("call", "round")})
_CLITIC = re.compile(r"n['’]t\b")


def check_seed(task: TaskSpec, seed: Json) -> None:
    if len(words(seed["word"])) != 1:
        raise RowError(f"word {seed['word']!r} is not one word")
    if normalised(seed["sense_1"]) == normalised(seed["sense_2"]):
        raise RowError("the two senses are the same")


def draw(task: TaskSpec, cell: LabelCell, seed: Json, rng: Random) -> dict[str, str]:
    """Which sense the first sentence uses, and the second."""
    senses = [seed["sense_1"], seed["sense_2"]]
    rng.shuffle(senses)
    return {"first_sense": senses[0], "second_sense": senses[0] if cell.label == "same" else senses[1]}


def build(task: TaskSpec, cell: LabelCell, seed: Json, drawn: Fields, answer: Json, rng: Random) -> list[Row]:
    assert cell.label is not None
    row: Row = {"word": seed["word"].strip().lower()}
    row |= {name: answer[name].strip() for name in ("sentence1", "sentence2")}
    row["label"] = task.label(cell.label).value
    for number in ("1", "2"):
        form, sentence = answer[f"form{number}"].strip(), row[f"sentence{number}"]
        found = [match.start() for match in re.finditer(rf"(?<!\w){re.escape(form)}(?!\w)", sentence)]
        if len(found) != 1:
            raise RowError(f"form{number} {form!r} stands {len(found)} times in sentence{number}, expected once")
        row |= {f"start{number}": found[0], f"end{number}": found[0] + len(form)}
    return [row | {"version": VERSION}]


def check_format(task: TaskSpec, row: Row) -> None:
    offsets = ["start1", "end1", "start2", "end2"]
    plain.check_keys(row, [*task.row, *offsets, "idx", "version"], optional=["label"])
    for name in task.row:
        plain.check_text(row, name)
    plain.check_label(task, row)
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


def check_quality(task: TaskSpec, row: Row, seed: Json) -> None:
    if normalised(row["sentence1"]) == normalised(row["sentence2"]):
        raise RowError("the two sentences are the same")


def view(task: TaskSpec, row: Row) -> dict[str, str]:
    """The texts of the row, and the sentences with the word between asterisks."""
    texts = plain.view(task, row)
    for number in ("1", "2"):
        sentence, start, end = row[f"sentence{number}"], row[f"start{number}"], row[f"end{number}"]
        texts[f"marked{number}"] = f"{sentence[:start]}*{sentence[start:end]}*{sentence[end:]}"
    return texts


def number(task: TaskSpec, row: Row, idx: int) -> Row:
    order = ["word", "sentence1", "sentence2", "idx", "label", "start1", "start2", "end1", "end2", "version"]
    return {name: ({**row, "idx": idx})[name] for name in order}


CODE = TaskCode(
    check_seed=check_seed,
    draw=draw,
    drawn_fields=("first_sense", "second_sense"),
    build=build,
    check_format=check_format,
    check_quality=check_quality,
    view=view,
    view_fields=("marked1", "marked2"),
    number=number,
)
