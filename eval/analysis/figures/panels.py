"""The parts of the analysis figures: dots with intervals, a grid of panels, the legend of the sets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import TYPE_CHECKING

from eval.analysis.results import SIDES
from eval.figures.style import COLOURS, GREY, WIDTH, panel_grid, short
from targen.runtime.jsonl import Json

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SET_COLOURS = {"a": COLOURS["original"], "b": COLOURS["synthetic"]}
SET_MARKERS = {"a": "o", "b": "s"}
ALONE = "x"  # marker of a value without one of the other set
HEAD = 0.45  # inches above the panels, for title and legend
PER_ROW = 3  # panels of dots side by side
DOTS_LINE, DOTS_MARGIN = 0.21, 0.75  # inches: per line of a panel, around the panel
NAME, TITLE = 40, 16  # characters of a set's name and of a task's title
LOG_FROM = 10.0  # ratio of the largest to the smallest count from which their axis is logarithmic
LONGEST_LINE = 92  # characters per line of the title


@dataclass(frozen=True)
class Panel:
    """One measure of all tasks. Values are multiplied by `factor`: 100 if shares are shown in percent."""

    name: str
    title: str
    axis: str
    measures: tuple[Json | None, ...]  # in the order of the lines
    factor: float = 1.0
    start: float | None = None  # of the axis
    end: float | None = None
    even: float | None = None  # position of a vertical line: equal shares
    counts: bool = False  # may be shown on a logarithmic axis
    one_set: bool = False  # whether the whole figure shows one set, so that none is told from another


def named_sets(analyses: Sequence[Json]) -> dict[str, str]:
    """The names of the sets by side, without a side that no analysis has."""
    names_of = {
        side: [analysis["sets"][side]["name"] for analysis in analyses if side in analysis["sets"]] for side in SIDES
    }
    return {side: short(", ".join(dict.fromkeys(names)), NAME) for side, names in names_of.items() if names}


def title_of(analysis: Json) -> str:
    """The task's title, shortened for a panel or row."""
    return short(str(analysis["title"]), TITLE)


def level_of(analyses: Sequence[Json]) -> str:
    """The confidence level of all intervals, as text."""
    return f"{100 * analyses[0]['level']:g} %"


def has_numbers(panel: Panel) -> bool:
    """Whether at least one set has a value in this panel."""
    return any(measure is not None and any(measure[side] for side in SIDES) for measure in panel.measures)


def is_alone(measure: Json) -> bool:
    """Whether only one of the sets has a value, so that there is nothing to tell it from."""
    return (measure["a"] is None) != (measure["b"] is None)


def is_different(measure: Json) -> bool:
    """Whether the interval of the difference excludes 0."""
    difference = measure["difference"]
    return bool(difference and difference["low"] is not None and not difference["low"] <= 0 <= difference["high"])


def dot_grid(figure: "Figure", panels: Sequence[Panel], labels: Sequence[str], columns: int = PER_ROW) -> None:
    """A panel for each measure, all with the same lines, whose labels are on the left."""
    columns = min(columns, len(panels))
    for number, (ax, panel) in enumerate(zip(panel_grid(figure, len(panels), columns), panels, strict=True)):
        dots(ax, panel)
        ax.set_title(panel.title, loc="left", fontsize=8)
        ax.set_yticks(range(len(labels)), labels if number % columns == 0 else [""] * len(labels))
        ax.set_ylim(len(labels) - 0.4, -0.6)


def grid_height(panels: int, lines: int, columns: int = PER_ROW) -> float:
    """The height of a grid in inches; `lines` of each panel."""
    return -(-panels // columns) * (DOTS_MARGIN + DOTS_LINE * lines)


def dots(ax: "Axes", panel: Panel) -> None:
    """The values of both sets with their intervals: filled dots where the sets can be told apart, crosses where one is alone."""
    for row, measure in enumerate(panel.measures):
        sides = [side for side in SIDES if measure is not None and measure[side] is not None]
        if measure is None or not sides:
            ax.text(0.02, row, "--", transform=ax.get_yaxis_transform(), color=GREY, va="center")
            continue
        for side in sides:
            shift = 0.0 if len(sides) == 1 else -0.17 if side == "a" else 0.17
            marker = ALONE if is_alone(measure) and not panel.one_set else SET_MARKERS[side]
            filled = panel.one_set or is_different(measure)
            interval(ax, row + shift, measure[side], side, panel.factor, filled, marker=marker)
    if panel.even is not None:
        ax.axvline(panel.even, color=GREY, linewidth=0.8)
    _scale(ax, panel)
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel(panel.axis)


def interval(
    ax: "Axes",
    row: float,
    estimate: Json,
    side: str,
    factor: float,
    filled: bool,
    size: float = 4.0,
    marker: str | None = None,
) -> None:
    """A dot with its interval as a bar; by default with the marker of the set."""
    colour = SET_COLOURS[side]
    if estimate["low"] is not None:
        ax.plot([factor * estimate["low"], factor * estimate["high"]], [row, row], color=colour, linewidth=1.3)
    ax.plot(
        [factor * estimate["value"]],
        [row],
        marker or SET_MARKERS[side],
        color=colour,
        markersize=size,
        markerfacecolor=colour if filled else "white",
        clip_on=False,
        zorder=3,
    )


def _scale(ax: "Axes", panel: Panel) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    values = [
        measure[side]["value"]
        for measure in panel.measures
        if measure is not None
        for side in SIDES
        if measure[side] is not None
    ]
    if panel.counts and values and min(values) > 0 and max(values) / min(values) >= LOG_FROM:
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0) if max(values) / min(values) < 100 else (1.0,)))
        ax.xaxis.set_minor_formatter(NullFormatter())
    else:
        ax.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    ax.xaxis.set_major_formatter(FuncFormatter(tick_label))
    ax.margins(x=0.06)
    low, high = ax.get_xlim()
    # some room before the start and after the end, so that dots there are not cut
    room = 0.03 * ((panel.end if panel.end is not None else high) - (panel.start or 0.0))
    if panel.start is not None:
        low = panel.start - room
    ax.set_xlim(low, high if panel.end is None else panel.end + room)


def tick_label(value: float, _: int | None = None) -> str:
    """The label of a tick, without trailing zeros; matplotlib also passes its position."""
    return f"{value:,.10g}"


def head(figure: "Figure", title: str, names: Mapping[str, str], more: Sequence["Artist"] = ()) -> None:
    """The title of a figure, and below it the legend: the sets, then `more`."""
    from matplotlib.lines import Line2D

    handles: list[Artist] = [
        Line2D([], [], color=SET_COLOURS[side], marker=SET_MARKERS[side], markersize=4, linewidth=1.3, label=name)
        for side, name in names.items()
    ]
    handles += more
    room = int(LONGEST_LINE * figure.get_figwidth() / WIDTH)
    columns = len(handles) if sum(len(str(handle.get_label())) + 6 for handle in handles) < room else 1
    figure.legend(
        handles=handles, loc="outside upper left", ncols=columns, borderaxespad=0.2, alignment="left",
        title=fill(title, room), title_fontproperties={"size": 9},
    )  # fmt: skip


def legend_entry(label: str, marker: str, hollow: bool = False) -> "Artist":
    """An entry of a legend that belongs to no set."""
    from matplotlib.lines import Line2D

    face = "white" if hollow else GREY
    size = 9 if marker == "|" else 4
    return Line2D([], [], color=GREY, marker=marker, markersize=size, markerfacecolor=face, linewidth=0, label=label)
