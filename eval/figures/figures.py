"""The tables' numbers as pictures: scores by arm, differences, curves over sizes; equal numbers give equal bytes."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from eval.figures.style import GREY, LINE, MARGIN, MORE_COLOURS, WIDTH, colour_of, marker_of, short, write_pictures
from eval.scoring.metrics import METRIC_NAMES
from eval.scoring.runs import task_specs
from eval.statistics.comparisons import AVERAGE, Estimate
from eval.tables.comparison_tables import ComparisonTable, Line, levels_of
from eval.tables.curves import MIXING, SIZES, TITLES, Curve
from eval.tables.formats import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAMES = ("scores", "differences", SIZES, MIXING)
PER_ROW = 4  # panels of curves side by side


def draw(folder: Path, table: ComparisonTable | None, found: Mapping[str, Sequence[Curve]]) -> list[str]:
    """Writes each figure that has content as .pdf and .png, and removes those that have none; the names of the former."""
    pictures: dict[str, Callable[[], Figure]] = {}
    if table is not None and any(line.levels for line in table.lines):
        pictures["scores"] = lambda: _by_block(table, _scores, "percent")
    if table is not None and any(line.comparisons for line in table.lines):
        pictures["differences"] = lambda: _by_block(table, _differences, "points")
    for kind in (kind for kind in (SIZES, MIXING) if found.get(kind)):
        pictures[kind] = lambda kind=kind: _curves(kind, found[kind])  # type: ignore[misc]
    return write_pictures(folder, NAMES, pictures)


def _by_block(
    table: ComparisonTable, panel: Callable[["Axes", ComparisonTable, Sequence[Line]], None], unit: str
) -> "Figure":
    """One panel below the other, one for each group."""
    from matplotlib.figure import Figure

    lines = [[line for line in table.lines if line.group is group and line.levels] for group in table.groups]
    heights = [MARGIN + LINE * sum(_height(line) for line in own) for own in lines]
    figure = Figure(figsize=(WIDTH, sum(heights)), layout="constrained")
    axes = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    for ax, group, own in zip(axes, table.groups, lines, strict=True):
        ax.set_title(short(group.name), loc="left", fontsize=8)
        panel(ax, table, own)
        ax.set_yticks(range(len(own)), [_label(line) for line in own])
        ax.set_ylim(len(own) - 0.4, -0.6)
        ax.set_xlabel(unit)
    return figure


def _height(line: Line) -> float:
    """In lines: of its levels, or of its label."""
    return max(len(line.levels), 1.6 * (1 + _label(line).count("\n")) - 0.6)


def _label(line: Line) -> str:
    if line.task == AVERAGE:
        return line.title
    fixture = any(one.first.is_fixture for one in line.entries.values())
    return f"{plain(line.title)} {line.metric}" + ("\n(NOT SuperGLUE)" if fixture else "")


def _scores(ax: "Axes", table: ComparisonTable, lines: Sequence[Line]) -> None:
    levels = levels_of(table)
    for number, level in enumerate(levels):
        own = [(row, line.levels[level]) for row, line in enumerate(lines) if level in line.levels]
        shift = (number - (len(levels) - 1) / 2) * 0.7 / max(1, len(levels))
        _points(ax, [row + shift for row, _ in own], [one for _, one in own], level, number)
    majorities = [(row, 100 * line.majority) for row, line in enumerate(lines) if line.majority is not None]
    for number, (row, value) in enumerate(majorities):
        ax.plot([value, value], [row - 0.4, row + 0.4], color=GREY, linewidth=1, label=None if number else "majority")
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))


def _points(ax: "Axes", rows: Sequence[float], found: Sequence[Estimate], level: str, number: int) -> None:
    for row, one in zip(rows, found, strict=True):
        if one.bounds is not None:
            ax.plot([100 * bound for bound in one.bounds], [row, row], color=colour_of(level, number), linewidth=1.2)
    values = [100 * one.value for one in found]
    ax.plot(values, rows, marker_of(number), color=colour_of(level, number), markersize=4, label=short(level))


def _differences(ax: "Axes", table: ComparisonTable, lines: Sequence[Line]) -> None:
    """Each level less its reference; a bar that crosses 0 cannot be told from no difference."""
    ax.axvline(0, color=GREY, linewidth=0.8)
    names = list(dict.fromkeys((one.one, one.other) for line in lines for one in line.comparisons.values()))
    for number, (level, reference) in enumerate(names):
        colour, shift = colour_of(level, number), (number - (len(names) - 1) / 2) * 0.7 / len(names)
        own = [(row + shift, line.comparisons[level]) for row, line in enumerate(lines) if level in line.comparisons]
        for row, one in own:
            if one.bounds is not None:
                ax.plot([100 * bound for bound in one.bounds], [row, row], color=colour, linewidth=1.2)
        ax.plot(
            [100 * one.difference for _, one in own],
            [row for row, _ in own],
            marker_of(number),
            color=colour,
            markersize=[5, 4][number > 0],
            label=short(f"{level} - {reference}"),
        )
    if names:
        ax.legend(loc="upper left", bbox_to_anchor=(1, 1))


def _curves(kind: str, found: Sequence[Curve]) -> "Figure":
    """One panel for each task and metric, one line for each recipe."""
    from matplotlib.figure import Figure

    panels = list(dict.fromkeys((one.task, metric) for one in found for metric in task_specs()[one.task].metrics))
    recipes = list(dict.fromkeys(one.name for one in found))
    columns = min(PER_ROW, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(1.8 * columns + 1.2, 1.8 * rows + 0.15 * len(recipes) + 0.4), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax, (task, metric) in zip(axes, panels, strict=False):
        ax.set_title(f"{task_specs()[task].folder} {METRIC_NAMES.get(metric, metric)}", loc="left", fontsize=8)
        for one in (one for one in found if one.task == task):
            number = recipes.index(one.name)
            colour = MORE_COLOURS[number % len(MORE_COLOURS)]
            values = [(point.x, point.estimates[metric]) for point in one.points]
            for x, estimate in values:
                if estimate.bounds is not None:
                    ax.plot([x, x], [100 * bound for bound in estimate.bounds], color=colour, linewidth=0.8)
            xs, ys = [x for x, _ in values], [100 * estimate.value for _, estimate in values]
            ax.plot(xs, ys, marker_of(number) + "-", color=colour, markersize=3, linewidth=1, label=short(one.name))
        ax.set_xlabel("training rows" if kind == SIZES else "real rows")
        ax.set_ylabel("percent")
    for ax in axes[len(panels) :]:
        ax.set_visible(False)
    shown = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(list(shown.values()), list(shown), loc="outside lower left")
    figure.suptitle(TITLES[kind], x=0.01, ha="left", fontsize=9)
    return figure
