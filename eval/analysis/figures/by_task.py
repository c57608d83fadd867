"""Figures with a panel for each task: both sets projected onto one plane, and the difficulty of their rows."""

from collections.abc import Callable, Sequence
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING

from eval.analysis.figures.panels import HEAD, SET_COLOURS, SET_MARKERS, head, level_of, named_sets, title_of
from eval.analysis.results import SIDES
from eval.figures.style import WIDTH, panel_grid
from targen.runtime.jsonl import Json

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LINES = {"a": "-", "b": "--"}
MEAN_AT = {"a": 0.86, "b": 1.0}  # where the mean of a set is written above a histogram, in fractions of its width


def projection(analyses: Sequence[Json]) -> Callable[[], "Figure"] | None:
    """Draws the joint two-dimensional projection of both sets, a panel per task; None if no analysis has points."""
    projected = [analysis for analysis in analyses if "points" in analysis["details"]]
    return partial(_scatter, projected) if projected else None


def _scatter(analyses: Sequence[Json]) -> "Figure":
    figure = _task_grid(analyses, 4, 1.95, _points)
    head(
        figure,
        "Rows on the first two principal components of all of them; large: the mean of a set",
        named_sets(analyses),
    )
    return figure


def _points(ax: "Axes", analysis: Json) -> None:
    """The rows of both sets, drawn in turn so that neither set hides the other, and the mean of each set."""
    points = analysis["details"]["points"]
    sides = [side for side in SIDES if side in points]
    dots = sorted((number, side, x, y) for side in sides for number, (_, x, y) in enumerate(points[side]))
    xs, ys = [x for *_, x, _ in dots], [y for *_, y in dots]
    size = 9 if len(dots) < 500 else 5
    ax.scatter(xs, ys, s=size, c=[SET_COLOURS[side] for _, side, *_ in dots], alpha=0.5, linewidths=0)
    for side in sides:
        middle = [[fmean(point[axis] for point in points[side])] for axis in (1, 2)]
        ax.plot(
            *middle,
            SET_MARKERS[side],
            color=SET_COLOURS[side],
            markersize=8,
            markeredgecolor="white",
            markeredgewidth=1.2,
        )
    half = 0.55 * max(max(xs) - min(xs), max(ys) - min(ys)) or 1.0
    ax.set_xlim((max(xs) + min(xs)) / 2 - half, (max(xs) + min(xs)) / 2 + half)
    ax.set_ylim((max(ys) + min(ys)) / 2 - half, (max(ys) + min(ys)) / 2 + half)
    ax.set_box_aspect(1)
    ax.tick_params(length=0, labelbottom=False, labelleft=False)  # positions have no unit
    ax.set_title(title_of(analysis), loc="left", fontsize=8)
    for number, (axis, share) in enumerate(zip((ax.xaxis, ax.yaxis), points["explained_variance"], strict=False)):
        axis.set_label_text(f"PC{number + 1} ({100 * share:.0f} % of variance)", fontsize=7)


def difficulty(analyses: Sequence[Json]) -> Callable[[], "Figure"] | None:
    """Draws the distribution of PVI (in bits) of both sets, a panel per task; None if no analysis has it."""
    measured = [analysis for analysis in analyses if "pvi" in analysis["details"]]
    return partial(_histograms, measured) if measured else None


def _histograms(analyses: Sequence[Json]) -> "Figure":
    figure = _task_grid(analyses, 2, 1.5, _histogram)
    title = "PVI: bits of the label that a model reads out of a row; lines: their mean (V-information)"
    head(figure, f"{title}, shaded: its {level_of(analyses)} interval", named_sets(analyses))
    return figure


def _histogram(ax: "Axes", analysis: Json) -> None:
    histogram = analysis["details"]["pvi"]["histogram"]
    means: Json = next((measure for measure in analysis["measures"] if measure["name"] == "v_information"), {})
    ax.set_title(title_of(analysis), loc="left", fontsize=8)
    for side in (side for side in SIDES if side in histogram):
        colour = SET_COLOURS[side]
        ax.stairs(histogram[side], histogram["edges"], fill=True, color=colour, alpha=0.3)
        ax.stairs(histogram[side], histogram["edges"], color=colour, linewidth=0.9)
        if (mean := means.get(side)) is not None:
            ax.axvline(mean["value"], color=colour, linewidth=1.2, linestyle=LINES[side])
            if mean["low"] is not None:
                ax.axvspan(mean["low"], mean["high"], color=colour, alpha=0.2, linewidth=0)
            ax.text(MEAN_AT[side], 1.03, f"{mean['value']:.2f}", color=colour, ha="right", transform=ax.transAxes)
    ax.locator_params(nbins=5)
    ax.set_xlabel("bits")
    ax.set_ylabel("rows")


def _task_grid(analyses: Sequence[Json], per_row: int, height: float, draw: Callable[["Axes", Json], None]) -> "Figure":
    """A panel for each task, at most `most` in a row, with rows as even as possible."""
    from matplotlib.figure import Figure

    rows = -(-len(analyses) // per_row)
    columns = -(-len(analyses) // rows)
    width = WIDTH * max(columns / per_row, 0.55)
    figure = Figure(figsize=(width, rows * height + HEAD), layout="constrained")
    for ax, analysis in zip(panel_grid(figure, len(analyses), columns), analyses, strict=True):
        draw(ax, analysis)
    return figure
