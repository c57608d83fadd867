"""What the tables compare: the levels of an axis differ in one thing, and the axis says what else must be equal."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import takewhile

from eval.scoring.scores import SUPERGLUE, Score
from targen.config.arms import ARMS
from targen.config.losses import LOSSES

Labels = tuple[tuple[str, str], ...]  # (name, value), in the order of a table's columns


@dataclass(frozen=True)
class ComparisonAxis:
    """What a table compares. `level` is None for a score that is not part of the table; `labels` say what else must be equal.

    `synthesis` says how the synthetic rows of a score were made, if it has any. There is a group for each way of making them,
    and scores without synthetic rows are in all of these groups.
    """

    name: str
    title: str
    level: Callable[[Score], str | None]
    labels: Callable[[Score], Labels]
    order: tuple[str, ...] = ()
    all_tasks: bool = False  # whether tasks without scores have a line too
    references: tuple[str, ...] = ()  # the others are compared with the first of these that was run
    min_levels: int = 1  # how many kinds of levels a group needs
    synthesis: Callable[[Score], Labels] | None = None
    level_kind: Callable[[str], str] = str  # of a level, for `min_levels`

    def ordered(self, levels: Iterable[str]) -> tuple[str, ...]:
        """Distinct levels in the order of the axis, unknown ones last."""
        distinct = set(levels)
        ranked = [level for level in self.order if level in distinct]
        return (*ranked, *sorted(distinct - set(ranked)))


def arm_level(score: Score) -> str:
    """The arm, with the number of demonstrations if there are any."""
    return f"{score.arm}, {score.shots} shots" if score.shots else score.arm


def model_labels(score: Score) -> Labels:
    """The labels that identify model, training setting and way of scoring."""
    return ("model", score.model), ("setting", score.setting), ("scoring", score.scoring)


def synthesis_labels(score: Score) -> Labels:
    """How the synthetic rows were made; empty if there are none."""
    if score.method is None:
        return ()
    selection = f", {_selection_text(score.selection)}" if score.selection else ""
    return (("synthetic rows", _synthesis_text(score) + selection),)


def _synthesis_text(score: Score) -> str:
    return f"{score.method}, self-correction {score.self_correct}, by {score.generator}"


def _superglue(level: Callable[[Score], str | None]) -> Callable[[Score], str | None]:
    return lambda score: level(score) if score.benchmark == SUPERGLUE else None


def _labels_without(score: Score, *parts: str) -> Labels:
    """All that identifies a score but these parts of its setting, whose names train/grid/cells.py joins."""
    setting = "-".join(part for part in score.setting.split("-") if part not in parts)
    labels = ("model", score.model), ("setting", setting), ("scoring", score.scoring), ("arm", arm_level(score))
    return (*labels, *synthesis_labels(score))


def loss_level(score: Score) -> str | None:
    """The loss; None without synthetic rows, which are all that it weights."""
    return None if score.method is None else next((part for part in score.setting.split("-") if part in LOSSES), "ce")


def _selection_level(score: Score) -> str | None:
    if score.method is None:
        return None
    return _selection_text(score.selection) if score.selection else ALL_ROWS


def _selection_labels(score: Score) -> Labels:
    """Which synthetic rows were kept, where not all were."""
    return (("selection", _selection_text(score.selection)),) if score.selection else ()


def _selection_text(selection: str) -> str:
    """`75% by checker` for checker75."""
    criterion = "".join(takewhile(str.isalpha, selection))
    return f"{selection.removeprefix(criterion)}% by {criterion}"


def _method_level(score: Score) -> str | None:
    return None if score.method is None else f"{score.method} (self-correction {score.self_correct})"


METHODS = (
    "targen",
    "targen_hard",
    "zero_shot",
    "zero_shot_topic",
    "one_shot",
    "few_shot",
    "attrprompt",
    "self_instruct",
    "paraphrase",
)
ALL_ROWS = "all rows"
CORRECTIONS = ("paper", "drop", "vote", "off")
MAIN = "original_vs_synthetic"  # the table in the figures and at the top of the page
AXES = (
    ComparisonAxis(
        name=MAIN,
        title="Training on original and on synthetic rows",
        level=_superglue(arm_level),
        labels=model_labels,
        order=tuple(ARMS),
        all_tasks=True,
        references=("original", "none"),
        synthesis=synthesis_labels,
    ),
    ComparisonAxis(
        name="instructions",
        title="With and without instructions",
        level=_superglue(lambda score: "with instructions" if score.instruct else "without"),
        labels=lambda score: _labels_without(score, "instruct"),
        order=("without", "with instructions"),
        references=("without",),
        min_levels=2,
    ),
    ComparisonAxis(
        name="losses",
        title="Weighted losses",
        level=_superglue(loss_level),
        labels=lambda score: _labels_without(score, *LOSSES),
        order=tuple(LOSSES),
        references=("ce",),
        min_levels=2,
    ),
    ComparisonAxis(
        name="selection",
        title="Selection of synthetic rows",
        level=_superglue(_selection_level),
        labels=lambda score: (*model_labels(score), ("arm", score.arm), ("synthetic rows", _synthesis_text(score))),
        order=(ALL_ROWS,),
        references=(ALL_ROWS,),
        min_levels=2,
    ),
    ComparisonAxis(
        name="self_correction",
        title="Self-correction of the synthetic rows",
        level=_superglue(lambda score: score.self_correct),
        labels=lambda score: (
            *model_labels(score),
            ("arm", score.arm),
            ("synthetic rows", f"{score.method}, by {score.generator}"),
            *_selection_labels(score),
        ),
        order=CORRECTIONS[::-1],
        references=("off", "paper"),
        min_levels=2,
    ),
    ComparisonAxis(
        name="methods",
        title="Methods of generation",
        level=_superglue(_method_level),
        labels=lambda score: (
            *model_labels(score),
            ("arm", score.arm),
            ("generator", str(score.generator)),
            *_selection_labels(score),
        ),
        order=tuple(f"{method} (self-correction {how})" for method in METHODS for how in CORRECTIONS),
        references=tuple(f"targen (self-correction {how})" for how in CORRECTIONS),
        min_levels=2,
        level_kind=lambda level: level.split(" (")[0],
    ),
    ComparisonAxis(
        name="openllm",
        title="OpenLLM leaderboard",
        level=lambda score: score.arm if score.benchmark != SUPERGLUE else None,
        labels=lambda score: (("suite", score.benchmark), ("model", score.model), ("setting", score.setting)),
        order=tuple(ARMS),
        references=("self_instruct", "original", "none"),
        synthesis=synthesis_labels,
    ),
)
