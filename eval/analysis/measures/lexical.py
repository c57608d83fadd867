"""Lexical diversity: vocabulary, distinct n-grams and MTLD at equal numbers of words, Self-BLEU at equal numbers of rows.

A longer text has more different words, whatever its diversity: so of the set with more words only as many are looked at
as the other has. N-grams stay inside a text.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any

import numpy as np

from eval.analysis.intervals import Sampled, halves, measure, of_halves, over_halves, ratio
from eval.analysis.measures.ngrams import Corpus, Ints, corpus, grams, positions, rows_of_instances
from eval.analysis.measures.self_bleu import SelfBleu
from eval.analysis.results import Found, Measure, Missing
from eval.analysis.sets import Pair, grouped, row_units
from eval.tables.published import paper
from targen.config.groups.analysis import Analysis
from targen.tasks.task import Row, Task

PART = "lexical"
ORDERS = (1, 2, 3)
MTLD_THRESHOLD = 0.72
MTLD_WORDS = 100_000  # of each set at most: it is a mean over short stretches, and more of them take long
Take = Callable[[Ints, int], dict[str, float]]  # where each word stands, how many words count -> measures
BASES = {"distinct_2": 1.0, "distinct_3": 1.0}  # where no n-gram is repeated: what grows with a set are repetitions
# The names before the texts with which their numbers come out exactly (CB, RTE); of the other tasks they are not known.
THEIR_NAMES = {"rte": {"premise": "sentence1", "hypothesis": "sentence2"}}


def lexical(pair: Pair, settings: Analysis) -> Found:
    """What words the sets are made of."""
    rows = pair.samples()
    words = {side: row_units(pair.task, own) for side, own in rows.items()}
    counted = {side: corpus(own) for side, own in words.items()}
    budget = min(len(own.ids) for own in counted.values())
    measures = [_length(pair, counted)]
    missing: list[Missing] = []
    if budget == 0:
        missing.append(Missing(f"{PART}.diversity", "no words in the texts of a set"))
    else:
        measures += _at_equal_words(pair, settings, counted, budget)
    bleu, lacking = _self_bleu(pair, settings, words)
    theirs = _their_sum(pair, rows)
    details = {"words": {side: len(own.ids) for side, own in counted.items()}, "words_compared": budget}
    return Found((*measures, *bleu, *theirs.measures), details | theirs.details, (*missing, *lacking, *theirs.missing))


def _length(pair: Pair, counted: Mapping[str, Corpus]) -> Measure:
    step = pair.task.rows_per_slot
    sides = {}
    for side, own in counted.items():
        per_instance = np.array([sum(group) for group in grouped(own.lengths.tolist(), pair.task)], dtype=np.float64)
        sides[side] = ratio(per_instance, np.full(len(per_instance), float(step)), pair.draws("length", side))
    return measure(PART, "words_per_row", "words per row", "words", sides)


def _at_equal_words(pair: Pair, settings: Analysis, counted: Mapping[str, Corpus], budget: int) -> list[Measure]:
    step, found = pair.task.rows_per_slot, dict[str, dict[str, Sampled]]()
    for side, own in counted.items():
        orders = halves(len(own.lengths) // step, settings.replicates, pair.draws("words", side))
        of_words = _of_words(own, step, budget, orders, _counter(own))
        of_words |= _of_words(own, step, min(budget, MTLD_WORDS), orders, partial(_stretches, own))
        for name, sampled in of_words.items():
            found.setdefault(name, {})[side] = sampled
    titles = {
        "vocabulary": ("different words", "words"),
        **{f"distinct_{n}": (f"distinct-{n}", "share") for n in ORDERS},
        "mtld": ("MTLD", "words"),
    }
    return [measure(PART, name, *titles[name], sides, "at equal numbers of words") for name, sides in found.items()]


def _of_words(words: Corpus, group: int, budget: int, orders: Sequence[Ints], take: Take) -> dict[str, Sampled]:
    """The measures of the first `budget` words, with those of half as many in each order."""
    every = positions(words, np.arange(len(words.lengths) // group), group)
    # halves are of the instances that stand among the first `budget` words
    used = int(words.row[every < budget].max(initial=0)) // group + 1
    found = [take(positions(words, order[order < used], group), budget // 2) for order in orders if budget > 1]
    return {
        name: of_halves(value, [one[name] for one in found], budget, BASES.get(name, 0.0))
        for name, value in take(every, budget).items()
    }


def _counter(words: Corpus) -> Take:
    """Counts what is different among the words that stand at 0 ... count - 1, as _of_words asks for it."""
    every = {n: grams(words.ids, words.text, n, words.types) for n in ORDERS}
    largest = {n: int(own[1].max(initial=-1)) + 1 for n, own in every.items()}

    def take(place: Ints, count: int) -> dict[str, float]:
        inside = (place >= 0) & (place < count)
        values: dict[str, float] = {}
        for n, (first, gram) in every.items():
            kept = gram[inside[first] & (place[first] + n - 1 < count)]
            seen = np.zeros(largest[n], dtype=bool)
            seen[kept] = True
            if n == 1:
                values["vocabulary"] = float(seen.sum())
            values[f"distinct_{n}"] = float(seen.sum() / max(1, len(kept)))
        return values

    return take


def _stretches(words: Corpus, place: Ints, count: int) -> dict[str, float]:
    """MTLD of the words that stand at 0 ... count - 1."""
    inside = (place >= 0) & (place < count)
    text = np.zeros(int(inside.sum()), dtype=np.int64)
    text[place[inside]] = words.ids[inside]
    return {"mtld": mtld(text.tolist())}


def mtld(words: Sequence[int] | Sequence[str], threshold: float = MTLD_THRESHOLD) -> float:
    """Mean length of the stretches after which the type-token ratio has come down to the threshold, forwards and backwards.

    The rest at the end counts as the part of a stretch that its ratio has fallen. Where no stretch ends and none has
    begun to fall, the length of the whole. Source: P. M. McCarthy and S. Jarvis, Behavior Research Methods 42 (2010).
    """
    return (_one_way(words, threshold) + _one_way(words[::-1], threshold)) / 2 if words else 0.0


def _one_way(words: Sequence[Any], threshold: float) -> float:
    seen: set[Any] = set()
    factors, start, place = 0.0, 0, 0
    for place, word in enumerate(words, start=1):
        if word not in seen:  # the ratio rises
            seen.add(word)
        elif len(seen) / (place - start) <= threshold:
            factors, start = factors + 1, place
            seen = set()
    if place > start:
        factors += (1 - len(seen) / (place - start)) / (1 - threshold)
    return place / factors if factors else float(place)


def _self_bleu(
    pair: Pair, settings: Analysis, words: Mapping[str, list[list[list[str]]]]
) -> tuple[list[Measure], list[Missing]]:
    """Self-BLEU of rows, all texts of each in one."""
    step = pair.task.rows_per_slot
    count = min(settings.self_bleu_rows, pair.size) // step * step
    if count < 2:
        return [], [Missing(f"{PART}.self_bleu", f"{count} rows in a set, expected at least 2")]
    sides = {}
    for side, own in words.items():
        ready = SelfBleu([[word for text in row for word in text] for row in own[:count]])
        orders = halves(count // step, settings.replicates, pair.draws("self_bleu", side))
        found = over_halves(orders, partial(_mean_score, ready, step))
        sides[side] = of_halves(float(ready.scores().mean()), found, count)
    note = "BLEU-4 of each row against the others, smoothed as NLTK's method 1; higher: more alike"
    return [measure(PART, "self_bleu", "Self-BLEU", "share", sides, note)], []


def _mean_score(ready: SelfBleu, step: int, half: Ints) -> float:
    return float(ready.scores(rows_of_instances(half, step)).mean())


def _their_sum(pair: Pair, rows: Mapping[str, Sequence[Row]]) -> Found:
    """The authors' "vocabulary": different tokens of each row, summed. It measures length times size."""
    tokens = _their_tokens()
    if tokens is None:
        why = "the authors' token sums need spaCy's English tokenizer. Run pip install -e '.[analysis]'"
        return Found(missing=(Missing(f"{PART}.authors", why),))
    counts = {
        side: {id(row): len(tokens(their_text(pair.task, row))) for row in own.rows} for side, own in pair.sets.items()
    }
    sums = {side: sum(counts[side][id(row)] for row in own) for side, own in rows.items()}
    sides = {side: Sampled(float(value), np.empty(0), len(rows[side])) for side, value in sums.items()}
    whole = {side: sum(own.values()) for side, own in counts.items()}
    published = paper().token_sums.tasks.get(pair.task.name, {})
    note = "the authors' measure: grows with length and size, says nothing of diversity"
    found = measure(PART, "authors_sum", "sum of distinct tokens per row", "tokens", sides, note, theirs=True)
    return Found((found,), {"authors_sum_of_all_rows": whole, "authors_sum_published": published})


def their_text(task: Task, row: Row) -> str:
    """A row as their input column has it, for the tasks of which the form is known."""
    view, names = task.view(row), THEIR_NAMES.get(task.name, {})
    fields = ["premise", "hypothesis"] if {"premise", "hypothesis"} <= set(task.row) else task.row
    return "\n".join(f"{names.get(name, name)}: {view[name]}" for name in fields)


@cache
def _their_tokens() -> Any:
    """text -> its different tokens that are no stop words, case kept, as spaCy's English tokenizer has them; None without spaCy."""
    try:
        import spacy
    except ImportError:
        return None
    tokenizer = spacy.blank("en").tokenizer

    def tokens(text: str) -> set[str]:
        return {token.text for token in tokenizer(text) if not token.is_stop}

    return tokens
