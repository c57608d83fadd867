"""The rows of an arm: original, synthetic, or mixed; at equal size where arms are to be compared."""

import logging
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import TypeVar

from targen.config.arms import ArmName
from targen.config.original_data import original_train_task
from targen.config.settings import Settings
from targen.data.original import eval_split, original_train_split, read_rows, spread
from targen.runtime.errors import UserError
from targen.synthesis.slots import rng
from targen.tasks.task import Row, Task
from train.grid.cells import Cell

log = logging.getLogger(__name__)
Item = TypeVar("Item")


@dataclass(frozen=True)
class Part:
    """Rows of one task from one source. `task` is the one whose format they have: for AX-g's original rows RTE."""

    task: Task
    rows: tuple[Row, ...]
    real: bool
    blank: bool = False  # with empty texts in place of the rows' own: what a label alone tells


def arms_of_tasks(settings: Settings) -> list[ArmName]:
    """The arms whose rows are those of a task."""
    return [arm for arm in settings.arms if arm not in ("none", "self_instruct")]


def training_parts(settings: Settings, cell: Cell) -> tuple[Part, ...] | None:
    """The rows that a cell is trained on.

    None: rows of the original data in a run that fell back to the fixture, which has no training rows.
    Raises: UserError where rows are missing that should be there.
    """
    if cell.arm == "self_instruct":
        return (_instructions(settings, cell),)
    found: list[Part] = []
    for name in cell.tasks:
        task = settings.tasks[name]
        parts = _sized(settings, task, cell.arm, cell.seed)
        if parts is None:
            return None
        # RTE's rows stand in for AX-g's; where RTE itself is in the mixture they are there already
        found += [part for part in parts if part.task.name == name or part.task.name not in cell.tasks]
    return tuple(found)


def _instructions(settings: Settings, cell: Cell) -> Part:
    """Instruction data instead of the tasks' rows: as many as the smallest other arm has in all with train.equal_size,
    else all, or train.max_rows for each task of the mixture."""
    from train.grid.self_instruct import instruction_rows, spec

    train = settings.train
    if not train.equal_size:
        count = None if train.max_rows is None else train.max_rows * len(cell.tasks)
        return Part(spec(), instruction_rows(settings, cell.seed, count), real=False)
    others = [training_parts(settings, replace(cell, arm=arm)) for arm in arms_of_tasks(settings)]
    count = min(sum(len(part.rows) for part in parts) for parts in others if parts is not None)
    rows = instruction_rows(settings, cell.seed, count)
    if len(rows) < count:
        raise UserError(
            f"train.equal_size: got true, but {settings.data.self_instruct} has {len(rows)} rows and the other arms have {count}. "
            f"Set train.max_rows={max(1, len(rows) // len(cell.tasks))}, or train.equal_size=false."
        )
    return Part(spec(), rows, real=False)


def hold_out(settings: Settings, cell: Cell, parts: tuple[Part, ...]) -> tuple[tuple[Part, ...], tuple[Part, ...]]:
    """(rows to train on, rows for validation), both in their order; without validation all are trained on.

    The cell's seed draws whole instances from each part of its own rows: synthetic ones of a synthetic arm, so that
    nothing real is seen. The rows that are reported are used only when asked for by name.
    Raises: UserError where there are too few.
    """
    train = settings.train
    if train.validate_every is None:
        return parts, ()
    if train.validate_on == "evaluation":
        tasks = [settings.tasks[name] for name in cell.tasks]
        splits = [eval_split(settings.data, task) for task in tasks]
        return parts, tuple(
            Part(task, spread(split.rows, settings.eval.max_rows, task.rows_per_slot), real=True)
            for task, split in zip(tasks, splits, strict=True)
        )
    both = [_divided(part, train.hold_out, cell) for part in parts]
    held = tuple(part for _, part in both if part.rows)
    if not held:
        count = sum(len(part.rows) for part in parts)
        raise UserError(
            f"train.hold_out: {cell.name} has {count} rows, too few to hold any out. Set train.validate_every=null."
        )
    return tuple(part for part, _ in both), held


def _divided(part: Part, share: float, cell: Cell) -> tuple[Part, Part]:
    """The part without the instances that are held out, and these; none of a part that would be left without any."""
    instances = len(part.rows) // part.task.rows_per_slot
    count = max(1, round(share * instances))
    draws = rng(cell.seed, part.task.name, cell.arm, "held out", part.real)
    drawn = set(draws.sample(range(instances), count)) if count < instances else set()
    out = [place // part.task.rows_per_slot in drawn for place in range(len(part.rows))]
    kept, held = (
        tuple(row for row, is_out in zip(part.rows, out, strict=True) if is_out == side) for side in (False, True)
    )
    return replace(part, rows=kept), replace(part, rows=held)


def real_part(settings: Settings, task: Task, count: int, draws: Random) -> Part | None:
    """So many original training rows, each label its share; all where there are fewer, with a warning."""
    spec = original_train_task(settings, task)
    split = original_train_split(settings.data, spec)
    if split is None:
        return None
    if count > len(split.rows):
        log.warning("train: %d original rows of %s were asked for, there are %d", count, spec.name, len(split.rows))
    return _cut(Part(spec, split.rows, real=True), count, draws)


def synthetic_part(settings: Settings, task: Task, seed: int) -> Part:
    """The task's synthetic rows. Raises: UserError where they were not made yet."""
    path = settings.paths.synthetic(task.name) / "train.jsonl"
    if not path.is_file():
        raise UserError(f"{path}: not there, expected the synthetic rows of {task.name}. Run phases=[generate] first.")
    return Part(task, _at_most(settings, read_rows(path, task), task, "synthetic", seed), real=False)


def _sized(settings: Settings, task: Task, arm: ArmName, seed: int) -> tuple[Part, ...] | None:
    """The arm's rows; with train.equal_size as many as the smallest arm of the run has, each source and label its share."""
    own = _arm(settings, task, arm, seed)
    if own is None or not settings.train.equal_size:
        return own
    arms = [own if other == arm else _arm(settings, task, other, seed) for other in arms_of_tasks(settings)]
    smallest = min(sum(len(part.rows) for part in parts) for parts in arms if parts is not None)
    quotas = shares([len(part.rows) for part in own], smallest)
    return tuple(
        _cut(part, quota, rng(seed, task.name, arm, "equal size", number))
        for number, (part, quota) in enumerate(zip(own, quotas, strict=True))
    )


def _cut(part: Part, count: int, draws: Random) -> Part:
    """So many rows of the part, each label its share."""
    labels = [part.task.label_of(row) for row in part.rows]
    return replace(part, rows=stratified(part.rows, labels, count, draws))


def _arm(settings: Settings, task: Task, arm: ArmName, seed: int) -> tuple[Part, ...] | None:
    if arm == "synthetic":
        return (synthetic_part(settings, task, seed),)
    if arm == "original":
        spec = original_train_task(settings, task)
        split = original_train_split(settings.data, spec)
        return None if split is None else (Part(spec, _at_most(settings, split.rows, task, arm, seed), real=True),)
    synthetic = synthetic_part(settings, task, seed)
    count = mixed_count(settings.train.mixed_original, len(synthetic.rows))
    real = real_part(settings, task, count, rng(seed, task.name, arm, "original"))
    return None if real is None else (real, synthetic)


def mixed_count(asked: int | str, synthetic: int) -> int:
    """Original rows of the mixed arm: at least one."""
    return asked if isinstance(asked, int) else max(1, round(synthetic * int(asked.removesuffix("%")) / 100))


def _at_most(settings: Settings, rows: tuple[Row, ...], task: Task, arm: ArmName, seed: int) -> tuple[Row, ...]:
    """All rows, or train.max_rows of them drawn by the cell's seed, in their order."""
    count = settings.train.max_rows
    if count is None or len(rows) <= count:
        return rows
    picked = rng(seed, task.name, arm, "rows").sample(range(len(rows)), count)
    return tuple(rows[place] for place in sorted(picked))


def stratified(items: Sequence[Item], strata: Sequence[Hashable], count: int, draws: Random) -> tuple[Item, ...]:
    """`count` items in their order, of every stratum its share, the largest remainders rounded up; all where there are fewer."""
    if count >= len(items):
        return tuple(items)
    places: dict[Hashable, list[int]] = {}
    for place, stratum in enumerate(strata):
        places.setdefault(stratum, []).append(place)
    quotas = shares([len(own) for own in places.values()], count)
    kept = [place for own, quota in zip(places.values(), quotas, strict=True) for place in draws.sample(own, quota)]
    return tuple(items[place] for place in sorted(kept))


def shares(sizes: Sequence[int], count: int) -> list[int]:
    """`count` divided in proportion to the sizes, by largest remainder, the first of equal ones before."""
    whole = [divmod(size * count, sum(sizes)) for size in sizes]
    short = count - sum(quota for quota, _ in whole)
    largest = sorted(range(len(sizes)), key=lambda place: (-whole[place][1], place))[:short]
    return [quota + (place in largest) for place, (quota, _) in enumerate(whole)]
