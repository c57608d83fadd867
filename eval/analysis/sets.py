"""The two data sets of a comparison, and equal samples of them."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import TypeVar

from targen.config.required_files import has_original_train, local_file
from targen.config.settings import Settings
from targen.data.original import Split, eval_split, original_train_split, read_rows, unlabelled_split
from targen.runtime.errors import RowError, UserError
from targen.runtime.jsonl import Json, read_jsonl
from targen.runtime.paths import RunPaths
from targen.runtime.randomness import rng
from targen.tasks.task import Example, Fields, Row, Task
from targen.text.normalise import units

Item = TypeVar("Item")
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class DataSet:
    """Rows of one task. `folder` has the provenance of synthetic rows."""

    name: str
    origin: str
    rows: tuple[Row, ...]
    folder: Path | None = None

    @property
    def stories(self) -> list[Json]:
        """The provenance of each row; empty if there is none."""
        path = self.folder / "provenance.jsonl" if self.folder is not None else None
        return [story for _, story in read_jsonl(path)] if path is not None and path.is_file() else []


@dataclass(frozen=True)
class SetPair:
    """Two data sets of a task. Analyses use samples of equal size, drawn with `seed`; the smaller set is used whole.

    `a` is None if there is only one set, so that nothing is compared. `splits` are the available original splits.
    """

    task: Task
    a: DataSet | None
    b: DataSet
    seed: int
    at_most: int | None
    splits: tuple[tuple[str, Split], ...] = ()
    why_alone: str = "no original split is available. Name one: data.dir=..."  # why `a` is None

    @property
    def sets(self) -> dict[str, DataSet]:
        """The sets that are there, by side: a, b."""
        return ({"a": self.a} if self.a is not None else {}) | {"b": self.b}

    @property
    def size(self) -> int:
        """Rows per sample, in whole instances (AX-g's pairs)."""
        smallest = min(len(data_set.rows) for data_set in self.sets.values())
        return min(smallest, self.at_most or smallest) // self.task.rows_per_slot * self.task.rows_per_slot

    def samples(self, at_most: int | None = None) -> dict[str, list[Row]]:
        """A random sample of each set, in whole instances; a smaller sample is a prefix of a larger one."""
        samples = {}
        for side, data_set in self.sets.items():
            instances = group_by_instance(data_set.rows, self.task)
            self.draws("sample", side).shuffle(instances)
            count = min(self.size, at_most or self.size) // self.task.rows_per_slot
            samples[side] = [row for rows in instances[:count] for row in rows]
        return samples

    def draws(self, *purpose: object) -> Random:
        """The random stream of one purpose."""
        return rng(self.seed, self.task.name, "analysis", *purpose)


def texts(task: Task, row: Row) -> list[str]:
    """The texts of a row, without its variant (COPA's question) and without pointers into other texts."""
    view = task.view(row)
    return [view[name] for name in task.row if name not in task.crossed_variants and name not in task.pointer_fields]


def row_units(task: Task, rows: Sequence[Row]) -> list[list[list[str]]]:
    """The words of each text of each row."""
    return [[units(text) for text in texts(task, row)] for row in rows]


def group_by_instance(items: Sequence[Item], task: Task) -> list[Sequence[Item]]:
    """The items, one per row, grouped by instance; an incomplete instance is left out."""
    step = task.rows_per_slot
    return [items[start : start + step] for start in range(0, len(items) - step + 1, step)]


def rows_digest(rows: Iterable[Row]) -> str:
    """16 hex digits, equal for equal rows; shows whether findings about single rows are out of date."""
    fingerprint = hashlib.sha256()
    for row in rows:
        fingerprint.update(json.dumps(row, sort_keys=True).encode() + b"\n")
    return fingerprint.hexdigest()[:16]


def flag_counts(task: Task, flags: Sequence[bool]) -> tuple[int, int]:
    """(instances with at least one flagged row, instances); `flags` has one per row."""
    instances = group_by_instance(flags, task)
    return sum(any(instance) for instance in instances), len(instances)


def label_name(task: Task, row: Row) -> str | None:
    """The label, or the answer if the task has no labels (ReCoRD); None if it is hidden."""
    try:
        return task.gold_option(row)
    except (RowError, KeyError):
        return None


def row_json(task: Task, row: Row, example: Example | None = None) -> Json:
    """A row for a person: idx, label, and its texts by name; of a row with several examples those of one."""
    view: Fields = task.view(row)
    label = label_name(task, row)
    if example is not None and task.example_count(row) > 1:
        view = example.fields
        label = " / ".join(example.answers or (example.choices[gold] for gold in example.gold)) or None
    return {"idx": row["idx"], "label": label, "texts": {name: view[name] for name in task.row}}


def run_pair(settings: Settings, task: Task) -> SetPair | None:
    """The original rows of a task, if available, and the synthetic ones of the run; None if there are no synthetic rows.

    AX-g's original rows are its test split, the only one it has.
    """
    synthetic = synthetic_set(settings.paths, task)
    if synthetic is None:
        return None
    split = original_rows(settings, task)
    original = None
    if split is not None and not split.is_fixture:
        original = DataSet("original", split.origin, split.rows)
    splits = tuple(_run_splits(settings, task, split))
    why = _why_alone(settings, task) if original is None else ""
    return SetPair(task, original, synthetic, settings.seed, settings.analysis.size, splits, why)


def original_rows(settings: Settings, task: Task) -> Split | None:
    """The original rows that are compared with the synthetic ones; None if there are none."""
    if settings.data.source_of(task) == "none":
        return None
    if task.original_train:
        return eval_split(settings.data, task)
    return original_train_split(settings.data, task) if has_original_train(settings, task) else None


def _why_alone(settings: Settings, task: Task) -> str:
    """Why there are no original rows to compare with, and what to do."""
    source = settings.data.source_of(task)
    if source == "none":
        return f"{task.name} has no original data, so nothing is compared with it. Name some: data.dir=..."
    if source == "local" and not has_original_train(settings, task):
        folder = settings.data.dir
        return f"{folder} has no training rows of {task.name}, so nothing is compared. Name a folder that has train.jsonl or train.csv"
    return "the original rows are not available, so nothing is compared. Set data.source=local data.dir=..., or check the network"


def synthetic_set(paths: RunPaths, task: Task) -> DataSet | None:
    """The synthetic rows of a run; None if there are none."""
    folder = paths.synthetic(task.name)
    if not (folder / "train.jsonl").is_file():
        return None
    return DataSet("synthetic", str(folder / "train.jsonl"), rows_of(folder / "train.jsonl", task), folder)


def _run_splits(settings: Settings, task: Task, train: Split | None) -> list[tuple[str, Split]]:
    """The original splits with which synthetic rows are compared."""
    if settings.data.source_of(task) == "none":
        return []
    evaluation = eval_split(settings.data, task)
    splits = [("train", train)] if train is not None and not task.original_train else []
    splits.append((task.eval_split, evaluation))
    if task.eval_split != "test" and (test := unlabelled_split(settings.data, task, "test")) is not None:
        splits.append(("test", test))
    return splits


def folder_pair(a: Path, b: Path, task: Task, seed: int, at_most: int | None) -> SetPair | None:
    """The rows of a task in two folders, in the official layout or a run's; None if one of them lacks the task."""
    first, second = (folder_set(folder, task) for folder in (a, b))
    if first is None or second is None:
        return None
    splits = [(name, split) for name in SPLITS if (split := _folder_split(a, task, name)) is not None]
    if not splits and first.rows:
        splits = [("train", Split(first.rows, first.origin))]
    return SetPair(task, replace(first, name="a"), replace(second, name="b"), seed, at_most, tuple(splits))


def folder_set(folder: Path, task: Task) -> DataSet | None:
    """The training rows of a task below a folder: `CB/train.jsonl`, `cb/train.jsonl` or `synthetic/cb/train.jsonl`; AX-g: test."""
    for task_folder in (folder / task.name, folder / "synthetic" / task.name):
        path = task_folder / "train.jsonl"
        if path.is_file():
            return DataSet("", str(path), rows_of(path, task), task_folder)
    for split in ("train", "test") if task.original_train else ("train",):
        official = _official(folder, task, split)
        if official is not None:
            return DataSet("", str(official), rows_of(official, task))
    return None


def _official(folder: Path, task: Task, split: str) -> Path | None:
    try:
        return local_file(folder, task, split)
    except UserError:
        return None


def _folder_split(folder: Path, task: Task, split: str) -> Split | None:
    path = _official(folder, task, split)
    rows = rows_of(path, task) if path is not None else ()
    return Split(rows, str(path)) if rows else None


def rows_of(path: Path, task: Task) -> tuple[Row, ...]:
    """The rows of a file, which may be empty. Raises: UserError with file and line of the first wrong one."""
    if not any(True for _ in read_jsonl(path)):
        return ()
    return read_rows(path, task)
