"""Rows of the original train split that a method shows in its prompts (in-context examples)."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from targen.config.original_data import original_train_task
from targen.config.settings import Settings
from targen.data.original import Split, eval_split, original_train_split
from targen.runtime.errors import RowError, Unreachable, UserError
from targen.runtime.jsonl import Json
from targen.runtime.randomness import rng
from targen.synthesis.slots.assignment import Slot, draw_evenly
from targen.tasks.task import LabelCell, Row, Task

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainRows:
    """The labelled rows from which demonstrations are taken, by label cell of the task that is generated."""

    task: Task  # of the rows: AX-g has no train split, RTE's stands in
    per_cell: tuple[tuple[Row, ...], ...]
    count: int  # shown in a prompt

    def of(self, seed: int, task: Task, slot: Slot, attempt: int) -> list[Row]:
        """The demonstrations of an attempt. First attempts use the rows of their cell evenly, later ones draw."""
        rows = self.per_cell[slot.cell]
        if attempt == 0:
            return draw_evenly(seed, task.name, f"demonstrations {slot.cell}", rows, slot.index, self.count)
        return rng(seed, task.name, slot, attempt, "demonstrations").sample(rows, self.count)

    def check_no_copy(self, seed: int, task: Task, slot: Slot, attempt: int, rows: list[Row]) -> None:
        """Raises: RowError if one of the generated rows repeats one that its prompt showed, up to case and blanks."""
        prompt_texts = {_normalised_texts(self.task, row) for row in self.of(seed, task, slot, attempt)}
        if any(_normalised_texts(task, row) in prompt_texts for row in rows):
            raise RowError("repeats a row that its prompt showed")

    def provenance(self, rows: Sequence[Row]) -> Json:
        """The entry in provenance of the rows that a prompt showed."""
        numbers = [self.task.demonstration_numbers(row) for row in rows]
        return {"task": self.task.name, "split": "train"} | {key: [row[key] for row in numbers] for key in numbers[0]}


def _normalised_texts(task: Task, row: Row) -> tuple[str, ...]:
    return tuple(" ".join(text.lower().split()) for text in task.copied_texts(row))


def train_rows(settings: Settings, task: Task, count: int) -> TrainRows:
    """The original training rows of a task, never those of a split on which it is scored.

    A plan that cannot reach the Hub gets the fixture's rows, which are about as long.

    Raises: UserError if they are not available, or a label cell has fewer than `count`.
    """
    source, method = original_train_task(settings, task), settings.method.name
    assert settings.method.demonstrations is not None
    if source.name != task.name and settings.method.demonstrations.stand_in is None:
        raise UserError(
            f"method: got {method} with the task {task.name}, which has no train split of its own ({source.folder}'s rows are of another "
            f"task). Leave {task.name} out, or take another method."
        )
    split = _train_split(settings, source)
    rows = [example for row in split.rows for example in source.demonstrations(row)] if split is not None else []
    if split is not None and split.is_fixture:
        return TrainRows(source, (tuple(rows) * count,) * len(task.label_cells), count)
    if split is None:
        raise UserError(
            f"method: got {method}, which shows rows of {source.folder}'s train split, and data.source={settings.data.source_of(source)} "
            "has none here. Set data.dir=..., or take a method without demonstrations (method=targen)."
        )
    per_cell = tuple(tuple(row for row in rows if _matches(source, row, cell)) for cell in task.label_cells)
    for cell, cell_rows in zip(task.label_cells, per_cell, strict=True):
        if len(cell_rows) < count:
            raise UserError(
                f"method.demonstrations.count: got {count}, expected at most {len(cell_rows)}, the rows of {split.origin} "
                f"({source.folder}) for {cell}. Lower it, or give the whole split."
            )
    return TrainRows(source, per_cell, count)


def _train_split(settings: Settings, source: Task) -> Split | None:
    """The original train split; for a plan that cannot reach the Hub, the fixture."""
    if not settings.plan or settings.data.source_of(source) != "hub":
        return original_train_split(settings.data, source)
    try:
        split, reason = original_train_split(settings.data, source), ""
    except Unreachable as err:
        split, reason = None, f" ({err})"
    if split is None:
        log.warning(
            "plan: missing: the train split of %s%s; the fixture's rows show their length", source.folder, reason
        )
        return eval_split(replace(settings.data, source="fixture"), source)
    return split


def _matches(source: Task, row: Row, cell: LabelCell) -> bool:
    """Whether a row has the cell's label, and its variant if the row names it (COPA: the question)."""
    try:
        label = source.gold_option(row)
    except RowError:  # hidden
        return False
    return cell.label in (None, label) and all(row.get(key, value) == value for key, value in cell.variant)
