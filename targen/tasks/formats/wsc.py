"""WSC: `{"text": "Mark told Pete many lies about himself ...", "target": {"span2_index": 13, "span1_index": 0,
"span1_text": "Mark", "span2_text": "He"}, "idx": 0, "label": false}`.

Indices count the whitespace tokens of `text`. True: the pronoun (span2) refers to the noun phrase (span1).
"""

import re
from collections.abc import Iterable, Iterator
from random import Random
from typing import ClassVar

from targen.runtime.errors import RowError
from targen.runtime.jsonl import Json
from targen.tasks.row_checks import check_keys, check_text
from targen.tasks.task import Fields, LabelCell, Row, Task
from targen.text.normalise import normalised

PRONOUNS = frozenset(
    [
        "he",
        "she",
        "it",
        "they",
        "him",
        "her",
        "them",
        "his",
        "hers",
        "its",
        "their",
        "theirs",
        "himself",
        "herself",
        "itself",
        "themselves",
    ]
)
TARGET_KEYS = ("span2_index", "span1_index", "span1_text", "span2_text")  # in the official order
_EDGES = re.compile(r"^\W+|\W+$")
_QUOTES = "\"'([“‘"
_PUNCTUATION = '.,;:!?)]"”'
_POSSESSIVE = re.compile(r"['’]s?$")
# Spans whose official index points elsewhere than at their text: (span, index, beginning of the text).
OFFICIAL_EXCEPTIONS = frozenset(
    {
        ("it", 30, "When they had eventually calmed down a b"),  # one token early
        ("Kamenev and Zinoviev", 3, "Kotkin describes how Lev Kamenev, Stalin"),  # test: groups that the text does
        ("Stalin and Kamenev", 4, "Kotkin describes how Lev Kamenev, Stalin"),  # not name in one run
        ("Kamenev, Zinoviev, and Stalin", 4, "Kotkin describes how Lev Kamenev, Stalin"),
    }
)


def find_span(text: str, span: str) -> int:
    """Index of the first whitespace token of the only run of tokens that is the span. Raises: RowError if not one."""
    tokens, span_tokens = [_bare(token) for token in text.split()], [_bare(token) for token in span.split()]
    starts = [i for i in range(len(tokens)) if span_tokens and tokens[i : i + len(span_tokens)] == span_tokens]
    if len(starts) != 1:
        raise RowError(f"{span!r} stands {len(starts)} times in the text, expected once")
    return starts[0]


def _bare(token: str) -> str:
    """The token without punctuation around it and without a possessive ending, in lower case."""
    return _POSSESSIVE.sub("", _EDGES.sub("", token)).lower()


class WSC(Task):
    """Whether a pronoun refers to a noun phrase."""

    reads_seed: ClassVar[bool] = True
    view_fields: ClassVar[tuple[str, ...]] = ("marked",)
    pointer_fields: ClassVar[tuple[str, ...]] = ("span1", "span2")

    def check_instance_seed(self, seed: Json) -> None:
        phrases = {normalised(seed["noun_phrase_1"]), normalised(seed["noun_phrase_2"])}
        if len(phrases) < 2:
            raise RowError("the two noun phrases are the same")
        if normalised(seed["referent"]) not in phrases:
            raise RowError(f"the referent {seed['referent']!r} is neither of the noun phrases")
        if normalised(seed["pronoun"]) not in PRONOUNS:
            raise RowError(f"{seed['pronoun']!r} is not a pronoun")
        for name in ("noun_phrase_1", "noun_phrase_2", "pronoun"):
            find_span(seed["text"], seed[name])

    def build_rows(self, cell: LabelCell, seed: Json, drawn: Fields, answer: Json, rng: Random) -> list[Row]:
        assert cell.label is not None
        text = " ".join(seed["text"].split())
        span1, span2 = answer["span1"].strip(), answer["span2"].strip()
        if normalised(span2) != normalised(seed["pronoun"]):
            raise RowError(f"span2 is {span2!r}, expected the pronoun {seed['pronoun']!r}")
        if normalised(span1) not in (normalised(seed["noun_phrase_1"]), normalised(seed["noun_phrase_2"])):
            raise RowError(f"span1 {span1!r} is neither of the noun phrases")
        if (normalised(span1) == normalised(seed["referent"])) != (cell.label == "refers"):
            raise RowError(f"span1 {span1!r} does not fit the label {cell.label}")
        target = {
            "span2_index": find_span(text, span2),
            "span1_index": find_span(text, span1),
            "span1_text": span1,
            "span2_text": span2,
        }
        return [{"text": text, "target": target, "label": self.label(cell.label).value}]

    def check_format(self, row: Row) -> None:
        check_keys(row, ["text", "target", "idx"], optional=["label"])
        check_text(row, "text")
        self.check_label(row)
        target = row["target"]
        if not isinstance(target, dict) or set(target) != set(TARGET_KEYS):
            raise RowError(f"target: expected the keys {sorted(TARGET_KEYS)}")
        tokens = row["text"].split()
        for number in ("1", "2"):
            check_text(target, f"span{number}_text")
            span, index = target[f"span{number}_text"], target[f"span{number}_index"]
            if type(index) is not int or not 0 <= index < len(tokens):
                raise RowError(f"span{number}_index: got {index!r}, expected 0 to {len(tokens) - 1}")
            run = [_bare(token) for token in tokens[index : index + len(span.split())]]
            if (
                run != [_bare(token) for token in span.split()]
                and (span, index, row["text"][:40]) not in OFFICIAL_EXCEPTIONS
            ):
                raise RowError(f"span{number}: {span!r} does not stand at whitespace token {index}, there is {run}")
        if _bare(target["span2_text"]) not in PRONOUNS:
            raise RowError(f"span2: {target['span2_text']!r} is not a pronoun")

    def view(self, row: Row) -> dict[str, str]:
        """The text, the spans, and the text with span1 between asterisks and span2 between underscores."""
        target, tokens = row["target"], row["text"].split()
        for number, sign in (("1", "*"), ("2", "_")):
            start = target[f"span{number}_index"]
            end = min(len(tokens), start + len(target[f"span{number}_text"].split())) - 1
            before = len(tokens[start]) - len(tokens[start].lstrip(_QUOTES))
            tokens[start] = tokens[start][:before] + sign + tokens[start][before:]
            after = len(tokens[end].rstrip(_PUNCTUATION))
            tokens[end] = tokens[end][:after] + sign + tokens[end][after:]
        spans = {name: target[f"{name}_text"] for name in ("span1", "span2")}
        return {"text": row["text"], **spans, "marked": " ".join(tokens)}

    def with_idx(self, row: Row, idx: int) -> Row:
        return {"text": row["text"], "target": row["target"], "idx": idx, "label": row["label"]}

    def from_hub(self, records: Iterable[Json]) -> Iterator[Row]:
        """The mirror has the keys of `target` beside the text."""
        for record in records:
            target = {key: record[key] for key in TARGET_KEYS}
            row = {"text": record["text"], "target": target, "idx": record["idx"]}
            yield row | ({"label": record["label"]} if "label" in record else {})
