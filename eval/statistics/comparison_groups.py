"""Results laid out to be compared: a block holds what differs in one thing only, its levels, and is equal in the rest."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from eval.scoring.results import SUPERGLUE, Result, Score, task_order
from targen.runtime.errors import UserError

ARMS = ("none", "original", "synthetic", "mixed", "self_instruct")
Labels = tuple[tuple[str, str], ...]  # (what, which), in the order of a table's columns


@dataclass(frozen=True)
class Entry:
    """One recipe on one task: its results by metric, each by seed."""

    metrics: dict[str, tuple[Result, ...]]

    @property
    def first(self) -> Score:
        return self.results[0].score

    @property
    def results(self) -> tuple[Result, ...]:
        """Of the first metric."""
        return next(iter(self.metrics.values()))

    @property
    def unparsed(self) -> int:
        """Answers that could not be read, of all seeds."""
        return sum(result.score.unparsed for result in self.results)

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(result.score.seed for result in self.results)

    def of_seed(self, seed: int) -> list[Result]:
        return [result for own in self.metrics.values() for result in own if result.score.seed == seed]


@dataclass(frozen=True)
class Block:
    """What is equal (`labels`), and per task the entry of each level that was run."""

    labels: Labels
    levels: tuple[str, ...]
    tasks: dict[str, dict[str, Entry]]

    @property
    def name(self) -> str:
        return ", ".join(which for _, which in self.labels)


@dataclass(frozen=True)
class Factor:
    """What a table compares. `level` of a result is None where it has no part in it; `labels` say what else must be equal.

    `made` (of results that have synthetic rows) is how these were made: such results make a block for each way, with the
    others beside them in every one.
    """

    name: str
    title: str
    level: Callable[[Score], str | None]
    labels: Callable[[Score], Labels]
    order: tuple[str, ...] = ()
    always: tuple[str, ...] = ()  # levels that have a column even where they were not run
    references: tuple[str, ...] = ()  # with what the others are compared: the first of these that was run
    least: int = 1  # kinds of levels that a block must have
    made: Callable[[Score], Labels] | None = None
    kind: Callable[[str], str] = str  # of a level, for `least`


def blocks(factor: Factor, results: Sequence[Result]) -> list[Block]:
    """The blocks of a table in a fixed order.

    The same cell may stand in several runs: with equal scores it counts once; with others the block is made for each run.
    Of several sizes of a training set the largest that all have is taken, else each one's largest.
    Raises: UserError where a line would mix results on different evaluation data.
    """
    groups: dict[Labels, list[Result]] = defaultdict(list)
    for result in results:
        if factor.level(result.score) is not None:
            groups[factor.labels(result.score)].append(result)
    found = []
    for labels, own in sorted(groups.items()):
        for run, part in one_of_each(own):
            for how, members in _by_making(factor, part):
                where = (*labels, *how, *((("run", run),) if run else ()))
                block = _block(factor, where, members)
                if len({factor.kind(level) for level in block.levels}) >= factor.least:
                    found.append(block)
    return found


def one_of_each(results: Sequence[Result]) -> list[tuple[str | None, list[Result]]]:
    """All together, each score once; or run by run, where two runs have different scores of the same recipe and seed."""
    seen: dict[tuple[object, ...], Result] = {}
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


def _by_making(factor: Factor, results: list[Result]) -> list[tuple[Labels, list[Result]]]:
    if factor.made is None:
        return [((), results)]
    ways = sorted({way for result in results if (way := factor.made(result.score))})
    return [(way, [result for result in results if factor.made(result.score) in (way, ())]) for way in ways or [()]]


def _block(factor: Factor, labels: Labels, results: list[Result]) -> Block:
    members: dict[str, dict[str, list[Result]]] = defaultdict(lambda: defaultdict(list))
    for result in results:
        members[result.score.task][factor.level(result.score) or ""].append(result)
    tasks = {task: _of_one_size(members[task]) for task in task_order(members)}
    for task, levels in tasks.items():
        check_same_rows(task, list(levels.values()))
    seen = {level for levels in tasks.values() for level in levels}
    known = [level for level in factor.order if level in seen]
    return Block(labels, (*known, *sorted(seen - set(known))), tasks)


def _of_one_size(levels: Mapping[str, list[Result]]) -> dict[str, Entry]:
    """The entries of a task: of several sizes of a training set the largest that all levels have, else each one's largest."""
    sizes = [{rows for result in own if (rows := result.score.train_rows) is not None} for own in levels.values()]
    trained = [own for own in sizes if own]
    shared = set.intersection(*trained) if trained else set()
    found = {}
    for level, own in levels.items():
        kept = [result for result in own if shared and result.score.train_rows == max(shared)] or own
        most = max(size(result.score) for result in kept)
        found[level] = entry([result for result in kept if size(result.score) == most])
    return found


def size(score: Score) -> tuple[int, int]:
    return score.train_rows or 0, score.real_rows or 0


def entry(results: Sequence[Result]) -> Entry:
    """The results of one recipe on one task. Raises: UserError where two are of the same seed."""
    metrics: dict[str, dict[int, Result]] = defaultdict(dict)
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
    return Entry(ordered)


SAME_ROWS = ("origin", "rows", "n", "evaluated", "is_fixture", "harness", "task_version")


def check_same_rows(task: str, entries: Sequence[Entry]) -> None:
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


def place(result: Result) -> str:
    return f"{result.score.cell} ({result.root})"


def arm_level(score: Score) -> str:
    return f"{score.arm}, {score.shots} shots" if score.shots else score.arm


def frame(score: Score) -> Labels:
    return ("model", score.model), ("setting", score.setting), ("scoring", score.scoring)


def making(score: Score) -> Labels:
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
FACTORS = (
    Factor(
        name="original_vs_synthetic",
        title="Trained on the original and on synthetic rows",
        level=_superglue(arm_level),
        labels=frame,
        order=ARMS,
        always=("original", "synthetic"),
        references=("original", "none"),
        made=making,
    ),
    Factor(
        name="instructions",
        title="With and without instructions",
        level=_superglue(lambda score: "with instructions" if score.instruct else "without"),
        labels=lambda score: (*_without_instruct(score), *making(score)),
        order=("without", "with instructions"),
        references=("without",),
        least=2,
    ),
    Factor(
        name="self_correction",
        title="Self-correction of the synthetic rows",
        level=_superglue(lambda score: score.self_correct),
        labels=lambda score: (
            *frame(score),
            ("arm", score.arm),
            ("synthetic rows", f"{score.method}, by {score.generator}"),
        ),
        order=CORRECTIONS[::-1],
        references=("off", "paper"),
        least=2,
    ),
    Factor(
        name="methods",
        title="Methods of generation",
        level=_superglue(_method_level),
        labels=lambda score: (*frame(score), ("arm", score.arm), ("generator", str(score.generator))),
        order=tuple(f"{method} (self-correction {how})" for method in METHODS for how in CORRECTIONS),
        references=tuple(f"targen (self-correction {how})" for how in CORRECTIONS),
        least=2,
        kind=lambda level: level.split(" (")[0],
    ),
    Factor(
        name="openllm",
        title="OpenLLM leaderboard",
        level=lambda score: score.arm if score.benchmark != SUPERGLUE else None,
        labels=lambda score: (("suite", score.benchmark), ("model", score.model), ("setting", score.setting)),
        order=ARMS,
        references=("self_instruct", "original", "none"),
        made=making,
    ),
)
