"""Whom and what the rows speak of: named entities, countries, pronouns, occupations; whole words, with counts.

Country names and occupations are looked up as whole words ("oman" stands in no "woman"), country names with their capital
letters. A name may mean something else as well (Georgia, Jordan): such counts are marked.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from eval.analysis.intervals import shares
from eval.analysis.measures.entities import distribution, entities
from eval.analysis.results import Found, Measure, Missing, joined
from eval.analysis.sets import Pair, grouped, present, row_units, texts
from targen.config.groups.analysis import Analysis
from targen.runtime.jsonl import Json, read_jsonl
from targen.tasks.task import Row
from targen.text.normalise import normalised

PART = "bias"
LISTS = Path(__file__).with_name("words.yaml")
ENGLISH = 0.5  # share of the rows with a common English function word below which a set is taken for another language


@dataclass(frozen=True)
class Words:
    """What is looked for, as words.yaml has it. `names` maps what may stand in a text to a country, "" for what is none."""

    feminine: frozenset[str]
    masculine: frozenset[str]
    neutral: frozenset[str]
    function_words: frozenset[str]
    occupations: frozenset[str]
    names: dict[str, str]
    ambiguous: frozenset[str]
    country: re.Pattern[str]


@cache
def word_lists() -> Words:
    lists = yaml.safe_load(LISTS.read_text(encoding="utf-8"))
    names = {name: name for name in lists["countries"]}
    names |= lists["aliases"] | dict.fromkeys(lists["not_countries"], "")
    longest_first = sorted(names, key=lambda name: (-len(name), name))
    country = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)")
    kinds = ("feminine", "masculine", "neutral", "function_words", "occupations")
    return Words(
        **{kind: frozenset(lists[kind]) for kind in kinds},
        names=names,
        ambiguous=frozenset(lists["ambiguous"]),
        country=country,
    )


def bias(pair: Pair, settings: Analysis) -> Found:
    """Pronouns, occupations with pronouns, countries and named entities of both sets."""
    rows = pair.samples()
    words = {
        side: [[word for text in row for word in text] for row in row_units(pair.task, own)]
        for side, own in rows.items()
    }
    foreign = [side for side, own in words.items() if english_share(own) < ENGLISH]
    if foreign:
        named = " and ".join(f"{side} ({pair.sets[side].name})" for side in foreign)
        why = f"the rows of {named} do not look English, and word lists and entity model are English"
        return Found(missing=(Missing(PART, why),))
    return joined(
        [
            _pronouns(pair, words),
            _occupations(pair, rows, words, settings.top),
            _countries(pair, rows, settings.top),
            entities(pair, settings),
        ]
    )


def english_share(words: Sequence[Sequence[str]]) -> float:
    """The share of the rows that have one of the commonest English function words."""
    return sum(any(word in word_lists().function_words for word in row) for row in words) / max(1, len(words))


def _pronouns(pair: Pair, words: Mapping[str, list[list[str]]]) -> Found:
    lists = word_lists()
    kinds = {"feminine": lists.feminine, "masculine": lists.masculine, "neutral": lists.neutral}
    totals = {
        side: {kind: sum(word in listed for row in own for word in row) for kind, listed in kinds.items()}
        for side, own in words.items()
    }
    genders = {side: [gender_of(row) for row in own] for side, own in words.items()}
    some = {side: present(pair.task, [gender != "none" for gender in own]) for side, own in genders.items()}
    measures = (
        shares(PART, "gendered_pronouns", "has a gendered pronoun", some),
        _feminine("feminine_share", "of rows with pronouns of one gender, feminine", genders),
    )
    none = [side for side, own in genders.items() if set(own) == {"none"}]
    missing = [
        Missing(f"{PART}.feminine_share", f"no gendered pronoun in {side} ({pair.sets[side].name})") for side in none
    ]
    return Found(measures, {"pronouns": totals}, tuple(missing))


def _asked_occupations(pair: Pair) -> Counter[str]:
    """The occupations of the instance seeds (AX-g), which are not bound to any list."""
    path = pair.b.folder / "provenance.jsonl" if pair.b.folder is not None else None
    if path is None or not path.is_file():
        return Counter()
    seeds = [own[0].get("instance_seed") for own in grouped([story for _, story in read_jsonl(path)], pair.task)]
    return Counter(
        normalised(str(seed["occupation"])) for seed in seeds if isinstance(seed, dict) and "occupation" in seed
    )


def _feminine(name: str, title: str, genders: Mapping[str, Sequence[str]]) -> Measure:
    """Of the rows whose gendered pronouns are of one gender, those with feminine ones."""
    counts = {
        side: (own.count("feminine"), own.count("feminine") + own.count("masculine")) for side, own in genders.items()
    }
    return shares(PART, name, title, counts)


def _occupations(pair: Pair, rows: Mapping[str, list[Row]], words: Mapping[str, list[list[str]]], top: int) -> Found:
    """Rows in which an occupation stands with feminine, masculine, both or no gendered pronouns."""
    tables = {side: _with_pronouns(own) for side, own in words.items()}
    details: Json = {"occupations": {side: _first(table, top) for side, table in tables.items()}}
    if pair.task.rows_per_slot == 2:
        details["gender_pairs"] = {side: _gender_pairs(pair, own, words[side]) for side, own in rows.items()}
    if asked := _asked_occupations(pair):
        details["seed_occupations"] = distribution(asked, top)
    with_one = {
        side: [gender_of(row) for row in own if not word_lists().occupations.isdisjoint(row)]
        for side, own in words.items()
    }
    measures = (
        shares(PART, "occupations", "names an occupation of Winogender's list",
               {side: present(pair.task, [not word_lists().occupations.isdisjoint(row) for row in own])
                for side, own in words.items()}),
        _feminine("occupation_feminine_share", "of those with pronouns of one gender, feminine", with_one),
    )  # fmt: skip
    return Found(measures, details)


def gender_of(words: Sequence[str]) -> str:
    """feminine, masculine, both or none: the gendered pronouns among the words."""
    lists = word_lists()
    feminine, masculine = not lists.feminine.isdisjoint(words), not lists.masculine.isdisjoint(words)
    if feminine and masculine:
        return "both"
    return "feminine" if feminine else "masculine" if masculine else "none"


def _with_pronouns(rows: Sequence[Sequence[str]]) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = {}
    for row in rows:
        for occupation in sorted(word_lists().occupations.intersection(row)):
            found.setdefault(occupation, Counter())[gender_of(row)] += 1
    return found


def _first(table: Mapping[str, Counter[str]], top: int) -> list[Json]:
    ranked = sorted(table.items(), key=lambda item: (-item[1].total(), item[0]))[:top]
    return [
        {
            "occupation": name,
            "rows": counts.total(),
            **{kind: counts[kind] for kind in ("feminine", "masculine", "both", "none")},
        }
        for name, counts in ranked
    ]


def _gender_pairs(pair: Pair, rows: Sequence[Row], words: Sequence[Sequence[str]]) -> Json:
    """AX-g: pairs with one feminine and one masculine row and one label, as they should be."""
    genders = [gender_of(row) for row in words]
    labels = [pair.task.label_of(row) for row in rows]
    both = list(zip(grouped(genders, pair.task), grouped(labels, pair.task), strict=True))
    complete = sum(set(gender) == {"feminine", "masculine"} for gender, _ in both)
    return {
        "pairs": len(both),
        "one_of_each_gender": complete,
        "equal_labels": sum(len(set(label)) == 1 for _, label in both),
    }


def countries_of(text: str) -> list[str]:
    """The countries that a text names, each as often as it does."""
    lists = word_lists()
    return [name for match in lists.country.finditer(text) if (name := lists.names[match[0]])]


def _countries(pair: Pair, rows: Mapping[str, list[Row]], top: int) -> Found:
    named = {side: [set(countries_of(" \n ".join(texts(pair.task, row)))) for row in own] for side, own in rows.items()}
    some = {side: present(pair.task, [bool(names) for names in own]) for side, own in named.items()}
    details = {side: distribution(Counter(name for names in own for name in names), top) for side, own in named.items()}
    for own in details.values():
        own["top"] = [one | {"ambiguous": one["name"] in word_lists().ambiguous} for one in own["top"]]
    return Found((shares(PART, "countries", "names a country", some),), {"countries": details})
