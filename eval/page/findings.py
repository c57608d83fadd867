"""What `python -m eval.analyze` found, for the page: measures by part, what is missing, and small tables of its details."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from eval.analysis.results import SIDES, Interval
from eval.analysis.summary import shown
from targen.runtime.jsonl import Json

LISTED = 5  # rows of each kind
TITLES = {
    "lexical": "Lexical diversity",
    "semantic": "Semantic diversity",
    "difficulty": "Difficulty",
    "bias": "Bias",
    "correctness": "Correctness",
    "contamination": "Contamination",
}


@dataclass(frozen=True)
class Measured:
    """A measure as text; `differs` where the interval of the difference leaves out 0."""

    title: str
    unit: str
    a: str
    b: str
    difference: str
    differs: bool
    on: str
    note: str
    theirs: bool


@dataclass(frozen=True)
class Listing:
    """A small table of details: texts, some of which models wrote."""

    title: str
    header: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Findings:
    """What was found in the data of a task. `parts` by their titles; `names` are those of the two sets."""

    task: str
    names: tuple[str, str]
    about: tuple[str, ...]
    parts: dict[str, tuple[Measured, ...]]
    listings: tuple[Listing, ...]


def findings(analysis: Json) -> Findings:
    """For the page, what an analysis/<task>.json has."""
    sets, details = analysis["sets"], analysis["details"]
    parts: dict[str, list[Measured]] = {}
    for one in analysis["measures"]:
        parts.setdefault(TITLES.get(one["part"], one["part"]), []).append(_measured(one))
    names = tuple(sets[side]["name"] if side in sets else "--" for side in SIDES)
    about = [f"{own['name']}: {own['origin']}, {own['rows']} rows" for own in sets.values()]
    about.append(f"{analysis['size']} rows of each are looked at; intervals of {analysis['level']:.0%}")
    listings = [one for make in LISTINGS for one in make(details, dict(zip(SIDES, names, strict=True))) if one.lines]
    return Findings(
        task=analysis["title"],
        names=(names[0], names[1]),
        about=tuple(about),
        parts={title: tuple(own) for title, own in parts.items()},
        listings=tuple(listings),
    )


def not_found(analyses: Sequence[Json]) -> dict[str, list[str]]:
    """What the analyses could not look at, and the tasks of which each line says it."""
    lines: dict[str, list[str]] = {}
    for analysis in analyses:
        for one in analysis["missing"]:
            lines.setdefault(f"{one['part']}: {one['why']}", []).append(analysis["title"])
    return lines


def _measured(one: Json) -> Measured:
    a, b, difference = (_interval(one[name]) for name in ("a", "b", "difference"))
    bounds = (difference.low, difference.high) if difference is not None else (None, None)
    sizes = dict.fromkeys(str(size) for size in one["size"].values())
    return Measured(
        title=one["title"],
        unit="" if one["unit"] == "share" else one["unit"],
        a=shown(a),
        b=shown(b),
        difference=shown(difference, sign=True),
        differs=bounds[0] is not None and bounds[1] is not None and (bounds[0] > 0 or bounds[1] < 0),
        on="/".join(sizes),
        note=one["note"],
        theirs=one["theirs"],
    )


def _interval(values: Json | None) -> Interval | None:
    return None if values is None or values["value"] is None else Interval(**values)


Names = Mapping[str, str]


def _hardest(details: Json, names: Names) -> Iterator[Listing]:
    for side, name in names.items():
        own = details.get("pvi", {}).get(side, {})
        for kind in ("hardest", "easiest"):
            lines = [(f"{one['pvi']:.2f}", *_label_and_texts(one)) for one in own.get(kind, [])[:LISTED]]
            yield Listing(f"The {kind} rows, {name}", ("PVI, bits", "label", "row"), tuple(lines))


def _pairs(details: Json, names: Names) -> Iterator[Listing]:
    for side, name in names.items():
        found = [one for one in details.get("pairs", []) if one["side"] == side][:LISTED]
        lines = [
            (
                f"{one['split']}, {one['how']}" + (f", {one['similarity']:.2f}" if one["similarity"] else ""),
                _texts(one["row"]),
                one["run"] or _texts(one["original"]),
            )
            for one in found
        ]
        yield Listing(f"Rows that repeat the original, {name}", ("how", "row", "what it repeats"), tuple(lines))


def _disagreements(details: Json, names: Names) -> Iterator[Listing]:
    for key, own in details.items():
        if key.startswith("agreement "):
            found = own["disagreements"][:LISTED]
            lines = [(one["said"], f"{one['confidence']:.2f}", *_label_and_texts(one)) for one in found]
            title = f"Where {key.removeprefix('agreement ')} says otherwise"
            yield Listing(title, ("it says", "probability", "label", "row"), tuple(lines))


def _countries(details: Json, names: Names) -> Iterator[Listing]:
    yield _side_by_side("Countries", details.get("countries", {}), names)


def _entities(details: Json, names: Names) -> Iterator[Listing]:
    found = details.get("entities", {})
    kinds = dict.fromkeys(kind for side in names for kind in found.get(side, {}))
    for kind in kinds:
        yield _side_by_side(f"Entities: {kind}", {side: found.get(side, {}).get(kind, {}) for side in names}, names)


def _side_by_side(title: str, found: Json, names: Names) -> Listing:
    columns = [[_counted(one) for one in found.get(side, {}).get("top", [])[: 2 * LISTED]] for side in names]
    return Listing(title, tuple(names.values()), tuple(zip_longest(*columns, fillvalue="")))


def _counted(one: Json) -> str:
    return f"{one['count']} × {one['name']}" + (" (ambiguous)" if one.get("ambiguous") else "")


def _occupations(details: Json, names: Names) -> Iterator[Listing]:
    kinds = ("feminine", "masculine", "both", "none")
    for side, name in names.items():
        found = details.get("occupations", {}).get(side, [])[:LISTED]
        lines = [(one["occupation"], str(one["rows"]), *(str(one[kind]) for kind in kinds)) for one in found]
        yield Listing(f"Occupations and pronouns beside them, {name}", ("occupation", "rows", *kinds), tuple(lines))


def _authors_sums(details: Json, names: Names) -> Iterator[Listing]:
    """Their measure of the whole sets, which is what they published."""
    if (own := details.get("authors_sum_of_all_rows")) is not None:
        published = details["authors_sum_published"]
        here = ("here, all rows", *(str(own.get(side, "--")) for side in names))
        theirs = ("published", *(str(published.get(which, "--")) for which in ("original", "synthetic")))
        yield Listing("The authors' sums of distinct tokens per row", ("", "original", "synthetic"), (here, theirs))


def _human(details: Json, names: Names) -> Iterator[Listing]:
    if (human := details.get("human")) is not None:
        share = shown(Interval(human["value"], human["low"], human["high"]))
        yield Listing("People", ("agree with", "of", "share"), ((str(human["agree"]), str(human["judged"]), share),))


LISTINGS: tuple[Callable[[Json, Names], Iterator[Listing]], ...] = (
    _hardest,
    _authors_sums,
    _countries,
    _entities,
    _occupations,
    _human,
    _disagreements,
    _pairs,
)


def _label_and_texts(one: Json) -> tuple[str, str]:
    return str(one.get("label", "")), _texts(one)


def _texts(one: Json) -> str:
    return "\n".join(f"{name}: {text}" for name, text in one.get("texts", {}).items())
