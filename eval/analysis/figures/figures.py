"""The analyses as pictures for a paper: small multiples of the same numbers as analysis/<task>.json.

Text in them are titles of tasks, names of sets, labels and countries; nothing that a row says.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from eval.analysis.figures.by_task import difficulty, projection
from eval.analysis.figures.label_flips import flips
from eval.analysis.figures.panels import (
    ABREAST,
    DOTS_MARGIN,
    HEAD,
    SET_COLOURS,
    Panel,
    dot_grid,
    grid_height,
    has_numbers,
    head,
    level_of,
    named_sets,
    sign,
    tick,
    title_of,
    told_apart,
)
from eval.analysis.results import SIDES
from eval.analysis.sets import SPLITS
from eval.figures.style import WIDTH, write_pictures
from targen.runtime.jsonl import Json

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Picture = Callable[[], "Figure"]
NAMES = ("diversity", "projection", "difficulty", "flips", "bias", "contamination")
MORE_IS = {  # in which direction a measure of diversity grows
    **dict.fromkeys(("vocabulary", "distinct_1", "distinct_2", "distinct_3", "mtld", "vendi"), "more diverse →"),
    **dict.fromkeys(("self_bleu", "cosine"), "← more diverse"),
}
BIAS = {  # the titles of summary.md are too long for a panel
    "feminine_share": "feminine pronouns",
    "occupations": "names an occupation",
    "occupation_feminine_share": "feminine beside occupations",
}
COUNTRIES, BAR, THICK = 10, 0.23, 0.36  # how many are shown; inches of one; the share of it that the bar of a set takes


@dataclass(frozen=True)
class Count:
    """In how many rows a country is named."""

    rows: int
    at_least: bool
    ambiguous: bool

    @property
    def text(self) -> str:
        if self.at_least:
            return f"≥ {self.rows:,}" if self.rows else "?"
        return f"{self.rows:,}"


def draw_analyses(folder: Path, analyses: Sequence[Json]) -> list[str]:
    """Writes each figure that has content as <folder>/<name>.pdf and .png, and removes those of `NAMES` that have none.

    The names of the former. `analyses` are as <run.dir>/analysis/<task>.json has them, one of each task.
    """
    found = {
        "diversity": _diversity(analyses),
        "projection": projection(analyses),
        "difficulty": difficulty(analyses),
        "flips": flips(analyses),
        "bias": _bias(analyses),
        "contamination": _contamination(analyses),
    }
    return write_pictures(folder, NAMES, {name: own for name, own in found.items() if own is not None})


def _of(analyses: Sequence[Json], *parts: str) -> list[Json]:
    """The analyses that measured something of these parts."""
    return [one for one in analyses if any(measure["part"] in parts for measure in one["measures"])]


def _panels(analyses: Sequence[Json], *parts: str) -> list[Panel]:
    """One of each measure of the parts, without those of the paper's authors, which are not sound."""
    own = [{one["name"]: one for one in analysis["measures"] if _is_shown(one, parts)} for analysis in analyses]
    found: dict[str, Panel] = {}
    for measures in own:
        for name, one in measures.items():
            lines = tuple(measures.get(name) for measures in own)
            found.setdefault(name, Panel(name, one["title"], one["unit"], lines))
    return [panel for panel in found.values() if has_numbers(panel)]


def _is_shown(measure: Json, parts: Sequence[str]) -> bool:
    return measure["part"] in parts and not measure["theirs"]


def _dot_figure(analyses: Sequence[Json], panels: Sequence[Panel], title: str, columns: int = ABREAST) -> "Figure":
    from matplotlib.figure import Figure

    height = grid_height(len(panels), len(analyses), columns)
    figure = Figure(figsize=(WIDTH, height + HEAD), layout="constrained")
    dot_grid(figure, panels, [title_of(one) for one in analyses], columns)
    _head_of_dots(figure, analyses, panels, title)
    return figure


def _head_of_dots(figure: "Figure", analyses: Sequence[Json], panels: Sequence[Panel], title: str) -> None:
    hollow = any(one is not None and not told_apart(one) for panel in panels for one in panel.measures)
    more = [sign("hollow: the two cannot be told apart", "o", hollow=True)] if hollow else []
    head(figure, f"{title}; bars: {level_of(analyses)} intervals", named_sets(analyses), more)


def _diversity(analyses: Sequence[Json]) -> Picture | None:
    own = _of(analyses, "lexical", "semantic")
    panels = [
        replace(
            panel,
            axis=panel.axis + (f" ({MORE_IS[panel.name]})" if panel.name in MORE_IS else ""),
            counts=panel.axis in ("words", "rows"),
        )
        for panel in _panels(own, "lexical", "semantic")
    ]
    return partial(_dot_figure, own, panels, "Diversity of words and meanings") if panels else None


def _contamination(analyses: Sequence[Json]) -> Picture | None:
    """One axis for all, so that splits can be held against one another: above runs of words, below near-duplicates."""
    own = _of(analyses, "contamination")
    found = {panel.name: panel for panel in _panels(own, "contamination")}
    sides = [one[side] for panel in found.values() for one in panel.measures if one for side in SIDES if one[side]]
    highest = 100 * max((one["high"] or one["value"] for one in sides), default=0.0) or 1.0
    panels = [
        replace(_percent(found[name], end=highest), title=found[name].title.removeprefix("shares "))
        for kind in ("runs", "near")
        for split in SPLITS
        if (name := f"{split}_{kind}") in found
    ]
    columns = max(2, len(panels) // 2)
    return partial(_dot_figure, own, panels, "Rows that repeat the original splits", columns) if panels else None


def _percent(panel: Panel, end: float | None = None) -> Panel:
    return replace(panel, axis="percent of the rows", factor=100.0, start=0.0, end=end)


def _bias(analyses: Sequence[Json]) -> Picture | None:
    own = _of(analyses, "bias")
    panels = [replace(_percent(panel), title=BIAS.get(panel.name, panel.title)) for panel in _panels(own, "bias")]
    panels = [
        replace(panel, axis="percent of rows of one gender", end=100.0, even=50.0)
        if panel.name.endswith("feminine_share")
        else panel
        for panel in panels
    ]
    countries = _countries(own)
    return partial(_bias_figure, own, panels, countries) if panels or countries else None


def _bias_figure(
    analyses: Sequence[Json], panels: Sequence[Panel], countries: Mapping[str, Mapping[str, Count]]
) -> "Figure":
    from matplotlib.figure import Figure

    heights = [grid_height(len(panels), len(analyses))] * bool(panels)
    heights += [DOTS_MARGIN + BAR * len(countries)] * bool(countries)
    figure = Figure(figsize=(WIDTH, sum(heights) + HEAD), layout="constrained")
    parts = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    if panels:
        dot_grid(parts[0], panels, [title_of(one) for one in analyses])
    if countries:
        _bars(parts[-1].subplots(), countries, len(analyses))
    _head_of_dots(figure, analyses, panels, "Whom and what the rows speak of")
    return figure


def _countries(analyses: Sequence[Json]) -> dict[str, dict[str, Count]]:
    """The countries that most rows name, of all tasks together, by name and side; tasks in which a set is missing are left out."""
    every = [one["details"]["countries"] for one in analyses if "countries" in one["details"]]
    sides = [side for side in SIDES if any(side in one for one in every)]
    every = [one for one in every if all(side in one for side in sides)]
    found: dict[str, dict[str, Count]] = {}
    for name in sorted({one["name"] for own in every for side in sides for one in own[side]["top"]}):
        found[name] = {side: _count(name, [own[side] for own in every]) for side in sides}
    ranked = sorted(found, key=lambda name: (-sum(one.rows for one in found[name].values()), name))
    return {name: found[name] for name in ranked[:COUNTRIES]}


def _count(name: str, lists: Sequence[Json]) -> Count:
    """Rows that name a country; at least so many, where it may stand below the end of a list."""
    own = [next((one for one in each["top"] if one["name"] == name), None) for each in lists]
    cut = any(one is None and each["distinct"] > len(each["top"]) for one, each in zip(own, lists, strict=True))
    return Count(sum(one["count"] for one in own if one), cut, any(one["ambiguous"] for one in own if one))


def _bars(ax: "Axes", countries: Mapping[str, Mapping[str, Count]], tasks: int) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    for row, own in enumerate(countries.values()):
        for number, (side, one) in enumerate(own.items()):
            place = row + (number - (len(own) - 1) / 2) * THICK
            ax.barh(place, one.rows, THICK, color=SET_COLOURS[side])
            ax.text(one.rows, place, f" {one.text}", va="center", fontsize=6.5)
    ambiguous = {name for name, own in countries.items() if any(one.ambiguous for one in own.values())}
    ax.set_yticks(range(len(countries)), [f"{name} *" if name in ambiguous else name for name in countries])
    ax.set_ylim(len(countries) - 0.4, -0.6)
    ax.margins(x=0.08)
    ax.set_axisbelow(True)
    ax.grid(False, axis="y")
    ax.tick_params(axis="y", length=0)
    ax.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    ax.xaxis.set_major_formatter(FuncFormatter(tick))
    title = "countries that most rows name" + ", all tasks together" * (tasks > 1)
    ax.set_title(title, loc="left", fontsize=8)
    ax.set_xlabel("rows that name it" + " (* the word often means something else)" * bool(ambiguous))
