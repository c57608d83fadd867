"""MultiRC: `{"idx": 0, "version": 1.1, "passage": {"text": "...", "questions": [{"question": "...", "answers": [{"text": "...",
"idx": 0, "label": 1}], "idx": 0}]}}`.

Passages, questions and answers are each numbered through the whole file. A question is asked about each of its answers by
itself; the label of a row with one question, as of all synthetic rows, is the numbers of the right answers: `1, 3`, or `none`.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations, groupby
from random import Random
from typing import ClassVar

from targen.runtime.errors import RowError
from targen.runtime.jsonl import Json
from targen.tasks.row_checks import check_keys, check_objects, check_text
from targen.tasks.task import Example, Fields, LabelCell, Row, Task, same_value
from targen.text.normalise import normalised, words

VERSION = 1.1
MIN_PASSAGE_WORDS = 50
MOST_ANSWERS = 6  # of a synthetic question
NONE = "none"


class MultiRC(Task):
    """Questions about a passage, each with answers that are right or wrong."""

    reads_seed: ClassVar[bool] = True
    drawn_in_groups: ClassVar[bool] = True

    @property
    def examples_per_row(self) -> float:
        """The answers that step 3 asks for: for each list the mean of its least and greatest number of items."""
        lists = [spec for spec in self.generation.fields.values() if isinstance(spec, dict) and "items" in spec]
        return float(sum(spec.get("minItems", 1) + spec.get("maxItems", MOST_ANSWERS) for spec in lists)) / 2

    def check_instance_seed(self, seed: Json) -> None:
        count = len(words(seed["paragraph"]))
        if count < MIN_PASSAGE_WORDS:
            raise RowError(f"passage has {count} words, expected at least {MIN_PASSAGE_WORDS}")
        if normalised(seed["question"]) in normalised(seed["paragraph"]):
            raise RowError("question is copied from the passage, or empty")

    def build_rows(self, cell: LabelCell, seed: Json, drawn: Fields, answer: Json, rng: Random) -> list[Row]:
        """The slot's RNG draws the order of the answers, so that their positions say nothing."""
        right, wrong = (label.value for label in self.classes)
        answers = [{"text": text.strip(), "label": right} for text in answer["right"]]
        answers += [{"text": text.strip(), "label": wrong} for text in answer["wrong"]]
        if len(answers) > MOST_ANSWERS:
            raise RowError(f"question has {len(answers)} answers, expected at most {MOST_ANSWERS}")
        rng.shuffle(answers)
        question = {"question": seed["question"].strip(), "answers": answers}
        return [{"version": VERSION, "passage": {"text": seed["paragraph"].strip(), "questions": [question]}}]

    def check_format(self, row: Row) -> None:
        check_keys(row, ["passage", "idx"], optional=["version"])
        passage = row["passage"]
        if not isinstance(passage, dict) or set(passage) != {"text", "questions"}:
            raise RowError("passage: expected the keys text and questions")
        check_text(passage, "text")
        check_objects(passage, "questions")
        for question in passage["questions"]:
            check_keys(question, ["question", "answers", "idx"], optional=[])
            check_text(question, "question")
            check_objects(question, "answers")
            for answer in question["answers"]:
                check_keys(answer, ["text", "idx"], optional=["label"])
                if not isinstance(answer["text"], str):
                    raise RowError(f"text: got {answer['text']!r}, expected a text")
                if "label" in answer and self._class_of(answer) is None:
                    values = ", ".join(repr(label.value) for label in self.classes)
                    raise RowError(f"label: got {answer['label']!r}, expected one of {values}")

    def check_quality(self, row: Row, seed: Json) -> None:
        for question in row["passage"]["questions"]:
            texts = [normalised(answer["text"]) for answer in question["answers"]]
            if not all(texts) or len(set(texts)) < len(texts):
                raise RowError("an answer is empty, or two are the same")
            if normalised(question["question"]) in texts:
                raise RowError("an answer is the question")

    def view(self, row: Row) -> dict[str, str]:
        """Passage and first question, which is the only one of a synthetic row, with its answers numbered."""
        question = _first_question(row)
        numbered = (f"{number}. {answer['text']}" for number, answer in enumerate(question["answers"], start=1))
        return {
            "passage": row["passage"]["text"],
            "question": question["question"],
            "answer": "\n" + "\n".join(numbered),
        }

    def label_options(self, row: Row) -> list[str]:
        """All sets of answers; of more than MOST_ANSWERS only single ones, and those that are right."""
        numbers = range(1, len(_first_question(row)["answers"]) + 1)
        sizes = [*numbers] if len(numbers) <= MOST_ANSWERS else [1]
        options = [_label_text(right_numbers) for size in sizes for right_numbers in combinations(numbers, size)]
        return list(dict.fromkeys([NONE, *options, self.gold_option(row)]))

    def gold_option(self, row: Row) -> str:
        golds = [self._class_of(answer) for answer in _first_question(row)["answers"]]
        if None in golds:
            raise RowError("label: hidden in this split")
        return _label_text([number for number, gold in enumerate(golds, start=1) if gold == 0])

    def relabel(self, row: Row, option: str) -> Row:
        right_numbers = set() if option == NONE else set(map(int, option.split(",")))
        right, wrong = (label.value for label in self.classes)
        question = _first_question(row)
        answers = [
            {**answer, "label": right if number in right_numbers else wrong}
            for number, answer in enumerate(question["answers"], start=1)
        ]
        questions = [{**question, "answers": answers}, *row["passage"]["questions"][1:]]
        return {**row, "passage": {**row["passage"], "questions": questions}}

    def with_idx(self, row: Row, idx: int) -> Row:
        """Question and answers are numbered from the row's idx alone, so that rows need not know of each other."""
        question = _first_question(row)
        answers = [
            {"text": answer["text"], "idx": idx * MOST_ANSWERS + position, "label": answer["label"]}
            for position, answer in enumerate(question["answers"])
        ]
        numbered = {"question": question["question"], "answers": answers, "idx": idx}
        return {"idx": idx, "version": VERSION, "passage": {"text": row["passage"]["text"], "questions": [numbered]}}

    def examples(self, row: Row) -> list[Example]:
        """One example an answer."""
        names, passage = tuple(label.name for label in self.classes), row["passage"]
        examples = []
        for question in passage["questions"]:
            for answer in question["answers"]:
                fields = {"passage": passage["text"], "question": question["question"], "answer": answer["text"]}
                gold = self._class_of(answer)
                groups = (row["idx"], question["idx"])
                examples.append(
                    Example(self.name, answer["idx"], fields, names, () if gold is None else (gold,), groups=groups)
                )
        return examples

    def demonstrations(self, row: Row) -> list[Row]:
        passage = row["passage"]
        return [{**row, "passage": {**passage, "questions": [question]}} for question in passage["questions"]]

    def demonstration_numbers(self, row: Row) -> dict[str, int]:
        return {"idx": row["idx"], "question": _first_question(row)["idx"]}

    def copied_texts(self, row: Row) -> list[str]:
        """The answers in any order."""
        question = _first_question(row)
        answers = sorted((answer["text"] for answer in question["answers"]), key=normalised)
        return [row["passage"]["text"], question["question"], *answers]

    def balance_note(self) -> str:
        return f"A question of {self.folder} has right and wrong answers: how many of each was drawn, and so was their order."

    def example_count(self, row: Row) -> int:
        return sum(len(question["answers"]) for question in row["passage"]["questions"])

    def duplicate_key(self, row: Row) -> str:
        return "\n".join(normalised(text) for text in (row["passage"]["text"], _first_question(row)["question"]))

    def from_hub(self, records: Iterable[Json]) -> Iterator[Row]:
        """The mirror has one record per answer; consecutive ones share a question and a passage."""
        for idx, passage_records in groupby(records, key=lambda record: int(record["idx"]["paragraph"])):
            text, questions = "", []
            for number, question_records in groupby(passage_records, key=lambda record: int(record["idx"]["question"])):
                first, *rest = question_records
                text = first["paragraph"]
                answers = [_answer_from_hub(record) for record in (first, *rest)]
                questions.append({"question": first["question"], "answers": answers, "idx": number})
            yield {"idx": idx, "version": VERSION, "passage": {"text": text, "questions": questions}}

    def _class_of(self, answer: Json) -> int | None:
        """The number of the answer's label among `classes`; None if it is hidden, or none of them."""
        values = [label.value for label in self.classes]
        return next(
            (n for n, value in enumerate(values) if "label" in answer and same_value(value, answer["label"])), None
        )


def _answer_from_hub(record: Json) -> Json:
    label = {"label": record["label"]} if "label" in record else {}
    return {"text": record["answer"], "idx": record["idx"]["answer"], **label}


def _first_question(row: Row) -> Json:
    question: Json = row["passage"]["questions"][0]
    return question


def _label_text(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers)) or NONE
