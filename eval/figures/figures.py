"""The tables' numbers as figures: scores by arm, differences, curves over sizes; equal numbers give equal bytes."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from eval.figures.style import (
    GREY,
    LINE,
    MARGIN,
    MORE_COLOURS,
    WIDTH,
    colour_of,
    draw_curve,
    draw_points,
    legend_entries,
    panel_grid,
    shift,
    short,
    write_pictures,
)
from eval.scoring.metrics import metric_title
from eval.tables.comparison_tables import ComparisonTable, Line
from eval.tables.curves import MIXING, SIZES, TITLES, Curve
from eval.tables.formats import plain_text
from targen.tasks.task import Task

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CAPTIONS = {
    "scores": "Scores with their 95 % intervals",
    "differences": "Differences from the reference with their 95 % intervals",
    SIZES: "Scores by the number of training rows",
    MIXING: "Scores by the number of original rows in the mix",
}
PER_ROW = 4  # panels of curves side by side
FIRST_SEEN, SIGN = 58, 6  # characters: of the part of a figure that a phone shows; that a sign in a legend takes


def draw(folder: Path, table: ComparisonTable | None, curves: Mapping[str, Sequence[Curve]]) -> list[str]:
    """Writes each figure that has content as .pdf and .png, and removes the others; the names of those written."""
    pictures: dict[str, Callable[[], Figure]] = {}
    if table is not None and any(line.levels for line in table.lines):
        pictures["scores"] = partial(_by_group, table, _scores, "percent")
    if table is not None and any(line.comparisons for line in table.lines):
        pictures["differences"] = partial(_by_group, table, _differences, "points")
    for name in (SIZES, MIXING):
        if curves.get(name):
            pictures[name] = partial(_curves, name, curves[name])
    return write_pictures(folder, tuple(CAPTIONS), pictures)


def _by_group(
    table: ComparisonTable, panel: Callable[["Axes", ComparisonTable, Sequence[Line]], None], unit: str
) -> "Figure":
    """A panel for each group, one below the other; the x axes are in `unit`."""
    from matplotlib.figure import Figure

    panels = [[line for line in table.lines if line.group is group and line.levels] for group in table.groups]
    heights = [MARGIN + LINE * sum(_height(line) for line in lines) for lines in panels]
    figure = Figure(figsize=(WIDTH, sum(heights)), layout="constrained")
    axes = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    for ax, group, lines in zip(axes, table.groups, panels, strict=True):
        ax.set_title(short(group.name), loc="left", fontsize=8)
        panel(ax, table, lines)
        ax.set_yticks(range(len(lines)), [_label(line) for line in lines])
        ax.set_ylim(len(lines) - 0.4, -0.6)
        ax.set_xlabel(unit)
    _legend(figure, list(axes))
    return figure


def _legend(figure: "Figure", axes: Sequence["Axes"]) -> None:
    """One legend for all panels, at the top left: what a phone shows of a figure first."""
    items = legend_entries(axes)
    columns = len(items) if sum(len(label) + SIGN for label in items) <= FIRST_SEEN else 1
    figure.legend(
        list(items.values()), list(items), loc="outside upper left", ncols=columns, borderaxespad=0.2, alignment="left"
    )


def _height(line: Line) -> float:
    """The height of a table line, in lines of the figure: enough for its levels and its label."""
    return max(len(line.levels), 1.6 * (1 + _label(line).count("\n")) - 0.6)


def _label(line: Line) -> str:
    if line.is_average:
        return line.title
    return f"{plain_text(line.title)} {line.metric}" + (f"\n({line.fixture_mark})" if line.fixture_mark else "")


def _scores(ax: "Axes", table: ComparisonTable, lines: Sequence[Line]) -> None:
    levels = table.levels
    for number, level in enumerate(levels):
        estimates = [(row, line.levels[level]) for row, line in enumerate(lines) if level in line.levels]
        points = [(row + shift(number, len(levels)), estimate.value, estimate.bounds) for row, estimate in estimates]
        draw_points(ax, points, colour_of(level, number), number, short(level))
    majorities = [(row, 100 * line.majority) for row, line in enumerate(lines) if line.majority is not None]
    for number, (row, value) in enumerate(majorities):
        ax.plot([value, value], [row - 0.4, row + 0.4], color=GREY, linewidth=1, label=None if number else "majority")


def _differences(ax: "Axes", table: ComparisonTable, lines: Sequence[Line]) -> None:
    """Each level minus its reference; whether chance explains it is for the p values of the tables."""
    ax.axvline(0, color=GREY, linewidth=0.8)
    comparisons = [comparison for line in lines for comparison in line.comparisons.values()]
    pairs = list(dict.fromkeys((comparison.level, comparison.reference) for comparison in comparisons))
    for number, (level, reference) in enumerate(pairs):
        points = [
            (row + shift(number, len(pairs)), line.comparisons[level].difference, line.comparisons[level].bounds)
            for row, line in enumerate(lines)
            if level in line.comparisons
        ]
        label, size = short(f"{level} - {reference}"), 4 if number else 5
        draw_points(ax, points, colour_of(level, number), number, label, size)


def _curves(name: str, curves: Sequence[Curve]) -> "Figure":
    """One panel for each task and metric, one line for each recipe."""
    from matplotlib.figure import Figure

    tasks = {curve.task.name: curve.task for curve in curves}
    panels = list(dict.fromkeys((curve.task.name, metric) for curve in curves for metric in curve.metrics))
    recipes = list(dict.fromkeys(curve.name for curve in curves))
    columns = min(PER_ROW, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(1.8 * columns + 1.2, 1.8 * rows + 0.15 * len(recipes) + 0.4), layout="constrained")
    axes = panel_grid(figure, len(panels), columns)
    for ax, (task, metric) in zip(axes, panels, strict=True):
        panel_curves = [curve for curve in curves if curve.task.name == task and metric in curve.metrics]
        _curve_panel(ax, tasks[task], metric, [(recipes.index(curve.name), curve) for curve in panel_curves])
        ax.set_xlabel("training rows" if name == SIZES else "real rows")
    items = legend_entries(axes)
    figure.legend(list(items.values()), list(items), loc="outside lower left")
    figure.suptitle(TITLES[name], x=0.01, ha="left", fontsize=9)
    return figure


def _curve_panel(ax: "Axes", task: Task, metric: str, curves: Sequence[tuple[int, Curve]]) -> None:
    """`curves` with the number of the recipe of each, which decides its colour."""
    ax.set_title(f"{task.folder} {metric_title(metric)}", loc="left", fontsize=8)
    for number, curve in curves:
        estimates = [(point.x, point.estimates[metric]) for point in curve.points]
        points = [(x, estimate.value, estimate.bounds) for x, estimate in estimates]
        draw_curve(ax, points, MORE_COLOURS[number % len(MORE_COLOURS)], number, short(curve.name))
    ax.set_ylabel("percent")
