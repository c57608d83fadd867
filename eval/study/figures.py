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
from eval.study.rows.amounts import CURVES, SIZES, size_level
from eval.study.rows.contents import ALL_ROWS, KEPT, selection_level
from eval.study.rows.levels import METHODS, QUANTITY, SELECTION
from eval.study.rows.material import ORIGINAL, Material
from eval.study.rows.selection import CRITERIA
from eval.study.rows.sets import METHODS as SET_METHODS
from eval.study.statistics import MAIN, LevelResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAMES = ("sizes", "methods", "selection")


def draw(folder: Path, results: Sequence[LevelResult], materials: Sequence[Material]) -> list[str]:
    """Writes the figures that have content as .pdf and .png; their names."""
    pictures = {
        name: partial(_lines, lines, results, materials)
        for name, lines in (("sizes", SIZE_LINES), ("selection", SELECTION_LINES))
        if any(result.part == lines.part for result in results)
    }
    if any(result.part == METHODS for result in results):
        pictures["methods"] = partial(_methods, results, materials)
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
    {source: {size: size_level(source, size) for size in SIZES} for source in CURVES},
    (COLOURS["original"], COLOURS["synthetic"], MORE_COLOURS[2]),
    {size: str(size) for size in SIZES},
    "training rows",
    is_log=True,
)
SELECTION_LINES = Lines(
    SELECTION,
    {name: {100: ALL_ROWS} | {round(100 * share): selection_level(share, name) for share in KEPT} for name in CRITERIA},
    (GREY, *MORE_COLOURS[:3]),
    {share: str(share) for share in (25, 50, 75, 100)},
    "rows kept, percent",
)


def _lines(spec: Lines, results: Sequence[LevelResult], materials: Sequence[Material]) -> "Figure":
    """A panel per student and task."""
    from matplotlib.figure import Figure

    students = _students(results)
    columns = len(materials)
    figure = Figure(figsize=(max(WIDTH, 1.8 * columns), 1.9 * len(students) + 0.4), layout="constrained")
    axes = panel_grid(figure, len(students) * columns, columns)
    by_name = {(result.task, result.student, result.level): result for result in results if result.part == spec.part}
    for number, ax in enumerate(axes):
        student, material = students[number // columns], materials[number % columns]
        ax.set_title(short(f"{material.task.folder}, {student}", 30), loc="left", fontsize=8)
        for position, (line, levels) in enumerate(spec.levels.items()):
            aside = position - (len(spec.levels) - 1) / 2  # side by side
            points = [
                (
                    x * (1 + 0.03 * aside) if spec.is_log else x + aside,
                    result.estimates[MAIN].value,
                    result.estimates[MAIN].bounds,
                )
                for x, level in levels.items()
                if (result := by_name.get((material.task.name, student, level))) is not None
            ]
            draw_curve(ax, points, spec.colours[position], position, line)
        if spec.is_log:
            ax.set_xscale("log")
        ax.set_xticks(list(spec.ticks), list(spec.ticks.values()))
        ax.minorticks_off()
        if number // columns == len(students) - 1:
            ax.set_xlabel(spec.axis)
        if number % columns == 0:
            ax.set_ylabel("accuracy, percent")
    entries = legend_entries(axes)
    figure.legend(list(entries.values()), list(entries), loc="outside upper left", ncols=len(entries))
    return figure


def _methods(results: Sequence[LevelResult], materials: Sequence[Material]) -> "Figure":
    """A panel per task, a line per method, a marker with its interval per student."""
    from matplotlib.figure import Figure

    students = _students(results)
    members = [result for result in results if result.part == METHODS and result.tasks == 1]
    names = {result.level for result in members}
    levels = [level for level in (ORIGINAL, *SET_METHODS) if level in names]
    height = MARGIN + LINE * len(levels) * max(1.0, 0.7 * len(students))
    columns = min(2, len(materials))
    figure = Figure(figsize=(WIDTH, height * -(-len(materials) // columns) + 0.3), layout="constrained")
    axes = panel_grid(figure, len(materials), columns)
    for ax, material in zip(axes, materials, strict=True):
        ax.set_title(short(material.task.folder), loc="left", fontsize=8)
        for number, student in enumerate(students):
            scores = [result for result in members if (result.task, result.student) == (material.task.name, student)]
            rows = [levels.index(result.level) + shift(number, len(students)) for result in scores]
            estimates = [result.estimates[MAIN] for result in scores]
            points = [(row, estimate.value, estimate.bounds) for row, estimate in zip(rows, estimates, strict=True)]
            draw_points(ax, points, MORE_COLOURS[number % len(MORE_COLOURS)], number, student)
        ax.set_yticks(range(len(levels)), [short(level, 30) for level in levels])
        ax.set_ylim(len(levels) - 0.4, -0.6)
        ax.set_xlabel("accuracy, percent")
    entries = legend_entries(axes)
    figure.legend(list(entries.values()), list(entries), loc="outside upper left", ncols=len(entries))
    return figure


def _students(results: Sequence[LevelResult]) -> list[str]:
    return list(dict.fromkeys(result.student for result in results))
