"""The two data sets of a comparison, and equal samples of them."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import TypeVar

from targen.config.required_files import local_file
from targen.config.settings import Settings
from targen.data.original import Split, checked, eval_split, original_train_split, read_rows
from targen.runtime.errors import RowError, UserError
from targen.runtime.jsonl import Json, read_jsonl
from targen.runtime.paths import RunPaths
from targen.runtime.randomness import rng
from targen.tasks.task import Row, Task
from targen.text.normalise import units

Item = TypeVar("Item")
POINTERS = frozenset({"word", "span1", "span2"})  # fields that repeat a piece of another one (WiC, WSC)
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class DataSet:
    """Rows of one task. `folder` has the stories of synthetic ones; `others` are the set's other splits, by name."""

    name: str
    origin: str
    rows: tuple[Row, ...]
    folder: Path | None = None
    is_fixture: bool = False


@dataclass(frozen=True)
class Pair:
    """Two data sets of a task. Analyses look at samples of equal size, drawn by `seed`; the smaller one is whole.

    `a` is None where there is only one; then nothing is compared. `splits` are the original's, as far as they are at hand.
    """

    task: Task
    a: DataSet | None
    b: DataSet
    seed: int
    at_most: int | None
    splits: tuple[tuple[str, Split], ...] = ()

    @property
    def sets(self) -> dict[str, DataSet]:
        return ({"a": self.a} if self.a is not None else {}) | {"b": self.b}

    @property
    def size(self) -> int:
        """Rows of each sample: whole instances (AX-g's pairs)."""
        smallest = min(len(own.rows) for own in self.sets.values())
        return min(smallest, self.at_most or smallest) // self.task.rows_per_slot * self.task.rows_per_slot

    def samples(self, at_most: int | None = None) -> dict[str, list[Row]]:
        """Rows of each set in drawn order, instances whole; a smaller sample is the beginning of a larger one."""
        found = {}
        for side, own in self.sets.items():
            instances = grouped(own.rows, self.task)
            self.draws("sample", side).shuffle(instances)
            count = min(self.size, at_most or self.size) // self.task.rows_per_slot
            found[side] = [row for rows in instances[:count] for row in rows]
        return found

    def draws(self, *purpose: object) -> Random:
        return rng(self.seed, self.task.name, "analysis", *purpose)


def texts(task: Task, row: Row) -> list[str]:
    """What a reader would call the text of a row: no variants (COPA's question), no pointers into another text."""
    view = task.view(row)
    return [view[name] for name in task.row if name not in task.variants and name not in POINTERS]


def row_units(task: Task, rows: Sequence[Row]) -> list[list[list[str]]]:
    """The words of the texts of every row."""
    return [[units(text) for text in texts(task, row)] for row in rows]


def grouped(items: Sequence[Item], task: Task) -> list[Sequence[Item]]:
    """The items of every row as those of every whole instance."""
    step = task.rows_per_slot
    return [items[start : start + step] for start in range(0, len(items) - step + 1, step)]


def digest(rows: Iterable[Row]) -> str:
    """Changes when a row does: by which what was said of single rows is known to be out of date."""
    found = hashlib.sha256()
    for row in rows:
        found.update(json.dumps(row, sort_keys=True).encode() + b"\n")
    return found.hexdigest()[:16]


def present(task: Task, flags: Sequence[bool]) -> tuple[int, int]:
    """(instances with a row for which the flag holds, instances)."""
    every = grouped(flags, task)
    return sum(any(own) for own in every), len(every)


def label_name(task: Task, row: Row) -> str | None:
    """The label, or the answer where a task has no labels (ReCoRD); None where it is hidden."""
    try:
        return task.gold_option(row)
    except (RowError, KeyError):
        return None


def shown(task: Task, row: Row) -> Json:
    """A row for a person: idx, label, and its texts by name."""
    view = task.view(row)
    return {"idx": row["idx"], "label": label_name(task, row), "texts": {name: view[name] for name in task.row}}


def run_pair(settings: Settings, task: Task) -> Pair | None:
    """The original rows of a task, where they are at hand, and the synthetic ones of the run; None: none were made.

    AX-g's original rows are its test split, for it has no other.
    """
    made = synthetic_set(settings.paths, task)
    if made is None:
        return None
    split = eval_split(settings.data, task) if task.original_train else original_train_split(settings.data, task)
    real = None
    if split is not None and not split.is_fixture:
        real = DataSet("original", split.origin, split.rows)
    return Pair(task, real, made, settings.seed, settings.analysis.size, tuple(_run_splits(settings, task, split)))


def synthetic_set(paths: RunPaths, task: Task) -> DataSet | None:
    """The synthetic rows of a run; none where they were not made."""
    folder = paths.synthetic(task.name)
    if not (folder / "train.jsonl").is_file():
        return None
    return DataSet("synthetic", str(folder / "train.jsonl"), rows_of(folder / "train.jsonl", task), folder)


def _run_splits(settings: Settings, task: Task, train: Split | None) -> list[tuple[str, Split]]:
    """The original splits that synthetic rows are held against."""
    scored = eval_split(settings.data, task)
    found = [("train", train)] if train is not None and not task.original_train else []
    found.append((task.eval_split, scored))
    if task.eval_split != "test" and (test := _test_split(settings, task)) is not None:
        found.append(("test", test))
    return found


def _test_split(settings: Settings, task: Task) -> Split | None:
    """The test split, whose labels may be hidden; None where it is not at hand."""
    if settings.data.source == "local":
        try:
            path = local_file(Path(settings.data.dir or ""), task, "test")
        except UserError:
            return None
        return Split(read_rows(path, task), "SuperGLUE test")
    if settings.data.source == "fixture":
        return None
    from targen.data.hub import HubUnreachable, hub_rows

    try:
        rows = checked(task, enumerate(hub_rows(settings.data.hub, task, "test")), f"{settings.data.hub} test")
    except HubUnreachable:
        return None
    return Split(rows, "SuperGLUE test")


def folder_pair(a: Path, b: Path, task: Task, seed: int, at_most: int | None) -> Pair | None:
    """The rows of a task in two folders, of the official layout or a run's; None where one of them has no such task."""
    one, two = (folder_set(folder, task) for folder in (a, b))
    if one is None or two is None:
        return None
    splits = [(name, split) for name in SPLITS if (split := _folder_split(a, task, name)) is not None]
    if not splits and one.rows:
        splits = [("train", Split(one.rows, one.origin))]
    return Pair(task, replace(one, name="a"), replace(two, name="b"), seed, at_most, tuple(splits))


def folder_set(folder: Path, task: Task) -> DataSet | None:
    """The training rows of a task below a folder: `CB/train.jsonl`, `cb/train.jsonl` or `synthetic/cb/train.jsonl`; AX-g: test."""
    for own in (folder / task.name, folder / "synthetic" / task.name):
        if (own / "train.jsonl").is_file():
            return DataSet("", str(own / "train.jsonl"), rows_of(own / "train.jsonl", task), own)
    for split in ("train", "test") if task.original_train else ("train",):
        if (path := _official(folder, task, split)) is not None:
            return DataSet("", str(path), rows_of(path, task))
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
    """The rows of a file, none of an empty one. Raises: UserError with file and line of the first wrong one."""
    if not any(True for _ in read_jsonl(path)):
        return ()
    return read_rows(path, task)
