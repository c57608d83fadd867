"""Lexical diversity: vocabulary, distinct n-grams and MTLD at equal numbers of words, Self-BLEU at equal numbers of rows.

A longer text has more distinct words, whatever its diversity. So the set with more words is cut to as many as the other
has. N-grams never cross the end of a text.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any

import numpy as np

from eval.analysis.intervals import Estimate, estimate_from_halves, half_samples, measure, ratio, values_of_halves
from eval.analysis.measures.ngrams import Corpus, Ints, corpus, grams, positions, rows_of_instances
from eval.analysis.measures.self_bleu import SelfBleu
from eval.analysis.results import AnalysisResult, Measure, Missing, combine_results, not_measured
from eval.analysis.sets import SetPair, group_by_instance, row_units
from eval.tables.published import paper
from targen.config.groups.analysis import Analysis
from targen.tasks.task import Row, Task

PART = "lexical"
ORDERS = (1, 2, 3)
MTLD_THRESHOLD = 0.72
MTLD_WORDS = 100_000  # per set at most: MTLD is a mean over short stretches, and more of them take long
Compute = Callable[[Ints, int], dict[str, float]]  # position of each word, words to count -> measures by name
BASES = {
    "distinct_2": 1.0,
    "distinct_3": 1.0,
}  # of an empty set, which repeats no n-gram; repetitions grow with the set


def lexical(pair: SetPair, settings: Analysis) -> AnalysisResult:
    """Length and lexical diversity of both sets."""
    rows = pair.samples()
    words = {side: row_units(pair.task, sample) for side, sample in rows.items()}
    corpora = {side: corpus(row_words) for side, row_words in words.items()}
    budget = min(len(side_corpus.ids) for side_corpus in corpora.values())
    measures = [_length(pair, corpora)]
    missing: list[Missing] = []
    if budget == 0:
        missing.append(Missing(f"{PART}.diversity", "no words in the texts of a set"))
    else:
        measures += _at_equal_words(pair, settings, corpora, budget)
    details = {"words": {side: len(side_corpus.ids) for side, side_corpus in corpora.items()}, "words_compared": budget}
    diversity = AnalysisResult(tuple(measures), details, tuple(missing))
    return combine_results([diversity, _self_bleu(pair, settings, words), _authors_sum(pair, rows)])


def _length(pair: SetPair, corpora: Mapping[str, Corpus]) -> Measure:
    step = pair.task.rows_per_slot
    sides = {}
    for side, side_corpus in corpora.items():
        lengths = group_by_instance(side_corpus.lengths.tolist(), pair.task)
        per_instance = np.array([sum(instance) for instance in lengths], dtype=np.float64)
        sides[side] = ratio(per_instance, np.full(len(per_instance), float(step)), pair.draws("length", side))
    return measure(PART, "words_per_row", "words per row", "words", sides)


def _at_equal_words(pair: SetPair, settings: Analysis, corpora: Mapping[str, Corpus], budget: int) -> list[Measure]:
    step, estimates = pair.task.rows_per_slot, dict[str, dict[str, Estimate]]()
    for side, words in corpora.items():
        orders = half_samples(len(words.lengths) // step, settings.replicates, pair.draws("words", side))
        side_estimates = _estimates(words, step, budget, orders, _distinct_counter(words))
        side_estimates |= _estimates(words, step, min(budget, MTLD_WORDS), orders, partial(_mtld_of_first, words))
        for name, estimate in side_estimates.items():
            estimates.setdefault(name, {})[side] = estimate
    titles = {
        "vocabulary": ("distinct words", "words"),
        **{f"distinct_{n}": (f"distinct-{n}", "share") for n in ORDERS},
        "mtld": ("MTLD", "words"),
    }
    return [measure(PART, name, *titles[name], sides, "at equal numbers of words") for name, sides in estimates.items()]


def _estimates(words: Corpus, group: int, budget: int, orders: Sequence[Ints], compute: Compute) -> dict[str, Estimate]:
    """The measures of the first `budget` words, and those of half as many in each order."""
    in_order = positions(words, np.arange(len(words.lengths) // group), group)
    # halves are drawn from the instances that have one of the first `budget` words
    used = int(words.row[in_order < budget].max(initial=0)) // group + 1
    half_values = [compute(positions(words, order[order < used], group), budget // 2) for order in orders if budget > 1]
    return {
        name: estimate_from_halves(value, [half[name] for half in half_values], budget, BASES.get(name, 0.0))
        for name, value in compute(in_order, budget).items()
    }


def _distinct_counter(words: Corpus) -> Compute:
    """Computes the vocabulary and distinct-n of the words at positions 0 ... count - 1."""
    ngrams = {n: grams(words.ids, words.text, n, words.types) for n in ORDERS}
    sizes = {n: int(ids.max(initial=-1)) + 1 for n, (_, ids) in ngrams.items()}

    def compute(position: Ints, count: int) -> dict[str, float]:
        inside = (position >= 0) & (position < count)
        values: dict[str, float] = {}
        for n, (first, gram) in ngrams.items():
            counted = gram[inside[first] & (position[first] + n - 1 < count)]
            seen = np.zeros(sizes[n], dtype=bool)
            seen[counted] = True
            if n == 1:
                values["vocabulary"] = float(seen.sum())
            values[f"distinct_{n}"] = float(seen.sum() / max(1, len(counted)))
        return values

    return compute


def _mtld_of_first(words: Corpus, position: Ints, count: int) -> dict[str, float]:
    """MTLD of the words at positions 0 ... count - 1."""
    inside = (position >= 0) & (position < count)
    text = np.zeros(int(inside.sum()), dtype=np.int64)
    text[position[inside]] = words.ids[inside]
    return {"mtld": mtld(text.tolist())}


def mtld(words: Sequence[int] | Sequence[str], threshold: float = MTLD_THRESHOLD) -> float:
    """Mean length in words of the stretches in which the type-token ratio falls to the threshold, forwards and backwards.

    The words after the last full stretch count as a partial one, in proportion to how far their ratio has fallen. If no
    word is repeated, the number of words. Source: P. M. McCarthy and S. Jarvis, Behavior Research Methods 42 (2010).
    """
    return (_mean_stretch(words, threshold) + _mean_stretch(words[::-1], threshold)) / 2 if words else 0.0


def _mean_stretch(words: Sequence[Any], threshold: float) -> float:
    seen: set[Any] = set()
    factors, start, position = 0.0, 0, 0
    for position, word in enumerate(words, start=1):
        if word not in seen:  # the ratio does not fall
            seen.add(word)
        elif len(seen) / (position - start) <= threshold:
            factors, start = factors + 1, position
            seen = set()
    if position > start:
        factors += (1 - len(seen) / (position - start)) / (1 - threshold)
    return position / factors if factors else float(position)


def _self_bleu(pair: SetPair, settings: Analysis, words: Mapping[str, list[list[list[str]]]]) -> AnalysisResult:
    """Self-BLEU of the rows; the texts of a row count as one."""
    step = pair.task.rows_per_slot
    count = min(settings.self_bleu_rows, pair.size) // step * step
    if count < 2:
        return not_measured(f"{PART}.self_bleu", f"{count} rows in a set, expected at least 2")
    sides = {}
    for side, row_words in words.items():
        self_bleu = SelfBleu([[word for text in row for word in text] for row in row_words[:count]])
        orders = half_samples(count // step, settings.replicates, pair.draws("self_bleu", side))
        half_values = values_of_halves(orders, partial(_mean_score, self_bleu, step))
        sides[side] = estimate_from_halves(float(self_bleu.scores().mean()), half_values, count)
    note = "BLEU-4 of each row against the others, smoothed as NLTK's method 1; higher: more similar"
    return AnalysisResult((measure(PART, "self_bleu", "Self-BLEU", "share", sides, note),))


def _mean_score(self_bleu: SelfBleu, step: int, half: Ints) -> float:
    return float(self_bleu.scores(rows_of_instances(half, step)).mean())


def _authors_sum(pair: SetPair, rows: Mapping[str, Sequence[Row]]) -> AnalysisResult:
    """The authors' "vocabulary": the number of distinct tokens of each row, summed. It measures length times size.

    Only of the tasks for which they published it.
    """
    published = paper().token_sums.tasks.get(pair.task.name)
    if published is None:
        return AnalysisResult()
    tokens = _authors_tokens()
    if tokens is None:
        why = "the authors' token sums need spaCy's English tokenizer. Run pip install -e '.[analysis]'"
        return not_measured(f"{PART}.authors", why)
    counts = {
        side: {id(row): len(tokens(authors_text(pair.task, row))) for row in data_set.rows}
        for side, data_set in pair.sets.items()
    }
    sums = {side: sum(counts[side][id(row)] for row in sample) for side, sample in rows.items()}
    sides = {side: Estimate(float(value), np.empty(0), len(rows[side])) for side, value in sums.items()}
    all_row_sums = {side: sum(by_row.values()) for side, by_row in counts.items()}
    note = "the authors' measure: it grows with length and size and does not measure diversity"
    authors_sum = measure(PART, "authors_sum", "sum of distinct tokens per row", "tokens", sides, note, theirs=True)
    return AnalysisResult((authors_sum,), {"authors_sum_of_all_rows": all_row_sums, "authors_sum_published": published})


def authors_text(task: Task, row: Row) -> str:
    """A row as in the authors' input column; known to be exact for CB and RTE, assumed for the other tasks."""
    view, names = task.view(row), paper().token_sums.fields.get(task.name, {})
    fields = ["premise", "hypothesis"] if {"premise", "hypothesis"} <= set(task.row) else task.row
    return "\n".join(f"{names.get(name, name)}: {view[name]}" for name in fields)


@cache
def _authors_tokens() -> Any:
    """A function from a text to its distinct tokens except stop words, by spaCy's English tokenizer; None without spaCy."""
    try:
        import spacy
    except ImportError:
        return None
    tokenizer = spacy.blank("en").tokenizer

    def tokens(text: str) -> set[str]:
        return {token.text for token in tokenizer(text) if not token.is_stop}

    return tokens
