"""The figures of a study: scores by size, and scores of the methods."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from eval.figures.style import (
    COLOURS,
    LINE,
    MARGIN,
    MORE_COLOURS,
    WIDTH,
    marker_of,
    panel_grid,
    shift,
    short,
    write_pictures,
)
from eval.study.rows.amounts import CURVES, SIZES, sized
from eval.study.rows.levels import METHODS, QUANTITY
from eval.study.rows.material import ORIGINAL, Material
from eval.study.rows.sets import METHODS as SET_METHODS
from eval.study.statistics import MAIN, Scored

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAMES = ("sizes", "methods")
CURVE_COLOURS = (COLOURS["original"], COLOURS["synthetic"], MORE_COLOURS[2])
LINES = ("-", "--", ":")  # of students


def draw(folder: Path, found: Sequence[Scored], materials: Sequence[Material]) -> list[str]:
    """Writes the figures that have content as .pdf and .png; their names."""
    pictures = {}
    if any(one.part == QUANTITY for one in found):
        pictures["sizes"] = partial(_sizes, found, materials)
    if any(one.part == METHODS for one in found):
        pictures["methods"] = partial(_methods, found, materials)
    return write_pictures(folder, NAMES, pictures)


def _sizes(found: Sequence[Scored], materials: Sequence[Material]) -> "Figure":
    """A panel per student and task, a curve per source."""
    from matplotlib.figure import Figure

    students = _students(found)
    columns = len(materials)
    figure = Figure(figsize=(max(WIDTH, 1.8 * columns), 1.9 * len(students) + 0.4), layout="constrained")
    axes = panel_grid(figure, len(students) * columns, columns)
    by_name = {(one.task, one.student, one.level): one for one in found if one.part == QUANTITY}
    for number, ax in enumerate(axes):
        student, given = students[number // columns], materials[number % columns]
        ax.set_title(short(f"{given.task.folder}, {student}", 30), loc="left", fontsize=8)
        for place, source in enumerate(CURVES):
            points = [
                (size, one.estimates[MAIN])
                for size in SIZES
                if (one := by_name.get((given.task.name, student, sized(source, size)))) is not None
            ]
            xs = [size * (1 + 0.03 * (place - 1)) for size, _ in points]  # side by side
            for x, (_, estimate) in zip(xs, points, strict=True):
                if estimate.bounds is not None:
                    bounds = [100 * bound for bound in estimate.bounds]
                    ax.plot([x, x], bounds, color=CURVE_COLOURS[place], linewidth=0.8)
            ys = [100 * estimate.value for _, estimate in points]
            ax.plot(xs, ys, marker_of(place) + "-", color=CURVE_COLOURS[place], markersize=3, linewidth=1, label=source)
        ax.set_xscale("log")
        ax.set_xticks(SIZES, [str(size) for size in SIZES])
        ax.minorticks_off()
        if number // columns == len(students) - 1:
            ax.set_xlabel("training rows")
        if number % columns == 0:
            ax.set_ylabel("accuracy, percent")
    shown = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
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
    rows = -(-len(materials) // columns)
    figure = Figure(figsize=(WIDTH, height * rows + 0.3), layout="constrained")
    axes = panel_grid(figure, len(materials), columns)
    for ax, given in zip(axes, materials, strict=True):
        ax.set_title(short(given.task.folder), loc="left", fontsize=8)
        for number, student in enumerate(students):
            colour = MORE_COLOURS[number % len(MORE_COLOURS)]
            of_student = [one for one in members if (one.task, one.student) == (given.task.name, student)]
            points = [
                (levels.index(one.level) + shift(number, len(students)), one.estimates[MAIN]) for one in of_student
            ]
            for y, estimate in points:
                if estimate.bounds is not None:
                    ax.plot([100 * bound for bound in estimate.bounds], [y, y], color=colour, linewidth=1.2)
            values = [100 * estimate.value for _, estimate in points]
            ax.plot(values, [y for y, _ in points], marker_of(number), color=colour, markersize=4, label=student)
        ax.set_yticks(range(len(levels)), [short(level, 30) for level in levels])
        ax.set_ylim(len(levels) - 0.4, -0.6)
        ax.set_xlabel("accuracy, percent")
    shown = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(list(shown.values()), list(shown), loc="outside upper left", ncols=len(shown))
    return figure


def _students(found: Sequence[Scored]) -> list[str]:
    return list(dict.fromkeys(one.student for one in found))
