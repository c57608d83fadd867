"""The figures of a study: scores by size, scores of the methods, and scores by the share of rows kept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from eval.figures.style import (
    COLOURS,
    GREY,
    LINE,
    MARGIN,
    MORE_COLOURS,
    WIDTH,
    draw_curve,
    draw_points,
    legend_entries,
    panel_grid,
    shift,
    short,
    write_pictures,
)
from eval.study.rows.amounts import CURVES, SIZES, sized
from eval.study.rows.contents import ALL_ROWS, KEPT, kept
from eval.study.rows.levels import METHODS, QUANTITY, SELECTION
from eval.study.rows.material import ORIGINAL, Material
from eval.study.rows.selection import CRITERIA
from eval.study.rows.sets import METHODS as SET_METHODS
from eval.study.statistics import MAIN, Scored

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAMES = ("sizes", "methods", "selection")


def draw(folder: Path, found: Sequence[Scored], materials: Sequence[Material]) -> list[str]:
    """Writes the figures that have content as .pdf and .png; their names."""
    pictures = {
        name: partial(_lines, lines, found, materials)
        for name, lines in (("sizes", SIZE_LINES), ("selection", SELECTION_LINES))
        if any(one.part == lines.part for one in found)
    }
    if any(one.part == METHODS for one in found):
        pictures["methods"] = partial(_methods, found, materials)
    return write_pictures(folder, NAMES, pictures)


@dataclass(frozen=True)
class Lines:
    """What the panels of a part show: the level at each position of each line, and its colour; how the positions are read."""

    part: str
    levels: Mapping[str, Mapping[int, str]]
    colours: Sequence[str]
    ticks: Mapping[int, str]
    axis: str
    is_log: bool = False


SIZE_LINES = Lines(
    QUANTITY,
    {source: {size: sized(source, size) for size in SIZES} for source in CURVES},
    (COLOURS["original"], COLOURS["synthetic"], MORE_COLOURS[2]),
    {size: str(size) for size in SIZES},
    "training rows",
    is_log=True,
)
SELECTION_LINES = Lines(
    SELECTION,
    {name: {100: ALL_ROWS} | {round(100 * share): kept(share, name) for share in KEPT} for name in CRITERIA},
    (GREY, *MORE_COLOURS[:3]),
    {share: str(share) for share in (25, 50, 75, 100)},
    "rows kept, percent",
)


def _lines(drawn: Lines, found: Sequence[Scored], materials: Sequence[Material]) -> "Figure":
    """A panel per student and task."""
    from matplotlib.figure import Figure

    students = _students(found)
    columns = len(materials)
    figure = Figure(figsize=(max(WIDTH, 1.8 * columns), 1.9 * len(students) + 0.4), layout="constrained")
    axes = panel_grid(figure, len(students) * columns, columns)
    by_name = {(one.task, one.student, one.level): one for one in found if one.part == drawn.part}
    for number, ax in enumerate(axes):
        student, given = students[number // columns], materials[number % columns]
        ax.set_title(short(f"{given.task.folder}, {student}", 30), loc="left", fontsize=8)
        for place, (line, levels) in enumerate(drawn.levels.items()):
            aside = place - (len(drawn.levels) - 1) / 2  # side by side
            points = [
                (
                    x * (1 + 0.03 * aside) if drawn.is_log else x + aside,
                    one.estimates[MAIN].value,
                    one.estimates[MAIN].bounds,
                )
                for x, level in levels.items()
                if (one := by_name.get((given.task.name, student, level))) is not None
            ]
            draw_curve(ax, points, drawn.colours[place], place, line)
        if drawn.is_log:
            ax.set_xscale("log")
        ax.set_xticks(list(drawn.ticks), list(drawn.ticks.values()))
        ax.minorticks_off()
        if number // columns == len(students) - 1:
            ax.set_xlabel(drawn.axis)
        if number % columns == 0:
            ax.set_ylabel("accuracy, percent")
    shown = legend_entries(axes)
    figure.legend(list(shown.values()), list(shown), loc="outside upper left", ncols=len(shown))
    return figure


def _methods(found: Sequence[Scored], materials: Sequence[Material]) -> "Figure":
    """A panel per task, a line per method, a marker with its interval per student."""
    from matplotlib.figure import Figure

    students = _students(found)
    members = [one for one in found if one.part == METHODS and one.tasks == 1]
    there = {one.level for one in members}
    levels = [level for level in (ORIGINAL, *SET_METHODS) if level in there]
    height = MARGIN + LINE * len(levels) * max(1.0, 0.7 * len(students))
    columns = min(2, len(materials))
    figure = Figure(figsize=(WIDTH, height * -(-len(materials) // columns) + 0.3), layout="constrained")
    axes = panel_grid(figure, len(materials), columns)
    for ax, given in zip(axes, materials, strict=True):
        ax.set_title(short(given.task.folder), loc="left", fontsize=8)
        for number, student in enumerate(students):
            of_student = [one for one in members if (one.task, one.student) == (given.task.name, student)]
            rows = [(levels.index(one.level) + shift(number, len(students)), one.estimates[MAIN]) for one in of_student]
            points = [(row, estimate.value, estimate.bounds) for row, estimate in rows]
            draw_points(ax, points, MORE_COLOURS[number % len(MORE_COLOURS)], number, student)
        ax.set_yticks(range(len(levels)), [short(level, 30) for level in levels])
        ax.set_ylim(len(levels) - 0.4, -0.6)
        ax.set_xlabel("accuracy, percent")
    shown = legend_entries(axes)
    figure.legend(list(shown.values()), list(shown), loc="outside upper left", ncols=len(shown))
    return figure


def _students(found: Sequence[Scored]) -> list[str]:
    return list(dict.fromkeys(one.student for one in found))
