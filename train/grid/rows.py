"""Rows of a task from one source, and samples of them."""

import logging
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from random import Random
from typing import TypeVar

from targen.config.arms import ArmName
from targen.config.original_data import original_train_task
from targen.config.settings import Settings
from targen.data.original import original_train_split, read_rows
from targen.runtime.errors import UserError
from targen.runtime.jsonl import Json
from targen.runtime.randomness import rng
from targen.tasks.task import Example, Row, Task

log = logging.getLogger(__name__)
Item = TypeVar("Item")


@dataclass(frozen=True)
class Selection:
    """What train.select_rows made of the rows: a line for each, kept or not, with its score, and the original rows that it took."""

    lines: tuple[Json, ...]
    original: int


@dataclass(frozen=True)
class TaskRows:
    """Rows of one task from one source. `task` is the one whose format they have: RTE for AX-g's original rows.

    Models are trained on examples, so these are what is counted and sampled; a row may have several (ReCoRD, MultiRC). `only`:
    the ids of those that count, if not all of these rows do.
    """

    task: Task
    rows: tuple[Row, ...]
    real: bool
    blank: bool = False  # with empty texts instead of their own: what the labels alone tell
    only: frozenset[int] | None = None
    selection: Selection | None = None  # None: not selected

    @cached_property
    def count(self) -> int:
        """How many examples there are."""
        return sum(map(self.task.example_count, self.rows)) if self.only is None else len(self._examples)

    def examples(self) -> list[Example]:
        """The examples of all rows, in their order."""
        examples = [example for _, example in self._examples]
        return [_blanked(example) for example in examples] if self.blank else examples

    @property
    def _examples(self) -> list[tuple[int, Example]]:
        """(place of its row, example)."""
        return [
            (row_index, example)
            for row_index, row in enumerate(self.rows)
            for example in self.task.examples(row)
            if self.only is None or example.id in self.only
        ]

    def at(self, positions: Sequence[int]) -> "TaskRows":
        """The examples at these positions, in their order, and the rows that have them."""
        examples = self._examples
        chosen = [examples[position] for position in sorted(positions)]
        rows = tuple(self.rows[row_index] for row_index in dict.fromkeys(row_index for row_index, _ in chosen))
        part = replace(self, rows=rows, only=None)
        return part if part.count == len(chosen) else replace(part, only=frozenset(example.id for _, example in chosen))


def _blanked(example: Example) -> Example:
    return replace(example, fields=dict.fromkeys(example.fields, ""))


def original_rows(settings: Settings, task: Task) -> TaskRows | None:
    """All original training rows of the task, or of its stand-in; None: the run fell back to the fixture, which has none."""
    stand_in = original_train_task(settings, task)
    split = original_train_split(settings.data, stand_in)
    return None if split is None else TaskRows(stand_in, split.rows, real=True)


def drawn_original_rows(settings: Settings, task: Task, count: int, draws: Random) -> TaskRows | None:
    """`count` original training examples, each label in proportion; all if there are fewer, with a warning."""
    original = original_rows(settings, task)
    if original is None:
        return None
    if count > original.count:
        log.warning(
            "train: %d original rows of %s requested, but there are only %d",
            count,
            original.task.name,
            original.count,
        )
    return sample_by_label(original, count, draws)


def synthetic_rows(settings: Settings, task: Task, seed: int) -> TaskRows:
    """The task's synthetic rows, at most train.max_rows examples. Raises: UserError if they have not been generated."""
    path = settings.paths.synthetic(task.name) / "train.jsonl"
    if not path.is_file():
        raise UserError(f"{path}: is missing, expected the synthetic rows of {task.name}. Run phases=[generate] first.")
    return limit_rows(settings, TaskRows(task, read_rows(path, task), real=False), task, "synthetic", seed)


def limit_rows(settings: Settings, source: TaskRows, task: Task, arm: ArmName, seed: int) -> TaskRows:
    """All examples, or train.max_rows of them drawn by the cell's seed, in their order; of MultiRC whole questions."""
    count = settings.train.max_rows
    if count is None or source.count <= count:
        return source
    draws = rng(seed, task.name, arm, "rows")
    if not source.task.drawn_in_groups:
        return source.at(draws.sample(range(source.count), count))
    return source.at(whole_groups([example.groups for example in source.examples()], count, draws))


def whole_groups(groups: Sequence[Hashable], count: int, draws: Random) -> list[int]:
    """The positions of `count` items: whole groups that are drawn, and as much of a last one as makes up the number."""
    positions: dict[Hashable, list[int]] = {}
    for position, group in enumerate(groups):
        positions.setdefault(group, []).append(position)
    shuffled = draws.sample(list(positions.values()), len(positions))
    return sorted([position for group in shuffled for position in group][:count])


def sample_by_label(source: TaskRows, count: int, draws: Random) -> TaskRows:
    """`count` of the examples, each label in proportion; of MultiRC whole questions, whatever their labels."""
    if count >= source.count:
        return source
    if source.task.drawn_in_groups:
        return source.at(whole_groups([example.groups for example in source.examples()], count, draws))
    golds = [example.gold if source.task.classes else None for example in source.examples()]
    return source.at(stratified_sample(range(source.count), golds, count, draws))


def stratified_sample(items: Sequence[Item], strata: Sequence[Hashable], count: int, draws: Random) -> tuple[Item, ...]:
    """`count` items in their order, each stratum in proportion by largest remainder; all if there are fewer."""
    if count >= len(items):
        return tuple(items)
    indices: dict[Hashable, list[int]] = {}
    for index, stratum in enumerate(strata):
        indices.setdefault(stratum, []).append(index)
    quotas = apportion([len(members) for members in indices.values()], count)
    sampled = [
        index for members, quota in zip(indices.values(), quotas, strict=True) for index in draws.sample(members, quota)
    ]
    return tuple(items[index] for index in sorted(sampled))


def apportion(sizes: Sequence[int], count: int) -> list[int]:
    """`count` divided in proportion to the sizes by largest remainder; of equal remainders the first wins."""
    divided = [divmod(size * count, sum(sizes)) for size in sizes]
    short = count - sum(quota for quota, _ in divided)
    largest = sorted(range(len(sizes)), key=lambda index: (-divided[index][1], index))[:short]
    return [quota + (index in largest) for index, (quota, _) in enumerate(divided)]
