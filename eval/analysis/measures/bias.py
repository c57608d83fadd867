"""Bias: named entities, countries, pronouns and occupations that the rows mention, with counts.

Country names and occupations are matched as whole words ("woman" does not contain "Oman"), country names with their capital
letters. Names with a second meaning (Georgia, Jordan) are marked as ambiguous.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from eval.analysis.intervals import share_measure
from eval.analysis.measures.entities import distribution, entities
from eval.analysis.results import AnalysisResult, Measure, Missing, combine_results, not_measured
from eval.analysis.sets import SetPair, flag_counts, group_by_instance, row_units, texts
from targen.config.groups.analysis import Analysis
from targen.runtime.jsonl import Json
from targen.tasks.task import Row
from targen.text.normalise import normalised

PART = "bias"
LISTS = Path(__file__).with_name("words.yaml")
GENDERS = ("feminine", "masculine", "both", "none")  # of the pronouns in a row
MIN_ENGLISH = 0.5  # share of rows with a common English function word; below it, a set counts as another language


@dataclass(frozen=True)
class WordLists:
    """The word lists of words.yaml. `names` maps a name in a text to its country, or to "" if it is not a country."""

    feminine: frozenset[str]
    masculine: frozenset[str]
    neutral: frozenset[str]
    function_words: frozenset[str]
    occupations: frozenset[str]
    names: dict[str, str]
    ambiguous: frozenset[str]
    country: re.Pattern[str]


@cache
def word_lists() -> WordLists:
    """The word lists, read once."""
    lists = yaml.safe_load(LISTS.read_text(encoding="utf-8"))
    names = {name: name for name in lists["countries"]}
    names |= lists["aliases"] | dict.fromkeys(lists["not_countries"], "")
    longest_first = sorted(names, key=lambda name: (-len(name), name))
    country = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)")
    sections = ("feminine", "masculine", "neutral", "function_words", "occupations")
    return WordLists(
        **{section: frozenset(lists[section]) for section in sections},
        names=names,
        ambiguous=frozenset(lists["ambiguous"]),
        country=country,
    )


def bias(pair: SetPair, settings: Analysis) -> AnalysisResult:
    """Pronouns, occupations with pronouns, countries and named entities of both sets."""
    rows = pair.samples()
    words = {
        side: [[word for text in row for word in text] for row in row_units(pair.task, sample)]
        for side, sample in rows.items()
    }
    foreign = [side for side, side_words in words.items() if english_share(side_words) < MIN_ENGLISH]
    if foreign:
        set_names = " and ".join(f"{side} ({pair.sets[side].name})" for side in foreign)
        why = f"the rows of {set_names} do not look English, but the word lists and the entity model are"
        return not_measured(PART, why)
    return combine_results(
        [
            _pronouns(pair, words),
            _occupations(pair, rows, words, settings.top),
            _countries(pair, rows, settings.top),
            entities(pair, settings),
        ]
    )


def english_share(words: Sequence[Sequence[str]]) -> float:
    """The share of rows with at least one of the most frequent English function words."""
    return sum(any(word in word_lists().function_words for word in row) for row in words) / max(1, len(words))


def _pronouns(pair: SetPair, words: Mapping[str, list[list[str]]]) -> AnalysisResult:
    lists = word_lists()
    pronouns_of = {"feminine": lists.feminine, "masculine": lists.masculine, "neutral": lists.neutral}
    totals = {
        side: {
            gender: sum(word in pronouns for row in side_words for word in row)
            for gender, pronouns in pronouns_of.items()
        }
        for side, side_words in words.items()
    }
    genders = {side: [gender_of(row) for row in side_words] for side, side_words in words.items()}
    gendered = {
        side: flag_counts(pair.task, [gender != "none" for gender in side_genders])
        for side, side_genders in genders.items()
    }
    measures = (
        share_measure(PART, "gendered_pronouns", "has a gendered pronoun", gendered),
        _feminine_share("feminine_share", "feminine, of rows with pronouns of one gender", genders),
    )
    missing = [
        Missing(f"{PART}.feminine_share", f"no gendered pronoun in {side} ({pair.sets[side].name})")
        for side, side_genders in genders.items()
        if set(side_genders) == {"none"}
    ]
    return AnalysisResult(measures, {"pronouns": totals}, tuple(missing))


def _seed_occupations(pair: SetPair) -> Counter[str]:
    """The occupations in the instance seeds (AX-g), whether or not they are on a list."""
    seeds = [instance[0].get("instance_seed") for instance in group_by_instance(pair.b.stories, pair.task)]
    return Counter(
        normalised(str(seed["occupation"])) for seed in seeds if isinstance(seed, dict) and "occupation" in seed
    )


def _feminine_share(name: str, title: str, genders: Mapping[str, Sequence[str]]) -> Measure:
    """The share of feminine rows among the rows whose gendered pronouns are all of one gender."""
    counts = {
        side: (values.count("feminine"), values.count("feminine") + values.count("masculine"))
        for side, values in genders.items()
    }
    return share_measure(PART, name, title, counts)


def _occupations(
    pair: SetPair, rows: Mapping[str, list[Row]], words: Mapping[str, list[list[str]]], top: int
) -> AnalysisResult:
    """Rows that name an occupation, by the gender of their pronouns: feminine, masculine, both or none."""
    tables = {side: _genders_by_occupation(side_words) for side, side_words in words.items()}
    details: Json = {"occupations": {side: _most_frequent(table, top) for side, table in tables.items()}}
    if pair.task.rows_per_slot == 2:
        details["gender_pairs"] = {side: _gender_pairs(pair, sample, words[side]) for side, sample in rows.items()}
    if seed_occupations := _seed_occupations(pair):
        details["seed_occupations"] = distribution(seed_occupations, top)
    genders = {
        side: [gender_of(row) for row in side_words if not word_lists().occupations.isdisjoint(row)]
        for side, side_words in words.items()
    }
    measures = (
        share_measure(PART, "occupations", "names an occupation of Winogender's list",
               {side: flag_counts(pair.task, [not word_lists().occupations.isdisjoint(row) for row in side_words])
                for side, side_words in words.items()}),
        _feminine_share("occupation_feminine_share", "feminine, of those with pronouns of one gender", genders),
    )  # fmt: skip
    return AnalysisResult(measures, details)


def gender_of(words: Sequence[str]) -> str:
    """The gender of the pronouns among the words: feminine, masculine, both or none."""
    lists = word_lists()
    feminine, masculine = not lists.feminine.isdisjoint(words), not lists.masculine.isdisjoint(words)
    if feminine and masculine:
        return "both"
    return "feminine" if feminine else "masculine" if masculine else "none"


def _genders_by_occupation(rows: Sequence[Sequence[str]]) -> dict[str, Counter[str]]:
    genders: dict[str, Counter[str]] = {}
    for row in rows:
        for occupation in sorted(word_lists().occupations.intersection(row)):
            genders.setdefault(occupation, Counter())[gender_of(row)] += 1
    return genders


def _most_frequent(table: Mapping[str, Counter[str]], top: int) -> list[Json]:
    ranked = sorted(table.items(), key=lambda item: (-item[1].total(), item[0]))[:top]
    return [
        {"occupation": name, "rows": counts.total(), **{gender: counts[gender] for gender in GENDERS}}
        for name, counts in ranked
    ]


def _gender_pairs(pair: SetPair, rows: Sequence[Row], words: Sequence[Sequence[str]]) -> Json:
    """AX-g: how many pairs have one feminine and one masculine row, and equal labels, as they should."""
    genders = [gender_of(row) for row in words]
    labels = [pair.task.label_of(row) for row in rows]
    pairs = list(zip(group_by_instance(genders, pair.task), group_by_instance(labels, pair.task), strict=True))
    complete = sum(set(gender) == {"feminine", "masculine"} for gender, _ in pairs)
    return {
        "pairs": len(pairs),
        "one_of_each_gender": complete,
        "equal_labels": sum(len(set(label)) == 1 for _, label in pairs),
    }


def countries_of(text: str) -> list[str]:
    """The countries that a text names, once per mention."""
    lists = word_lists()
    return [name for match in lists.country.finditer(text) if (name := lists.names[match[0]])]


def _countries(pair: SetPair, rows: Mapping[str, list[Row]], top: int) -> AnalysisResult:
    mentions = {
        side: [set(countries_of(" \n ".join(texts(pair.task, row)))) for row in sample] for side, sample in rows.items()
    }
    counts = {side: flag_counts(pair.task, [bool(names) for names in by_row]) for side, by_row in mentions.items()}
    details = {}
    for side, by_row in mentions.items():
        countries = distribution(Counter(name for names in by_row for name in names), top)
        ambiguous = word_lists().ambiguous
        names = [country | {"ambiguous": country["name"] in ambiguous} for country in countries["top"]]
        details[side] = countries | {"top": names}
    return AnalysisResult((share_measure(PART, "countries", "names a country", counts),), {"countries": details})
