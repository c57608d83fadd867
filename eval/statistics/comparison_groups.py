"""Results laid out to be compared: a group holds what differs in one thing only, its levels, and is equal in the rest."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from eval.scoring.runs import SUPERGLUE, RunScore, Score, task_order
from targen.runtime.errors import UserError

ARMS = ("none", "original", "synthetic", "mixed", "self_instruct")
Labels = tuple[tuple[str, str], ...]  # (what, which), in the order of a table's columns


@dataclass(frozen=True)
class SeedScores:
    """One recipe on one task: its results by metric, each by seed."""

    metrics: dict[str, tuple[RunScore, ...]]

    @property
    def first(self) -> Score:
        return self.results[0].score

    @property
    def results(self) -> tuple[RunScore, ...]:
        """Of the first metric."""
        return next(iter(self.metrics.values()))

    @property
    def unparsed(self) -> int:
        """Answers that could not be read, of all seeds."""
        return sum(result.score.unparsed for result in self.results)

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(result.score.seed for result in self.results)

    def of_seed(self, seed: int) -> list[RunScore]:
        return [result for own in self.metrics.values() for result in own if result.score.seed == seed]


@dataclass(frozen=True)
class ComparisonGroup:
    """What is equal (`labels`), and per task the entry of each level that was run."""

    labels: Labels
    levels: tuple[str, ...]
    tasks: dict[str, dict[str, SeedScores]]

    @property
    def name(self) -> str:
        return ", ".join(which for _, which in self.labels)


@dataclass(frozen=True)
class ComparisonAxis:
    """What a table compares. `level` of a result is None where it has no part in it; `labels` say what else must be equal.

    `made` (of results that have synthetic rows) is how these were made: such results make a group for each way, with the
    others beside them in every one.
    """

    name: str
    title: str
    level: Callable[[Score], str | None]
    labels: Callable[[Score], Labels]
    order: tuple[str, ...] = ()
    always: tuple[str, ...] = ()  # levels that have a column even where they were not run
    references: tuple[str, ...] = ()  # with what the others are compared: the first of these that was run
    least: int = 1  # kinds of levels that a group must have
    made: Callable[[Score], Labels] | None = None
    kind: Callable[[str], str] = str  # of a level, for `least`


def groups(axis: ComparisonAxis, results: Sequence[RunScore]) -> list[ComparisonGroup]:
    """The groups of a table in a fixed order.

    The same cell may stand in several runs: with equal scores it counts once; with others the group is made for each run.
    Of several sizes of a training set the largest that all have is taken, else each one's largest.
    Raises: UserError where a line would mix results on different evaluation data.
    """
    groups: dict[Labels, list[RunScore]] = defaultdict(list)
    for result in results:
        if axis.level(result.score) is not None:
            groups[axis.labels(result.score)].append(result)
    found = []
    for labels, own in sorted(groups.items()):
        for run, part in one_of_each(own):
            for how, members in _by_making(axis, part):
                where = (*labels, *how, *((("run", run),) if run else ()))
                group = _block(axis, where, members)
                if len({axis.kind(level) for level in group.levels}) >= axis.least:
                    found.append(group)
    return found


def one_of_each(results: Sequence[RunScore]) -> list[tuple[str | None, list[RunScore]]]:
    """All together, each score once; or run by run, where two runs have different scores of the same recipe and seed."""
    seen: dict[tuple[object, ...], RunScore] = {}
    for result in results:
        old = seen.setdefault((*_recipe(result.score), result.score.seed), result)
        if (old.score.value, old.score.evaluated) != (result.score.value, result.score.evaluated):
            runs = dict.fromkeys(one.run for one in results)
            return [(run, [one for one in results if one.run == run]) for run in runs]
    return [(None, list(seen.values()))]


def _recipe(score: Score) -> tuple[object, ...]:
    """All that tells results apart, but for the seed and the run."""
    made = (score.method, score.self_correct, score.generator, score.train_rows, score.real_rows)
    what = (score.benchmark, score.task, score.metric)
    return (*what, score.model, score.setting, score.scoring, score.shots, score.arm, *made)


def _by_making(axis: ComparisonAxis, results: list[RunScore]) -> list[tuple[Labels, list[RunScore]]]:
    if axis.made is None:
        return [((), results)]
    ways = sorted({way for result in results if (way := axis.made(result.score))})
    return [(way, [result for result in results if axis.made(result.score) in (way, ())]) for way in ways or [()]]


def _block(axis: ComparisonAxis, labels: Labels, results: list[RunScore]) -> ComparisonGroup:
    members: dict[str, dict[str, list[RunScore]]] = defaultdict(lambda: defaultdict(list))
    for result in results:
        members[result.score.task][axis.level(result.score) or ""].append(result)
    tasks = {task: _of_one_size(members[task]) for task in task_order(members)}
    for task, levels in tasks.items():
        check_same_rows(task, list(levels.values()))
    seen = {level for levels in tasks.values() for level in levels}
    known = [level for level in axis.order if level in seen]
    return ComparisonGroup(labels, (*known, *sorted(seen - set(known))), tasks)


def _of_one_size(levels: Mapping[str, list[RunScore]]) -> dict[str, SeedScores]:
    """The entries of a task: of several sizes of a training set the largest that all levels have, else each one's largest."""
    sizes = [{rows for result in own if (rows := result.score.train_rows) is not None} for own in levels.values()]
    trained = [own for own in sizes if own]
    shared = set.intersection(*trained) if trained else set()
    found = {}
    for level, own in levels.items():
        kept = [result for result in own if shared and result.score.train_rows == max(shared)] or own
        most = max(size(result.score) for result in kept)
        found[level] = seed_scores([result for result in kept if size(result.score) == most])
    return found


def size(score: Score) -> tuple[int, int]:
    return score.train_rows or 0, score.real_rows or 0


def seed_scores(results: Sequence[RunScore]) -> SeedScores:
    """The results of one recipe on one task. Raises: UserError where two are of the same seed."""
    metrics: dict[str, dict[int, RunScore]] = defaultdict(dict)
    for result in results:
        old = metrics[result.score.metric].setdefault(result.score.seed, result)
        if old is not result:
            raise UserError(
                f"scores.jsonl: {place(old)} and {place(result)} would share one place of a table, and are different recipes. "
                "Report them apart: name other runs."
            )
    ordered = {metric: tuple(own[seed] for seed in sorted(own)) for metric, own in metrics.items()}
    seeds = [tuple(result.score.seed for result in own) for own in ordered.values()]
    if any(own != seeds[0] for own in seeds):
        raise UserError(
            f"scores.jsonl: {place(results[0])} lacks a metric of {results[0].score.task} that other seeds have. Evaluate again."
        )
    return SeedScores(ordered)


SAME_ROWS = ("origin", "rows", "n", "evaluated", "is_fixture", "harness", "task_version")


def check_same_rows(task: str, entries: Sequence[SeedScores]) -> None:
    """Raises: UserError where results of one line were not obtained on the same rows."""
    every = [result for one in entries for own in one.metrics.values() for result in own]
    first = every[0]
    names = SAME_ROWS if first.score.benchmark == SUPERGLUE else (*SAME_ROWS, "shots")
    for other in every[1:]:
        different = [name for name in names if getattr(first.score, name) != getattr(other.score, name)]
        if different:
            one, two = (
                ", ".join(f"{name} {getattr(result.score, name)}" for name in different) for result in (first, other)
            )
            raise UserError(
                f"scores.jsonl: {task}: {place(first)} was scored on other rows than {place(other)}: {one}; {two}. One line "
                "of a table has one set of rows: evaluate both on the same data, or report them apart."
            )


def place(result: RunScore) -> str:
    return f"{result.score.cell} ({result.root})"


def arm_level(score: Score) -> str:
    return f"{score.arm}, {score.shots} shots" if score.shots else score.arm


def model_labels(score: Score) -> Labels:
    return ("model", score.model), ("setting", score.setting), ("scoring", score.scoring)


def synthesis_labels(score: Score) -> Labels:
    """How the synthetic rows were made; empty where there are none."""
    if score.method is None:
        return ()
    correction = f"self-correction {score.self_correct}"
    return (("synthetic rows", f"{score.method}, {correction}, by {score.generator}"),)


def _superglue(level: Callable[[Score], str | None]) -> Callable[[Score], str | None]:
    return lambda score: level(score) if score.benchmark == SUPERGLUE else None


def _without_instruct(score: Score) -> Labels:
    setting = "-".join(part for part in score.setting.split("-") if part != "instruct")
    return ("model", score.model), ("setting", setting), ("scoring", score.scoring), ("arm", arm_level(score))


def _method_level(score: Score) -> str | None:
    return None if score.method is None else f"{score.method} (self-correction {score.self_correct})"


METHODS = ("targen", "zero_shot", "zero_shot_topic", "one_shot", "few_shot", "attrprompt", "self_instruct")
CORRECTIONS = ("paper", "drop", "vote", "off")
AXES = (
    ComparisonAxis(
        name="original_vs_synthetic",
        title="Trained on the original and on synthetic rows",
        level=_superglue(arm_level),
        labels=model_labels,
        order=ARMS,
        always=("original", "synthetic"),
        references=("original", "none"),
        made=synthesis_labels,
    ),
    ComparisonAxis(
        name="instructions",
        title="With and without instructions",
        level=_superglue(lambda score: "with instructions" if score.instruct else "without"),
        labels=lambda score: (*_without_instruct(score), *synthesis_labels(score)),
        order=("without", "with instructions"),
        references=("without",),
        least=2,
    ),
    ComparisonAxis(
        name="self_correction",
        title="Self-correction of the synthetic rows",
        level=_superglue(lambda score: score.self_correct),
        labels=lambda score: (
            *model_labels(score),
            ("arm", score.arm),
            ("synthetic rows", f"{score.method}, by {score.generator}"),
        ),
        order=CORRECTIONS[::-1],
        references=("off", "paper"),
        least=2,
    ),
    ComparisonAxis(
        name="methods",
        title="Methods of generation",
        level=_superglue(_method_level),
        labels=lambda score: (*model_labels(score), ("arm", score.arm), ("generator", str(score.generator))),
        order=tuple(f"{method} (self-correction {how})" for method in METHODS for how in CORRECTIONS),
        references=tuple(f"targen (self-correction {how})" for how in CORRECTIONS),
        least=2,
        kind=lambda level: level.split(" (")[0],
    ),
    ComparisonAxis(
        name="openllm",
        title="OpenLLM leaderboard",
        level=lambda score: score.arm if score.benchmark != SUPERGLUE else None,
        labels=lambda score: (("suite", score.benchmark), ("model", score.model), ("setting", score.setting)),
        order=ARMS,
        references=("self_instruct", "original", "none"),
        made=synthesis_labels,
    ),
)
