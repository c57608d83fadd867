"""The results of `python -m eval.analyze` for the page: measures by part, what is missing, and small tables of details."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from eval.analysis.measures.bias import GENDERS
from eval.analysis.results import SHARE, SIDES, Interval
from eval.analysis.summary import cue_text, number_text
from targen.config.groups.analysis import ANALYSIS_PARTS
from targen.runtime.jsonl import Json

MAX_ROWS = 5  # of each listing


@dataclass(frozen=True)
class Listing:
    """A small table of details; some of its texts were written by models."""

    title: str
    header: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Findings:
    """The analysis of a task. `parts`: its measures as in analysis/<task>.json, by the title of their part; `names` of both sets."""

    task: str
    names: tuple[str, str]
    about: tuple[str, ...]
    parts: dict[str, list[Json]]
    listings: tuple[Listing, ...]


def findings(analysis: Json) -> Findings:
    """The contents of an analysis/<task>.json for the page."""
    sets, details = analysis["sets"], analysis["details"]
    parts: dict[str, list[Json]] = {}
    for measure in analysis["measures"]:
        parts.setdefault(ANALYSIS_PARTS.get(measure["part"], measure["part"]), []).append(measure)
    names = tuple(sets[side]["name"] if side in sets else "--" for side in SIDES)
    about = [f"{data_set['name']}: {data_set['origin']}, {data_set['rows']} rows" for data_set in sets.values()]
    about.append(f"{analysis['size']} rows of each are analysed; {analysis['level']:.0%} intervals")
    name_of = dict(zip(SIDES, names, strict=True))
    listings = [listing for make in LISTINGS for listing in make(details, name_of) if listing.lines]
    return Findings(
        task=analysis["title"],
        names=(names[0], names[1]),
        about=tuple(about),
        parts=parts,
        listings=tuple(listings),
    )


def not_measured(analyses: Sequence[Json]) -> dict[str, list[str]]:
    """What could not be measured and why, with the tasks that it concerns."""
    lines: dict[str, list[str]] = {}
    for analysis in analyses:
        for missing in analysis["missing"]:
            lines.setdefault(f"{missing['part']}: {missing['why']}", []).append(analysis["title"])
    return lines


def interval_text(values: Json | None, unit: str, sign: bool = False) -> str:
    """A number of a measure and its bounds, as the page shows them."""
    interval = None if values is None or values["value"] is None else Interval(**values)
    return number_text(interval, unit, sign)


Names = Mapping[str, str]


def _extreme_rows(details: Json, names: Names) -> Iterator[Listing]:
    for side, name in names.items():
        pvi = details.get("pvi", {}).get(side, {})
        for extreme in ("hardest", "easiest"):
            lines = [(f"{row['pvi']:.2f}", *_label_and_texts(row)) for row in pvi.get(extreme, [])[:MAX_ROWS]]
            yield Listing(f"The {extreme} rows, {name}", ("PVI, bits", "label", "row"), tuple(lines))


def _clusters(details: Json, names: Names) -> Iterator[Listing]:
    clusters = details.get("clusters", {})
    for kind, criteria in clusters.get("criteria", {}).items():
        lines = tuple((criterion["name"], criterion["description"]) for criterion in criteria)
        yield Listing(f"By what the generator tells the texts apart: {kind}", (kind, "meaning"), lines)
    for side, name in names.items():
        for draw in clusters.get(side, [])[:1]:
            groups = tuple((str(len(group["idx"])), group["name"], group["reason"]) for group in draw["clusters"])
            yield Listing(f"The clusters of the first draw, {name}", ("rows", "cluster", "what they share"), groups)


def _opinions(details: Json, names: Names) -> Iterator[Listing]:
    for side, name in names.items():
        rated = details.get("subjectivity", {}).get(side, {}).get("most", [])[:MAX_ROWS]
        lines = tuple((str(row["rating"]), row["reason"], *_label_and_texts(row)) for row in rated)
        yield Listing(
            f"Rows whose label is most a matter of opinion, {name}", ("rating", "reason", "label", "row"), lines
        )


def _pairs(details: Json, names: Names) -> Iterator[Listing]:
    for side, name in names.items():
        pairs = [pair for pair in details.get("pairs", []) if pair["side"] == side][:MAX_ROWS]
        lines = [
            (
                f"{pair['split']}, {pair['how']}" + (f", {pair['similarity']:.2f}" if pair["similarity"] else ""),
                _texts(pair["row"]),
                pair["run"] or _texts(pair["original"]),
            )
            for pair in pairs
        ]
        yield Listing(f"Rows that repeat the original, {name}", ("how", "row", "what it repeats"), tuple(lines))


def _disagreements(details: Json, names: Names) -> Iterator[Listing]:
    for key, agreement in details.items():
        if key.startswith("agreement "):
            rows = agreement["disagreements"][:MAX_ROWS]
            lines = [(row["said"], f"{row['confidence']:.0%}", *_label_and_texts(row)) for row in rows]
            title = f"Rows on which {key.removeprefix('agreement ')} disagrees with the label"
            yield Listing(title, ("prediction", "probability", "label", "row"), tuple(lines))


def _countries(details: Json, names: Names) -> Iterator[Listing]:
    yield _side_by_side("Countries", details.get("countries", {}), names)


def _entities(details: Json, names: Names) -> Iterator[Listing]:
    for label, distributions in details.get("entities", {}).items():
        if label != "model":  # the name of the model that found them
            yield _side_by_side(f"Entities: {label}", distributions, names)


def _side_by_side(title: str, distributions: Json, names: Names) -> Listing:
    columns = [
        [_count_text(name) for name in distributions.get(side, {}).get("top", [])[: 2 * MAX_ROWS]] for side in names
    ]
    return Listing(title, tuple(names.values()), tuple(zip_longest(*columns, fillvalue="")))


def _count_text(name: Json) -> str:
    return f"{name['count']} × {name['name']}" + (" (ambiguous)" if name.get("ambiguous") else "")


def _occupations(details: Json, names: Names) -> Iterator[Listing]:
    for side, name in names.items():
        occupations = details.get("occupations", {}).get(side, [])[:MAX_ROWS]
        lines = [
            (row["occupation"], str(row["rows"]), *(str(row[gender]) for gender in GENDERS)) for row in occupations
        ]
        yield Listing(
            f"Occupations and the gender of pronouns in the same row, {name}",
            ("occupation", "rows", *GENDERS),
            tuple(lines),
        )


def _authors_sums(details: Json, names: Names) -> Iterator[Listing]:
    """The paper's own measure of whole sets, as published."""
    if (sums := details.get("authors_sum_of_all_rows")) is not None:
        published = details["authors_sum_published"]
        run_line = ("this run, all rows", *(str(sums.get(side, "--")) for side in names))
        published_line = ("published", *(str(published.get(source, "--")) for source in ("original", "synthetic")))
        yield Listing(
            "The paper's own measure: sum of distinct tokens per row",
            ("", "original", "synthetic"),
            (run_line, published_line),
        )


def _cues(details: Json, names: Names) -> Iterator[Listing]:
    """What goes with each label: structures, then words, the largest differences between the sets first."""
    cues = details.get("fidelity", {}).get("cues", {"structures": {}, "words": {}})
    for label, structures in cues["structures"].items():
        lines = [
            (cue["cue"], *(cue_text(cue[side], cue["unit"]) for side in SIDES), f"{cue['z']:+.1f}")
            for cue in structures[: 2 * MAX_ROWS]
        ]
        title = "Structures, all rows" if label == "all" else f"Structures of rows of {label}"
        yield Listing(title, ("structure", *names.values(), "z of the difference"), tuple(lines))
    for label, words in cues["words"].items():
        lines = [
            (
                word["word"],
                *(f"{word[side]['share']:.0%} ({word[side]['z']:+.1f})" for side in SIDES),
                f"{word['z']:+.1f}",
            )
            for word in words[: 2 * MAX_ROWS]
        ]
        title = f"Words that go differently with {label}: its rows that have the word, and z against the other labels"
        yield Listing(title, ("word", *names.values(), "z of the difference"), tuple(lines))


def _giveaways(details: Json, names: Names) -> Iterator[Listing]:
    for side, terms in details.get("fidelity", {}).get("tells_apart", {}).items():
        lines = [(term["term"], str(term["a"]), str(term["b"])) for term in terms[: 2 * MAX_ROWS]]
        yield Listing(
            f"Words that give {names[side]} away, with rows that have them", ("words", *names.values()), tuple(lines)
        )


def _human(details: Json, names: Names) -> Iterator[Listing]:
    if (human := details.get("human")) is not None:
        share = number_text(Interval(human["value"], human["low"], human["high"]), SHARE)
        yield Listing(
            "Human check",
            ("labels agreed with", "judged", "percent"),
            ((str(human["agree"]), str(human["judged"]), share),),
        )


LISTINGS: tuple[Callable[[Json, Names], Iterator[Listing]], ...] = (
    _extreme_rows,
    _clusters,
    _opinions,
    _authors_sums,
    _countries,
    _entities,
    _occupations,
    _cues,
    _giveaways,
    _human,
    _disagreements,
    _pairs,
)


def _label_and_texts(row: Json) -> tuple[str, str]:
    return str(row.get("label", "")), _texts(row)


def _texts(row: Json) -> str:
    return "\n".join(f"{name}: {text}" for name, text in row.get("texts", {}).items())
