"""How every figure of this project looks and is written; equal numbers give equal bytes. matplotlib is imported only to draw."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.tables.formats import plain
from targen.runtime.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's palette, told apart by the colour-blind too. Source: jfly.uni-koeln.de/color
COLOURS = {
    "none": "#000000",
    "original": "#0072B2",
    "synthetic": "#D55E00",
    "mixed": "#009E73",
    "self_instruct": "#CC79A7",
}
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
    "text.parse_math": False,  # a name with $ is no formula
    "savefig.dpi": 150,
}
METADATA: dict[str, dict[str, None]] = {  # without dates and versions
    "pdf": {"CreationDate": None, "ModDate": None, "Producer": None, "Creator": None},
    "png": {"Software": None},
}
WIDTH, LINE, MARGIN = 6.5, 0.2, 0.9  # inches: of a figure, of one line in it, around a panel
LONGEST = 80  # signs of a name


def write_pictures(folder: Path, names: Sequence[str], pictures: Mapping[str, Callable[[], "Figure"]]) -> list[str]:
    """Writes each picture as .pdf and .png, and removes those of `names` that have none; the names of the former."""
    import matplotlib

    with matplotlib.rc_context({**dict(matplotlib.rcParamsDefault), **STYLE}):
        for name in names:
            for suffix in METADATA:
                (folder / f"{name}.{suffix}").unlink(missing_ok=True)
            if name in pictures:
                _save(pictures[name](), folder, name)
    return [name for name in names if name in pictures]


def _save(figure: "Figure", folder: Path, name: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing")  # shown as a box
            for suffix, metadata in METADATA.items():
                figure.savefig(folder / f"{name}.{suffix}", metadata=metadata)
    except OSError as err:
        raise UserError(
            f"{folder}: cannot be written ({err.strerror}). Make room or mend it, and start again."
        ) from None


def short(text: str, longest: int = LONGEST) -> str:
    """A name that leaves room for what it names."""
    text = plain(text)
    return text if len(text) <= longest else text[: longest - 3] + "..."


def colour_of(level: str, number: int) -> str:
    return COLOURS.get(level, MORE_COLOURS[number % len(MORE_COLOURS)])


def marker_of(number: int) -> str:
    return MARKERS[number % len(MARKERS)]
