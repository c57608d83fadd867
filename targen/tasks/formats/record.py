"""ReCoRD: `{"source": "CNN", "passage": {"text": "...", "entities": [{"start": 9, "end": 13}]}, "qas": [{"query":
"... @placeholder ...", "answers": [{"start": 9, "end": 13, "text": "Kenya"}], "idx": 100692}], "idx": 65680}`.

Offsets count characters, the end is inclusive. The label is the answer entity; every mention of it is an answer.
"""

import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from random import Random
from typing import ClassVar

from targen.runtime.errors import RowError
from targen.runtime.jsonl import Json
from targen.tasks.row_checks import check_keys, check_text
from targen.tasks.task import Example, Fields, LabelCell, Row, Task
from targen.text.normalise import normalised, words

PLACEHOLDER = "@placeholder"
SOURCE = "synthetic"
MIN_ENTITIES = 3
MIN_ARTICLE_WORDS = 60


class ReCoRD(Task):
    """A query about an article, answered by one of its entities."""

    reads_seed: ClassVar[bool] = True
    drawn_fields: ClassVar[tuple[str, ...]] = ("answer",)
    built_fields: ClassVar[tuple[str, ...]] = ("answer",)
    view_fields: ClassVar[tuple[str, ...]] = ("entities",)

    def check_instance_seed(self, seed: Json) -> None:
        count = len(words(seed["article"]))
        if count < MIN_ARTICLE_WORDS:
            raise RowError(f"article has {count} words, expected at least {MIN_ARTICLE_WORDS}")
        names = _entity_names(seed)
        if len(names) < MIN_ENTITIES:
            raise RowError(f"article holds {len(names)} of the listed entities, expected at least {MIN_ENTITIES}")

    def draw_fields(self, cell: LabelCell, seed: Json, rng: Random) -> dict[str, str]:
        """The answer entity."""
        return {"answer": rng.choice(_entity_names(seed))}

    def build_rows(self, cell: LabelCell, seed: Json, drawn: Fields, answer: Json, rng: Random) -> list[Row]:
        text = seed["article"].strip()
        mentions = sorted(_spans_of(text, _entity_names(seed)))
        entities = [{"start": start, "end": end - 1} for start, end in mentions]
        answers = _answer_mentions(text, mentions, drawn["answer"].strip())
        if not answers:
            raise RowError(f"the answer {drawn['answer']!r} is none of the article's entities")
        query = {"query": answer["query"].strip(), "answers": answers}
        return [{"source": SOURCE, "passage": {"text": text, "entities": entities}, "qas": [query]}]

    def check_format(self, row: Row) -> None:
        check_keys(row, ["source", "passage", "qas", "idx"], optional=[])
        passage, qas = row["passage"], row["qas"]
        if not isinstance(passage, dict) or set(passage) != {"text", "entities"}:
            raise RowError("passage: expected the keys text and entities")
        check_text(passage, "text")
        _check_list(passage, "entities")
        text, spans = passage["text"], {_span(entity, passage["text"]) for entity in passage["entities"]}
        if not isinstance(qas, list) or not qas:
            raise RowError("qas: expected at least one query")
        for query in qas:
            check_keys(query, ["query", "idx"], optional=["answers"])
            check_text(query, "query")
            if query["query"].count(PLACEHOLDER) != 1:
                raise RowError(f"query has {query['query'].count(PLACEHOLDER)} times {PLACEHOLDER}, expected once")
            if "answers" in query:
                _check_list(query, "answers")
            for answer in query.get("answers", []):
                start, end = _span(answer, text)
                if (start, end) not in spans:
                    raise RowError(f"answer {answer['text']!r} is not among the entities")
                if text[start : end + 1] != answer["text"]:
                    raise RowError(f"answer {answer['text']!r} does not stand at its offsets")
            if "answers" in query and not query["answers"]:
                raise RowError("answers: expected at least one")

    def check_quality(self, row: Row, seed: Json) -> None:
        text = row["passage"]["text"]
        for query in row["qas"]:
            answer = query["answers"][0]["text"]
            if len(words(query["query"].replace(PLACEHOLDER, " "))) < 3:
                raise RowError("query has fewer than three words beside the placeholder")
            if normalised(query["query"].replace(PLACEHOLDER, answer)) in normalised(text):
                raise RowError("query is copied from the article")

    def view(self, row: Row) -> dict[str, str]:
        """Passage and first query; synthetic rows have one query."""
        text = row["passage"]["text"].replace("\n@highlight\n", "\n- ")
        return {"passage": text, "query": row["qas"][0]["query"], "entities": "; ".join(self.label_options(row))}

    def label_options(self, row: Row) -> list[str]:
        """The different entities of the passage, in order of mention."""
        text, entities = row["passage"]["text"], row["passage"]["entities"]
        spans = sorted((entity["start"], entity["end"]) for entity in entities)
        return list(dict.fromkeys(text[start : end + 1] for start, end in spans))

    def gold_option(self, row: Row) -> str:
        answers = row["qas"][0].get("answers")
        if not answers:
            raise RowError("answers: hidden in this split")
        return str(answers[0]["text"])

    def relabel(self, row: Row, option: str) -> Row:
        text = row["passage"]["text"]
        mentions = [(entity["start"], entity["end"] + 1) for entity in row["passage"]["entities"]]
        return {**row, "qas": [{**row["qas"][0], "answers": _answer_mentions(text, mentions, option)}]}

    def with_idx(self, row: Row, idx: int) -> Row:
        qas = [{**query, "idx": idx} for query in row["qas"]]
        return {"source": row["source"], "passage": row["passage"], "qas": qas, "idx": idx}

    def examples(self, row: Row) -> list[Example]:
        """One example a query; a choice is right if its text is the text of an answer."""
        texts, choices = self.view(row), tuple(self.label_options(row))
        examples = []
        for query in row["qas"]:
            answers = tuple(dict.fromkeys(answer["text"] for answer in query.get("answers", [])))
            gold = tuple(i for i, choice in enumerate(choices) if choice in answers)
            fields = {**texts, "query": query["query"]}
            examples.append(Example(self.name, query["idx"], fields, choices, gold, answers, groups=(row["idx"],)))
        return examples

    def demonstrations(self, row: Row) -> list[Row]:
        return [{**row, "qas": [query]} for query in row["qas"]]

    def demonstration_numbers(self, row: Row) -> dict[str, int]:
        return {"idx": row["idx"], "query": row["qas"][0]["idx"]}

    def example_count(self, row: Row) -> int:
        return len(row["qas"])

    def balance_note(self) -> str:
        return f"The answers of {self.folder} are texts: it has no labels to balance."

    def baseline_answer(self, example: Example) -> str:
        """The entity that the passage mentions most often."""
        text = example.fields["passage"]
        return max(example.choices, key=lambda choice: len(re.findall(rf"(?<!\w){re.escape(choice)}(?!\w)", text)))

    def duplicate_key(self, row: Row) -> str:
        return "\n".join(normalised(text) for text in (row["passage"]["text"], row["qas"][0]["query"]))

    def with_choice(self, text: str, choice: str) -> str:
        return text.replace(PLACEHOLDER, choice)

    def from_hub(self, records: Iterable[Json]) -> Iterator[Row]:
        """The mirror has one record per query; consecutive ones share a passage."""
        for idx, queries in groupby(records, key=lambda record: int(record["idx"]["passage"])):
            first, *rest = queries
            text, spans = first["passage"], first["entity_spans"]
            starts = sorted(zip(spans["start"], map(len, spans["text"]), strict=True))
            entities = [{"start": start, "end": start + length - 1} for start, length in starts]
            passage = {"text": text, "entities": entities}
            qas = [_query_from_hub(record, passage) for record in (first, *rest)]
            yield {"source": "", "passage": passage, "qas": qas, "idx": idx}


def _query_from_hub(record: Json, passage: Json) -> Json:
    query: Json = {"query": record["query"], "idx": record["idx"]["query"]}
    if record["answers"]:
        mentions = [
            {**entity, "text": passage["text"][entity["start"] : entity["end"] + 1]} for entity in passage["entities"]
        ]
        query["answers"] = [mention for mention in mentions if mention["text"] in record["answers"]]
    return query


def _entity_names(seed: Json) -> list[str]:
    """The listed entities that the article holds, as spans of their own, in order of mention."""
    text = seed["article"].strip()
    listed = [name.strip() for name in seed["entities"] if name.strip()]
    return list(dict.fromkeys(text[start:end] for start, end in sorted(_spans_of(text, listed))))


def _spans_of(text: str, names: list[str]) -> list[tuple[int, int]]:
    """All spans (start, end exclusive) of the names, whole words only; a longer name wins over one inside it."""
    spans: list[tuple[int, int]] = []
    for name in sorted(set(names), key=lambda name: (-len(name), name)):
        for match in re.finditer(rf"(?<!\w){re.escape(name)}(?!\w)", text):
            if all(match.end() <= start or match.start() >= end for start, end in spans):
                spans.append(match.span())
    return spans


def _answer_mentions(text: str, mentions: list[tuple[int, int]], answer: str) -> list[Json]:
    return [{"start": s, "end": e - 1, "text": answer} for s, e in mentions if text[s:e] == answer]


def _check_list(record: Json, name: str) -> None:
    if not isinstance(record[name], list) or not all(isinstance(item, dict) for item in record[name]):
        raise RowError(f"{name}: got {str(record[name])[:60]}, expected a list of objects")


def _span(entity: Json, text: str) -> tuple[int, int]:
    start, end = entity.get("start"), entity.get("end")
    if not (type(start) is int and type(end) is int and 0 <= start <= end < len(text)):
        raise RowError(f"entity: got start {start!r}, end {end!r}, outside of the passage")
    return start, end
