"""The original data: official files in a local folder, the mirror on the Hub, or this project's small fixture."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from targen.config.groups.data import Data
from targen.config.required_files import local_file
from targen.runtime.errors import RowError, UserError
from targen.runtime.jsonl import read_jsonl
from targen.runtime.paths import PROJECT
from targen.tasks.task import Row, Task

FIXTURE = PROJECT / "eval" / "fixture"
FIXTURE_WORDS = "this project's own fixture, NOT SuperGLUE"


@dataclass(frozen=True)
class Split:
    """Rows in the official format, with their origin in words for a table."""

    rows: tuple[Row, ...]
    origin: str
    is_fixture: bool = False


def eval_split(data: Data, task: Task) -> Split:
    """The labelled rows on which the task is scored. Raises: UserError if they are not available."""
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
    """The original training rows; None if the run falls back to the fixture, which has none.

    `task` is the owner of the split: RTE for AX-g.
    """
    return _original(data, task, "train")


def _original(data: Data, task: Task, split: str, labelled: bool = True) -> Split | None:
    if data.source == "fixture":
        return None
    if data.source == "local":
        return _local(data, task, split, labelled)
    from targen.data.hub import HubUnreachable, hub_rows

    try:
        rows = checked(task, enumerate(hub_rows(data.hub, task, split)), f"{data.hub} {task.name} {split}", labelled)
    except HubUnreachable as err:
        if data.fallback == "fixture":
            return None
        raise UserError(f"data.hub: {err}") from None
    return Split(rows, f"SuperGLUE {split}")


def read_rows(path: Path, task: Task, labelled: bool = False) -> tuple[Row, ...]:
    """The rows of a file in the official format. Raises: UserError with file and line of the first wrong one."""
    return checked(task, read_jsonl(path), str(path), labelled)


def checked(task: Task, rows: Iterable[tuple[int, Row]], where: str, labelled: bool = False) -> tuple[Row, ...]:
    """The rows, after a check of their format and, if `labelled`, of their labels.

    Raises: UserError with `where` and the number of the first wrong row, or if there are no rows.
    """
    checked_rows = []
    for number, row in rows:
        try:
            task.check_format(row)
            if labelled and not all(example.gold for example in task.examples(row)):
                raise RowError("the label is hidden, expected a labelled row")
        except (RowError, KeyError, TypeError, AttributeError) as err:
            raise UserError(
                f"{where}:{number}: {err}. Expected a row of {task.folder} in the official SuperGLUE format."
            ) from None
        checked_rows.append(row)
    if not checked_rows:
        raise UserError(f"{where}: got no row, expected rows of {task.folder}.")
    return tuple(checked_rows)


def spread(rows: Sequence[Row], at_most: int | None, group: int = 1) -> tuple[Row, ...]:
    """At most `at_most` rows, spread evenly over the split. Groups of consecutive rows stay together (AX-g's pairs)."""
    groups = len(rows) // group
    kept = groups if at_most is None else min(groups, max(1, at_most // group))
    picked = [number * groups // kept for number in range(kept)]
    return tuple(row for number in picked for row in rows[number * group : (number + 1) * group])


def _local(data: Data, task: Task, split: str, labelled: bool) -> Split:
    assert data.dir is not None
    path = local_file(Path(data.dir), task, split)
    part = ", a part of it" if path.stem.endswith("_partial") else ""
    return Split(read_rows(path, task, labelled), f"SuperGLUE {split}{part}")


def _fixture(task: Task) -> Split:
    path = local_file(FIXTURE, task, task.eval_split)
    return Split(read_rows(path, task, labelled=True), FIXTURE_WORDS, is_fixture=True)
