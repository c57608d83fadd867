"""How all figures look and are saved; equal numbers give equal bytes. matplotlib is imported only to draw."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.statistics.comparisons import Interval
from eval.tables.formats import plain_text
from targen.config.arms import ARMS
from targen.runtime.errors import UserError, remedy

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

COLOURS = {arm.name: arm.colour for arm in ARMS.values()}
# Okabe and Ito's palette, distinguishable by colour-blind readers too. Source: jfly.uni-koeln.de/color
MORE_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GREY = "#777777"
MARKERS = ("o", "s", "D", "^", "v", "P", "X")
STYLE: Any = {
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.5,
    "legend.frameon": False,
    "text.parse_math": False,  # a $ in a name does not start a formula
    "savefig.dpi": 150,
}
METADATA: dict[str, dict[str, None]] = {  # without dates and versions
    "pdf": {"CreationDate": None, "ModDate": None, "Producer": None, "Creator": None},
    "png": {"Software": None},
}
WIDTH, LINE, MARGIN = 6.5, 0.2, 0.9  # inches: of a figure, of one line in it, around a panel
LONGEST = 80  # characters of a name
Point = tuple[float, float, Interval | None]  # where it stands, a share, the bounds of its interval


def write_pictures(folder: Path, names: Sequence[str], pictures: Mapping[str, Callable[[], "Figure"]]) -> list[str]:
    """Writes each picture as .pdf and .png, and removes old files of the other `names`; the names of those written."""
    import matplotlib

    with matplotlib.rc_context({**dict(matplotlib.rcParamsDefault), **STYLE}):
        for name in names:
            for suffix in METADATA:
                (folder / f"{name}.{suffix}").unlink(missing_ok=True)
            if name in pictures:
                _save(pictures[name](), folder, name)
    return [name for name in names if name in pictures]


def _save(figure: "Figure", folder: Path, name: str) -> None:
    figure.set_label(name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing")  # shown as a box
            for suffix, metadata in METADATA.items():
                buffer = BytesIO()  # the PDF writer hides a full disk behind an error of its own
                figure.savefig(buffer, format=suffix, metadata=metadata)
                (folder / f"{name}.{suffix}").write_bytes(buffer.getvalue())
    except OSError as err:
        raise UserError(f"{folder}: cannot be written ({err.strerror}). {remedy(err)}") from None


def panel_grid(figure: "Figure | SubFigure", panels: int, columns: int) -> list["Axes"]:
    """Axes for so many panels, row by row; the last row may be shorter."""
    axes = figure.subplots(-(-panels // columns), columns, squeeze=False).ravel()
    for ax in axes[panels:]:
        ax.remove()
    return list(axes[:panels])


def draw_points(ax: "Axes", points: Sequence[Point], colour: str, number: int, label: str, size: float = 4) -> None:
    """Markers at (y, share, bounds), each with its interval, in percent; `number` chooses the marker."""
    for y, _, bounds in points:
        if bounds is not None:
            ax.plot([100 * bound for bound in bounds], [y, y], color=colour, linewidth=1.2)
    values, ys = [100 * value for _, value, _ in points], [y for y, _, _ in points]
    ax.plot(values, ys, marker_of(number), color=colour, markersize=size, label=label)


def draw_curve(ax: "Axes", points: Sequence[Point], colour: str, number: int, label: str) -> None:
    """A line through (x, share, bounds), each with its interval, in percent; `number` chooses the marker."""
    for x, _, bounds in points:
        if bounds is not None:
            ax.plot([x, x], [100 * bound for bound in bounds], color=colour, linewidth=0.8)
    xs, values = [x for x, _, _ in points], [100 * value for _, value, _ in points]
    ax.plot(xs, values, marker_of(number) + "-", color=colour, markersize=3, linewidth=1, label=label)


def legend_entries(axes: Sequence["Axes"]) -> dict[str, "Artist"]:
    """What all panels show, by its label: for one legend."""
    return {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}


def shift(number: int, count: int) -> float:
    """Where the item with this number is drawn in a line that `count` items share, relative to the middle of the line."""
    return (number - (count - 1) / 2) * 0.7 / count


def short(text: str, longest: int = LONGEST) -> str:
    """The text on one line, cut to `longest` characters."""
    text = plain_text(text)
    return text if len(text) <= longest else text[: longest - 3] + "..."


def colour_of(level: str, number: int) -> str:
    """The colour of an arm or another level; `number` chooses one for levels without a colour of their own."""
    return COLOURS.get(level, MORE_COLOURS[number % len(MORE_COLOURS)])


def marker_of(number: int) -> str:
    """The marker of the level or curve with this number."""
    return MARKERS[number % len(MARKERS)]
