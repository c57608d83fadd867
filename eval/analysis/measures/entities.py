"""Named entities found by spaCy. spaCy and its model are optional; without them the result says what is missing."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from math import exp, log
from typing import Any

from eval.analysis.intervals import share_measure
from eval.analysis.results import AnalysisResult, Missing
from eval.analysis.sets import SetPair, flag_counts, texts
from targen.config.groups.analysis import Analysis
from targen.runtime.jsonl import Json

PART = "bias.entities"
LABELS = ("GPE", "PERSON", "NORP", "EVENT", "PRODUCT")
BATCH = 128
_ARTICLE = re.compile(r"^(?:the|a|an)\s+", re.IGNORECASE)
_POSSESSIVE = re.compile(r"['’]s?$")


def entities(pair: SetPair, settings: Analysis) -> AnalysisResult:
    """The share of instances with an entity of each label, and the most frequent entities with their counts."""
    model = load_model(settings.spacy_model)
    if isinstance(model, Missing):
        return AnalysisResult(missing=(model,))
    rows = pair.samples(settings.entity_rows)
    mentions = {
        side: list(_entities(model, [" \n ".join(texts(pair.task, row)) for row in sample]))
        for side, sample in rows.items()
    }
    measures = []
    for label in LABELS:
        counts = {
            side: flag_counts(pair.task, [any(entity_label == label for entity_label, _ in row) for row in by_row])
            for side, by_row in mentions.items()
        }
        measures.append(share_measure(PART, label.lower(), f"has a named entity {label}", counts))
    details: Json = {
        label: {side: distribution(_counts(by_row, label), settings.top) for side, by_row in mentions.items()}
        for label in LABELS
    }
    return AnalysisResult(tuple(measures), {"entities": {"model": settings.spacy_model, **details}})


def load_model(name: str) -> Any:
    """spaCy's model, without the components that entities do not need; or what is missing and the command to install it."""
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


def _entities(model: Any, documents: Sequence[str]) -> Iterator[list[tuple[str, str]]]:
    """(label, name) of the entities in each document."""
    for document in model.pipe(documents, batch_size=BATCH):
        yield [
            (entity.label_, bare)
            for entity in document.ents
            if entity.label_ in LABELS and (bare := _bare(entity.text))
        ]


def _bare(name: str) -> str:
    """The name without a leading article and a possessive ending, with single spaces."""
    return _POSSESSIVE.sub("", _ARTICLE.sub("", " ".join(name.split())))


def _counts(rows: Sequence[Sequence[tuple[str, str]]], label: str) -> Counter[str]:
    return Counter(name for row in rows for entity_label, name in row if entity_label == label)


def distribution(counts: Counter[str], top: int) -> Json:
    """The most frequent names with their counts, the number of names, and the effective number: exp of their entropy.

    Source of the effective number: M. O. Hill, Ecology 54 (1973), the diversity number of order 1.
    """
    total = counts.total()
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:top]
    effective_number = exp(-sum(count / total * log(count / total) for count in counts.values())) if total else 0.0
    return {
        "distinct": len(counts),
        "mentions": total,
        "effective_number": round(effective_number, 3),
        "top": [{"name": name, "count": count} for name, count in ranked],
    }
