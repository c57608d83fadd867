"""The analyses as figures for a paper: small multiples of the numbers in analysis/<task>.json.

Their only texts are titles of tasks, names of sets, labels and countries, never the text of a row.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from eval.analysis.figures.by_task import difficulty, projection
from eval.analysis.figures.label_flips import flips
from eval.analysis.figures.panels import (
    ALONE,
    DOTS_MARGIN,
    HEAD,
    PER_ROW,
    SET_COLOURS,
    Panel,
    dot_grid,
    grid_height,
    has_numbers,
    head,
    is_alone,
    is_different,
    legend_entry,
    level_of,
    named_sets,
    tick_label,
    title_of,
)
from eval.analysis.results import SHARE, SIDES
from eval.analysis.sets import SPLITS
from eval.figures.style import WIDTH, write_pictures
from targen.runtime.jsonl import Json

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Picture = Callable[[], "Figure"]
MORE_IS = {  # the direction in which diversity grows
    **dict.fromkeys(
        ("vocabulary", "distinct_1", "distinct_2", "distinct_3", "mtld", "vendi", "cluster_score"), "more diverse →"
    ),
    **dict.fromkeys(("self_bleu", "cosine"), "← more diverse"),
}
BIAS = {  # the titles of summary.md are too long for a panel
    "feminine_share": "feminine pronouns",
    "occupations": "names an occupation",
    "occupation_feminine_share": "feminine beside occupations",
}
COUNTRIES = 10  # that are shown
BAR, THICK = 0.23, 0.36  # inches per country; the share of them that the bar of one set takes


@dataclass(frozen=True)
class AnalysisFigure:
    """A figure: its caption, and `picture`, which draws it from all analyses; None if they have nothing to draw."""

    caption: str
    picture: Callable[[Sequence[Json]], Picture | None]


@dataclass(frozen=True)
class Count:
    """The number of rows that name a country, or a lower bound of it (`at_least`); `ambiguous`: the word has other meanings."""

    rows: int
    at_least: bool
    ambiguous: bool

    @property
    def text(self) -> str:
        """The count as written beside its bar; with ≥ if it is a lower bound."""
        if self.at_least:
            return f"≥ {self.rows:,}" if self.rows else "?"
        return f"{self.rows:,}"


def draw_analyses(folder: Path, analyses: Sequence[Json]) -> list[str]:
    """Writes each figure that has content as <folder>/<name>.pdf and .png, and removes the others; the names of those written.

    `analyses` are the contents of <run.dir>/analysis/<task>.json, one per task.
    """
    pictures = {name: figure.picture(analyses) for name, figure in FIGURES.items()}
    return write_pictures(folder, NAMES, {name: picture for name, picture in pictures.items() if picture is not None})


def _with_parts(analyses: Sequence[Json], *parts: str) -> list[Json]:
    """The analyses that have a measure of one of these parts."""
    return [analysis for analysis in analyses if any(measure["part"] in parts for measure in analysis["measures"])]


def _panels(analyses: Sequence[Json], *parts: str) -> list[Panel]:
    """A panel for each measure of the parts, without those of the paper's authors, which are not sound."""
    measures_of = [
        {measure["name"]: measure for measure in analysis["measures"] if _is_shown(measure, parts)}
        for analysis in analyses
    ]
    panels: dict[str, Panel] = {}
    one_set = len(named_sets(analyses)) == 1
    for measures in measures_of:
        for name, measure in measures.items():
            lines = tuple(measures.get(name) for measures in measures_of)
            axis, factor = ("percent", 100.0) if measure["unit"] == SHARE else (measure["unit"], 1.0)
            panels.setdefault(name, Panel(name, measure["title"], axis, lines, factor, one_set=one_set))
    return [panel for panel in panels.values() if has_numbers(panel)]


def _is_shown(measure: Json, parts: Sequence[str]) -> bool:
    return measure["part"] in parts and not measure["theirs"]


def _dot_figure(analyses: Sequence[Json], panels: Sequence[Panel], title: str, columns: int = PER_ROW) -> "Figure":
    from matplotlib.figure import Figure

    height = grid_height(len(panels), len(analyses), columns)
    figure = Figure(figsize=(WIDTH, height + HEAD), layout="constrained")
    dot_grid(figure, panels, [title_of(analysis) for analysis in analyses], columns)
    _head_of_dots(figure, analyses, panels, title)
    return figure


def _head_of_dots(figure: "Figure", analyses: Sequence[Json], panels: Sequence[Panel], title: str) -> None:
    names = named_sets(analyses)
    measures = [measure for panel in panels for measure in panel.measures if measure is not None]
    differ = [is_different(measure) for measure in measures if measure["a"] and measure["b"]]
    entries = [legend_entry("filled: the two differ", "o")] * any(differ)
    entries += [legend_entry("hollow: the two cannot be told apart", "o", hollow=True)] * (not all(differ))
    entries += [legend_entry("no value of the other set", ALONE)] * (len(names) > 1 and any(map(is_alone, measures)))
    head(figure, f"{title}; bars: {level_of(analyses)} intervals", names, entries)


def _diversity(analyses: Sequence[Json]) -> Picture | None:
    parts = ("lexical", "semantic", "clusters")
    measured = _with_parts(analyses, *parts)
    panels = [
        replace(
            panel,
            axis=panel.axis + (f" ({MORE_IS[panel.name]})" if panel.name in MORE_IS else ""),
            counts=panel.axis in ("words", "rows"),
        )
        for panel in _panels(measured, *parts)
        if panel.name not in ("clusters", "clusters_kept")  # say how the score comes about
    ]
    return partial(_dot_figure, measured, panels, "Diversity of words and meanings") if panels else None


def _contamination(analyses: Sequence[Json]) -> Picture | None:
    """Runs of words above, near-duplicates below; all panels share one scale, so that splits can be compared."""
    measured = _with_parts(analyses, "contamination")
    by_name = {panel.name: panel for panel in _panels(measured, "contamination")}
    sides = [
        measure[side]
        for panel in by_name.values()
        for measure in panel.measures
        if measure
        for side in SIDES
        if measure[side]
    ]
    highest = 100 * max((measure["high"] or measure["value"] for measure in sides), default=0.0) or 1.0
    panels = [
        replace(_percent(by_name[name], end=highest), title=by_name[name].title.removeprefix("shares "))
        for criterion in ("runs", "near")
        for split in SPLITS
        if (name := f"{split}_{criterion}") in by_name
    ]
    columns = max(2, len(panels) // 2)
    return partial(_dot_figure, measured, panels, "Rows that repeat the original splits", columns) if panels else None


def _percent(panel: Panel, end: float | None = None) -> Panel:
    return replace(panel, axis="percent of the rows", factor=100.0, start=0.0, end=end)


def _bias(analyses: Sequence[Json]) -> Picture | None:
    measured = _with_parts(analyses, "bias")
    panels = [replace(_percent(panel), title=BIAS.get(panel.name, panel.title)) for panel in _panels(measured, "bias")]
    panels = [
        replace(panel, axis="percent of rows of one gender", end=100.0, even=50.0)
        if panel.name.endswith("feminine_share")
        else panel
        for panel in panels
    ]
    countries = _countries(measured)
    return partial(_bias_figure, measured, panels, countries) if panels or countries else None


def _bias_figure(
    analyses: Sequence[Json], panels: Sequence[Panel], countries: Mapping[str, Mapping[str, Count]]
) -> "Figure":
    from matplotlib.figure import Figure

    heights = [grid_height(len(panels), len(analyses))] * bool(panels)
    heights += [DOTS_MARGIN + BAR * len(countries)] * bool(countries)
    figure = Figure(figsize=(WIDTH, sum(heights) + HEAD), layout="constrained")
    parts = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    if panels:
        dot_grid(parts[0], panels, [title_of(analysis) for analysis in analyses])
    if countries:
        _bars(parts[-1].subplots(), countries, len(analyses))
    _head_of_dots(figure, analyses, panels, "Whom and what the rows speak of")
    return figure


def _countries(analyses: Sequence[Json]) -> dict[str, dict[str, Count]]:
    """The countries that most rows of all tasks name: counts by name, then side. Tasks without one of the sets are left out."""
    countries = [analysis["details"]["countries"] for analysis in analyses if "countries" in analysis["details"]]
    sides = [side for side in SIDES if any(side in by_side for by_side in countries)]
    countries = [by_side for by_side in countries if all(side in by_side for side in sides)]
    counts: dict[str, dict[str, Count]] = {}
    for name in sorted({entry["name"] for by_side in countries for side in sides for entry in by_side[side]["top"]}):
        counts[name] = {side: _count(name, [by_side[side] for by_side in countries]) for side in sides}
    ranked = sorted(counts, key=lambda name: (-sum(count.rows for count in counts[name].values()), name))
    return {name: counts[name] for name in ranked[:COUNTRIES]}


def _count(name: str, lists: Sequence[Json]) -> Count:
    """The rows of all lists that name a country; a lower bound if one of the lists may have ended before it."""
    entries = [next((entry for entry in top_list["top"] if entry["name"] == name), None) for top_list in lists]
    return Count(
        rows=sum(entry["count"] for entry in entries if entry),
        at_least=any(
            entry is None and top_list["distinct"] > len(top_list["top"])
            for entry, top_list in zip(entries, lists, strict=True)
        ),
        ambiguous=any(entry["ambiguous"] for entry in entries if entry),
    )


def _bars(ax: "Axes", countries: Mapping[str, Mapping[str, Count]], tasks: int) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    for row, by_side in enumerate(countries.values()):
        for number, (side, count) in enumerate(by_side.items()):
            height = row + (number - (len(by_side) - 1) / 2) * THICK
            ax.barh(height, count.rows, THICK, color=SET_COLOURS[side])
            ax.text(count.rows, height, f" {count.text}", va="center", fontsize=6.5)
    ambiguous = {name for name, by_side in countries.items() if any(count.ambiguous for count in by_side.values())}
    ax.set_yticks(range(len(countries)), [f"{name} *" if name in ambiguous else name for name in countries])
    ax.set_ylim(len(countries) - 0.4, -0.6)
    ax.margins(x=0.08)
    ax.set_axisbelow(True)
    ax.grid(False, axis="y")
    ax.tick_params(axis="y", length=0)
    ax.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    ax.xaxis.set_major_formatter(FuncFormatter(tick_label))
    title = "countries that most rows name" + ", all tasks together" * (tasks > 1)
    ax.set_title(title, loc="left", fontsize=8)
    ax.set_xlabel("rows that name it" + " (* the word often means something else)" * bool(ambiguous))


FIGURES = {
    "diversity": AnalysisFigure("Lexical and semantic diversity", _diversity),
    "projection": AnalysisFigure("The rows on the first two principal components of all of them", projection),
    "difficulty": AnalysisFigure("Difficulty: pointwise V-information of the rows", difficulty),
    "flips": AnalysisFigure("Labels that self-correction changed", flips),
    "bias": AnalysisFigure("Whom and what the rows mention", _bias),
    "contamination": AnalysisFigure("Rows that repeat the original splits", _contamination),
}
NAMES = tuple(FIGURES)
