"""The original data: files in a folder, a data set on the Hub, or this project's small fixture."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from targen.config.groups.data import Data
from targen.config.required_files import TABLES, find_file, local_file
from targen.data.columns import check_labels, has_plain_rows, read_records, rows_of
from targen.runtime.errors import RowError, Unreachable, UserError
from targen.runtime.jsonl import read_jsonl
from targen.runtime.paths import PROJECT
from targen.tasks.registry import SUPERGLUE_TASKS
from targen.tasks.task import Row, Task

FIXTURE = PROJECT / "eval" / "fixture"
RowsSource = Literal["superglue", "hub", "file", "fixture", "held_out"]


@dataclass(frozen=True)
class Split:
    """Rows in the format of their task, and where they come from: `origin` says it in words, for a table.

    `source`: superglue, its official rows; hub, another data set there; file, the user's own; held_out, synthetic rows.
    `location` is the id on the Hub or the path of the file, `name` what the split is called there.
    """

    rows: tuple[Row, ...]
    origin: str
    source: RowsSource = "superglue"
    location: str = ""
    name: str = ""

    @property
    def is_fixture(self) -> bool:
        """Whether they are the few rows written for this project."""
        return self.source == "fixture"


def eval_split(data: Data, task: Task) -> Split:
    """The original labelled rows on which the task is scored. Raises: UserError if they are not available."""
    if data.source_of(task) == "none":
        raise UserError(f"data.source: got none, expected original rows of {task.name}. Name some: data.dir=...")
    split = _original(data, task, task.eval_split) or _fixture(task)
    if len(split.rows) % task.rows_per_slot:
        raise UserError(
            f"{task.folder}: got {len(split.rows)} rows, expected a multiple of {task.rows_per_slot}, because consecutive "
            "rows belong together. Add the missing ones."
        )
    return split


def leaderboard_split(data: Data, task: Task) -> Split:
    """The test rows of the leaderboard. Labels are hidden, except in AX-g. Raises: UserError if the rows are not available."""
    split = _original(data, task, "test", labelled=False)
    if split is None:
        raise UserError(
            f"eval.submission: got true, but the test split of {task.folder} is not available. Set data.source=local "
            "data.dir=..., or eval.submission=false."
        )
    return split


def original_train_split(data: Data, task: Task) -> Split | None:
    """The original training rows; None if the task has none, or the run falls back to the fixture, which has none.

    `task` is the owner of the split: RTE for AX-g.
    """
    return _original(data, task, "train")


def unlabelled_split(data: Data, task: Task, split: str) -> Split | None:
    """A split whose labels may be hidden; None if it is not available. Raises: UserError if its rows are damaged."""
    if data.source_of(task) == "local" and find_file(Path(data.dir or ""), task, split) is None:
        return None
    try:
        return _original(data, task, split, labelled=False)
    except UserError:
        if data.source_of(task) == "hub":  # cannot be reached, or has no such split
            return None
        raise


def _original(data: Data, task: Task, split: str, labelled: bool = True) -> Split | None:
    source = data.source_of(task)
    if source in ("fixture", "none"):
        return None
    if source == "local":
        return _local(data, task, split, labelled)
    from targen.data.hub import HubUnreachable, hub_rows

    name = data.hub_of(task)
    assert name is not None  # the settings' rules ensure it
    where = f"{name} {task.name} {split}"
    try:
        rows = checked_rows(task, hub_rows(name, task, split, labelled), where, labelled)
    except HubUnreachable as err:
        if data.fallback == "fixture":
            return None
        raise Unreachable(f"data.hub: {err}") from None
    if _is_published(task, split, rows):
        return Split(rows, f"SuperGLUE {split}", "superglue", name, split)
    return Split(rows, f"{name} {split}", "hub", name, split)


def read_rows(path: Path, task: Task, labelled: bool = False) -> tuple[Row, ...]:
    """The rows of a file in the official format. Raises: UserError with file and line of the first wrong one."""
    return checked_rows(task, read_jsonl(path), str(path), labelled)


def read_any_rows(path: Path, task: Task, labelled: bool = False) -> tuple[Row, ...]:
    """The rows of a user's file: JSONL, CSV or TSV, with the columns and labels that the task names.

    Raises: UserError with file and line of what is wrong.
    """
    if path.suffix.lower() not in TABLES and not has_plain_rows(task):
        return read_rows(path, task, labelled)
    return checked_rows(task, rows_of(task, read_records(path, task), str(path), labelled), str(path), labelled)


def checked_rows(task: Task, rows: Iterable[tuple[int, Row]], where: str, labelled: bool = False) -> tuple[Row, ...]:
    """The rows, after a check of their format and, if `labelled`, of their labels.

    Raises: UserError with `where` and the number of the first wrong row, or if there are too few rows.
    """
    accepted = []
    for number, row in rows:
        try:
            task.check_format(row)
            if labelled and not all(example.gold for example in task.examples(row)):
                raise RowError("the label is hidden, expected a labelled row")
        except (RowError, KeyError, TypeError, AttributeError) as err:
            raise UserError(f"{where}:{number}: {err}. Expected a row in the format of {task.folder}.") from None
        accepted.append(row)
    if not accepted:
        raise UserError(f"{where}: got no row, expected rows of {task.folder}.")
    if labelled and has_plain_rows(task):
        check_labels(task, accepted, where)
    return tuple(accepted)


def evenly_spread(rows: Sequence[Row], at_most: int | None, group: int = 1) -> tuple[Row, ...]:
    """At most `at_most` rows, spread evenly over the split. Groups of consecutive rows stay together (AX-g's pairs)."""
    groups = len(rows) // group
    count = groups if at_most is None else min(groups, max(1, at_most // group))
    numbers = [index * groups // count for index in range(count)]
    return tuple(row for number in numbers for row in rows[number * group : (number + 1) * group])


def _local(data: Data, task: Task, split: str, labelled: bool) -> Split:
    assert data.dir is not None
    folder = Path(data.dir)
    path = local_file(folder, task, split)
    rows = read_any_rows(path, task, labelled)
    if _is_published(task, split, rows):
        return Split(rows, f"SuperGLUE {split}", "superglue", str(path), split)
    origin = path.relative_to(folder) if folder.is_dir() else path.name
    return Split(rows, str(origin), "file", str(path), split)


def _is_published(task: Task, split: str, rows: Sequence[Row]) -> bool:
    """Whether these are all rows of a split of SuperGLUE: as many as were published."""
    return task.name in SUPERGLUE_TASKS and len(rows) == task.sizes[split]


def fixture_rows(task: Task) -> tuple[Row, ...]:
    """The few rows of the task that come with this project; none of a user's own task."""
    path = find_file(FIXTURE, task, task.eval_split)
    return () if path is None else read_rows(path, task, labelled=True)


def _fixture(task: Task) -> Split:
    path = find_file(FIXTURE, task, task.eval_split)
    if path is None:
        raise UserError(
            f"data.source: got fixture, of which {task.name} has no rows, expected rows to score. Set data.dir=..., or "
            "data.source=none."
        )
    words = "this project's own fixture" + ", NOT SuperGLUE" * (task.name in SUPERGLUE_TASKS)
    return Split(read_rows(path, task, labelled=True), words, "fixture", str(path), task.eval_split)
