"""Whether the labels are right: how many self-correction changed, and who agrees with them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from eval.analysis.figures.panels import HEAD, TITLE, head, interval, legend_entry, level_of, title_of
from eval.figures.style import GREY, WIDTH, shift, short
from targen.runtime.jsonl import Json

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LINE, GAP, MARGIN = 0.19, 0.5, 0.7  # inches per line; lines between tasks; inches around the panels


@dataclass(frozen=True)
class LabelLine:
    """The shares of one line: of a whole task (`label` is empty), or of its rows with one label."""

    task: str
    label: str
    flips: Json | None
    agreement: list[Json]
    people: Json | None
    scores: list[float]  # of the same classifiers on original rows


def flips(analyses: Sequence[Json]) -> Callable[[], "Figure"] | None:
    """Draws how often self-correction changed each label, and how often classifiers agree; None if nothing was measured."""
    lines = [line for analysis in analyses for line in _label_lines(analysis)]
    return partial(_flips_figure, analyses, lines) if lines else None


def _label_lines(analysis: Json) -> list[LabelLine]:
    """A line for the task, then one per label; no lines if nothing was judged."""
    measures = {
        measure["name"]: measure["b"]
        for measure in analysis["measures"]
        if measure["part"] == "correctness" and measure["b"] is not None
    }
    cells = [name.removeprefix("agreement ") for name in analysis["details"] if name.startswith("agreement ")]
    human = analysis["details"].get("human")
    scores = [
        score for cell in cells if (score := analysis["details"][f"agreement {cell}"]["score_on_original"]) is not None
    ]
    label_lines = []
    for label in ("", *analysis["sets"]["b"]["labels"]):
        ending = f".{label}" if label else ""
        agreement = [measures[name] for cell in cells if (name := f"agreement.{cell}{ending}") in measures]
        line = LabelLine(title_of(analysis), label, measures.get(f"flips{ending}"), agreement, None, [])
        label_lines.append(line if label else replace(line, people=human, scores=scores))
    return label_lines if measures or human else []


def _flips_figure(analyses: Sequence[Json], lines: Sequence[LabelLine]) -> "Figure":
    """One panel or two with the same lines: the lines of a task together, the whole task first."""
    from matplotlib.figure import Figure

    heights, height = [], -1.0
    for line in lines:
        height += 1 if line.label else 1 + GAP
        heights.append(height)
    panels = [(title, draw) for title, draw, has_content in (
        ("changed by self-correction", _draw_flips, any(line.flips for line in lines)),
        ("classifiers trained on original rows agree", _draw_agreement, any(line.agreement or line.people for line in lines)),
    ) if has_content]  # fmt: skip
    figure = Figure(figsize=(WIDTH, HEAD + MARGIN + LINE * (heights[-1] + 1)), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for ax, (title, draw) in zip(axes, panels, strict=True):
        for height, line in zip(heights, lines, strict=True):
            draw(ax, height, line)
        ax.set_title(title, loc="left", fontsize=8)
        ax.set_yticks(
            heights, [short(line.label, TITLE) or line.task for line in lines] if ax is axes[0] else [""] * len(lines)
        )
        ax.set_ylim(heights[-1] + 0.6, heights[0] - 0.6)
        ax.tick_params(axis="y", length=0)
        ax.margins(x=0.06)
        ax.set_xlim(left=-0.03 * ax.get_xlim()[1])
        ax.set_xlabel("percent of the judged" if draw is _draw_flips else "percent of the rows")
    for text, line in zip(axes[0].get_yticklabels(), lines, strict=True):
        text.set_fontweight("normal" if line.label else "bold")
    entries = [legend_entry("people agree", "D")] * any(line.people for line in lines)
    entries += [legend_entry("the classifier's own score on original rows", "|")] * any(line.scores for line in lines)
    head(figure, f"Are the labels of the synthetic rows right? Bars: {level_of(analyses)} intervals", {}, entries)
    return figure


def _draw_flips(ax: "Axes", height: float, line: LabelLine) -> None:
    if line.flips is not None:
        interval(ax, height, line.flips, "b", 100.0, filled=True, size=3.0 if line.label else 5.0)


def _draw_agreement(ax: "Axes", height: float, line: LabelLine) -> None:
    for number, estimate in enumerate(line.agreement):
        size = 3.0 if line.label or len(line.agreement) > 1 else 5.0
        y = height + shift(number, len(line.agreement))
        interval(ax, y, estimate, "b", 100.0, filled=True, size=size)
    for score in line.scores:
        ax.plot([100 * score], [height], "|", color=GREY, markersize=11, markeredgewidth=1.5)
    if line.people is not None:
        low, high = 100 * line.people["low"], 100 * line.people["high"]
        ax.plot([low, high], [height - 0.3] * 2, color=GREY, linewidth=1.3)
        ax.plot([100 * line.people["value"]], [height - 0.3], "D", color=GREY, markersize=4)
