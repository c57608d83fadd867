"""Rows of a task from one source, and samples of them."""

import logging
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import TypeVar

from targen.config.arms import ArmName
from targen.config.original_data import original_train_task
from targen.config.settings import Settings
from targen.data.original import original_train_split, read_rows
from targen.runtime.errors import UserError
from targen.runtime.randomness import rng
from targen.tasks.task import Example, Row, Task

log = logging.getLogger(__name__)
Item = TypeVar("Item")


@dataclass(frozen=True)
class TaskRows:
    """Rows of one task from one source. `task` is the one whose format they have: RTE for AX-g's original rows."""

    task: Task
    rows: tuple[Row, ...]
    real: bool
    blank: bool = False  # with empty texts instead of their own: what the labels alone tell

    def examples(self) -> list[Example]:
        """The examples of all rows, in their order."""
        examples = [example for row in self.rows for example in self.task.examples(row)]
        return [_blanked(example) for example in examples] if self.blank else examples


def _blanked(example: Example) -> Example:
    return replace(example, fields=dict.fromkeys(example.fields, ""))


def original_rows(settings: Settings, task: Task) -> TaskRows | None:
    """All original training rows of the task, or of its stand-in; None: the run fell back to the fixture, which has none."""
    stand_in = original_train_task(settings, task)
    split = original_train_split(settings.data, stand_in)
    return None if split is None else TaskRows(stand_in, split.rows, real=True)


def drawn_original_rows(settings: Settings, task: Task, count: int, draws: Random) -> TaskRows | None:
    """`count` original training rows, each label in proportion; all if there are fewer, with a warning."""
    original = original_rows(settings, task)
    if original is None:
        return None
    if count > len(original.rows):
        log.warning(
            "train: %d original rows of %s requested, but there are only %d",
            count,
            original.task.name,
            len(original.rows),
        )
    return sample_by_label(original, count, draws)


def synthetic_rows(settings: Settings, task: Task, seed: int) -> TaskRows:
    """The task's synthetic rows, at most train.max_rows. Raises: UserError if they have not been generated."""
    path = settings.paths.synthetic(task.name) / "train.jsonl"
    if not path.is_file():
        raise UserError(f"{path}: is missing, expected the synthetic rows of {task.name}. Run phases=[generate] first.")
    return TaskRows(task, at_most(settings, read_rows(path, task), task, "synthetic", seed), real=False)


def at_most(settings: Settings, rows: tuple[Row, ...], task: Task, arm: ArmName, seed: int) -> tuple[Row, ...]:
    """All rows, or train.max_rows of them drawn by the cell's seed, in their order."""
    count = settings.train.max_rows
    if count is None or len(rows) <= count:
        return rows
    picked = rng(seed, task.name, arm, "rows").sample(range(len(rows)), count)
    return tuple(rows[index] for index in sorted(picked))


def sample_by_label(source: TaskRows, count: int, draws: Random) -> TaskRows:
    """`count` of the rows, each label in proportion."""
    labels = [source.task.label_of(row) for row in source.rows]
    return replace(source, rows=stratified_sample(source.rows, labels, count, draws))


def stratified_sample(items: Sequence[Item], strata: Sequence[Hashable], count: int, draws: Random) -> tuple[Item, ...]:
    """`count` items in their order, each stratum in proportion by largest remainder; all if there are fewer."""
    if count >= len(items):
        return tuple(items)
    indices: dict[Hashable, list[int]] = {}
    for index, stratum in enumerate(strata):
        indices.setdefault(stratum, []).append(index)
    quotas = apportion([len(members) for members in indices.values()], count)
    kept = [
        index for members, quota in zip(indices.values(), quotas, strict=True) for index in draws.sample(members, quota)
    ]
    return tuple(items[index] for index in sorted(kept))


def apportion(sizes: Sequence[int], count: int) -> list[int]:
    """`count` divided in proportion to the sizes by largest remainder; of equal remainders the first wins."""
    divided = [divmod(size * count, sum(sizes)) for size in sizes]
    short = count - sum(quota for quota, _ in divided)
    largest = sorted(range(len(sizes)), key=lambda index: (-divided[index][1], index))[:short]
    return [quota + (index in largest) for index, (quota, _) in enumerate(divided)]
