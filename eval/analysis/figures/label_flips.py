"""Whether the labels are right: what self-correction changed, and beside it who agrees with them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from eval.analysis.figures.panels import HEAD, TITLE, head, interval, level_of, sign, title_of
from eval.figures.style import GREY, WIDTH, short
from targen.runtime.jsonl import Json

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LINE, GAP, MARGIN = 0.19, 0.5, 0.7  # inches of a line; lines between tasks; inches around


@dataclass(frozen=True)
class LabelLine:
    """What was judged of a task, or of the rows of one of its labels."""

    task: str
    label: str
    flips: Json | None
    agreement: list[Json]
    people: Json | None
    scores: list[float]  # of the same classifiers on original rows


def flips(analyses: Sequence[Json]) -> Callable[[], "Figure"] | None:
    lines = [line for one in analyses for line in _label_lines(one)]
    return partial(_flips_figure, analyses, lines) if lines else None


def _label_lines(analysis: Json) -> list[LabelLine]:
    """The task, and below it its labels; none where nobody judged."""
    measures = {
        one["name"]: one["b"] for one in analysis["measures"] if one["part"] == "correctness" and one["b"] is not None
    }
    cells = [name.removeprefix("agreement ") for name in analysis["details"] if name.startswith("agreement ")]
    human = analysis["details"].get("human")
    scores = [
        score for cell in cells if (score := analysis["details"][f"agreement {cell}"]["score_on_original"]) is not None
    ]
    found = []
    for label in ("", *analysis["sets"]["b"]["labels"]):
        ending = f".{label}" if label else ""
        agreement = [measures[name] for cell in cells if (name := f"agreement.{cell}{ending}") in measures]
        own = LabelLine(title_of(analysis), label, measures.get(f"flips{ending}"), agreement, None, [])
        found.append(own if label else replace(own, people=human, scores=scores))
    return found if measures or human else []


def _flips_figure(analyses: Sequence[Json], lines: Sequence[LabelLine]) -> "Figure":
    """Lines of a task stand together, the task itself before its labels."""
    from matplotlib.figure import Figure

    places, place = [], -1.0
    for one in lines:
        place += 1 if one.label else 1 + GAP
        places.append(place)
    drawn = [(title, draw) for title, draw, some in (
        ("changed by self-correction", _changed, any(one.flips for one in lines)),
        ("classifiers trained on original rows agree", _agreed, any(one.agreement or one.people for one in lines)),
    ) if some]  # fmt: skip
    figure = Figure(figsize=(WIDTH, HEAD + MARGIN + LINE * (places[-1] + 1)), layout="constrained")
    axes = figure.subplots(1, len(drawn), squeeze=False)[0]
    for ax, (title, draw) in zip(axes, drawn, strict=True):
        for place, one in zip(places, lines, strict=True):
            draw(ax, place, one)
        ax.set_title(title, loc="left", fontsize=8)
        ax.set_yticks(
            places, [short(one.label, TITLE) or one.task for one in lines] if ax is axes[0] else [""] * len(lines)
        )
        ax.set_ylim(places[-1] + 0.6, places[0] - 0.6)
        ax.tick_params(axis="y", length=0)
        ax.margins(x=0.06)
        ax.set_xlim(left=-0.03 * ax.get_xlim()[1])
        ax.set_xlabel("percent of the judged" if draw is _changed else "percent of the rows")
    for text, one in zip(axes[0].get_yticklabels(), lines, strict=True):
        text.set_fontweight("normal" if one.label else "bold")
    more = [sign("people agree", "D")] * any(one.people for one in lines)
    more += [sign("the classifier's own score on original rows", "|")] * any(one.scores for one in lines)
    head(figure, f"Are the labels of the synthetic rows right? Bars: {level_of(analyses)} intervals", {}, more)
    return figure


def _changed(ax: "Axes", place: float, one: LabelLine) -> None:
    if one.flips is not None:
        interval(ax, place, one.flips, "b", 100.0, filled=True, size=3.0 if one.label else 5.0)


def _agreed(ax: "Axes", place: float, one: LabelLine) -> None:
    for number, found in enumerate(one.agreement):
        size = 3.0 if one.label or len(one.agreement) > 1 else 5.0
        shift = (number - (len(one.agreement) - 1) / 2) * 0.7 / len(one.agreement)
        interval(ax, place + shift, found, "b", 100.0, filled=True, size=size)
    for score in one.scores:
        ax.plot([100 * score], [place], "|", color=GREY, markersize=11, markeredgewidth=1.5)
    if one.people is not None:
        low, high = 100 * one.people["low"], 100 * one.people["high"]
        ax.plot([low, high], [place - 0.3] * 2, color=GREY, linewidth=1.3)
        ax.plot([100 * one.people["value"]], [place - 0.3], "D", color=GREY, markersize=4)
