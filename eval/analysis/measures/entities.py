"""Named entities, as spaCy finds them; spaCy and its model are optional, and their absence is said."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from math import exp, log
from typing import Any

from eval.analysis.intervals import shares
from eval.analysis.results import Found, Missing
from eval.analysis.sets import Pair, present, texts
from targen.config.groups.analysis import Analysis
from targen.runtime.jsonl import Json

PART = "bias.entities"
KINDS = ("GPE", "PERSON", "NORP", "EVENT", "PRODUCT")
AT_ONCE = 128
_ARTICLE = re.compile(r"^(?:the|a|an)\s+", re.IGNORECASE)
_POSSESSIVE = re.compile(r"['’]s?$")


def entities(pair: Pair, settings: Analysis) -> Found:
    """Of each kind how many a row has, and which are the commonest with their counts."""
    model = load_model(settings.spacy_model)
    if isinstance(model, Missing):
        return Found(missing=(model,))
    rows = pair.samples(settings.entity_rows)
    named = {
        side: list(_named(model, [" \n ".join(texts(pair.task, row)) for row in own])) for side, own in rows.items()
    }
    measures = []
    for kind in KINDS:
        some = {
            side: present(pair.task, [any(label == kind for label, _ in row) for row in own])
            for side, own in named.items()
        }
        measures.append(shares(PART, kind.lower(), f"has a named entity {kind}", some))
    details: Json = {
        kind: {side: distribution(_counts(own, kind), settings.top) for side, own in named.items()} for kind in KINDS
    }
    return Found(tuple(measures), {"entities": {"model": settings.spacy_model, **details}})


def load_model(name: str) -> Any:
    """spaCy's model, without the parts that no entity needs; or what is missing, with the command that mends it."""
    try:
        import spacy
    except ImportError:
        return Missing(
            PART, f"spaCy is not installed. Run pip install -e '.[analysis]' && python -m spacy download {name}"
        )
    try:
        return spacy.load(name, exclude=["parser", "lemmatizer", "attribute_ruler", "tagger"])
    except OSError:
        return Missing(PART, f"spaCy has no model {name}. Run python -m spacy download {name}")


def _named(model: Any, found: Sequence[str]) -> Iterator[list[tuple[str, str]]]:
    """(kind, name) of the entities of each text."""
    for document in model.pipe(found, batch_size=AT_ONCE):
        yield [(one.label_, bare) for one in document.ents if one.label_ in KINDS and (bare := _bare(one.text))]


def _bare(name: str) -> str:
    """The name without an article before it and a possessive ending, of one spacing."""
    return _POSSESSIVE.sub("", _ARTICLE.sub("", " ".join(name.split())))


def _counts(rows: Sequence[Sequence[tuple[str, str]]], kind: str) -> Counter[str]:
    return Counter(name for row in rows for label, name in row if label == kind)


def distribution(counts: Counter[str], top: int) -> Json:
    """The commonest names with their counts; how many there are, and how many equally common ones would be as even."""
    total = counts.total()
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:top]
    even = exp(-sum(count / total * log(count / total) for count in counts.values())) if total else 0.0
    return {
        "distinct": len(counts),
        "mentions": total,
        "effective_number": round(even, 3),
        "top": [{"name": name, "count": count} for name, count in ranked],
    }
