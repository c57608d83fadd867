"""The settings of the original data."""

from typing import Literal

from pydantic.dataclasses import dataclass as checked_dataclass

from targen.config.groups.bounds import STRICT, PathText
from targen.tasks.task import Task

Source = Literal["hub", "local", "fixture", "none"]


@checked_dataclass(frozen=True, config=STRICT)
class Data:
    """Where the original data come from."""

    source: Literal["auto", "hub", "local", "fixture", "none"]
    """hub: a data set on the Hub; local: files in data.dir; fixture: a few rows written for this project; none: no original
    data, score held-out synthetic rows; auto: local with data.dir, hub if the task names a data set, else none."""
    dir: PathText | None
    """local: a folder with CB/val.jsonl, ... (also .csv, .tsv), or a single file with the rows to score."""
    hub: PathText | None
    """hub: id of the data set, or path of a local copy; null: the one named by the task (SuperGLUE: aps/super_glue)."""
    fallback: Literal["fixture"] | None
    """What to do if the Hub cannot be reached. fixture: score on this project's own few rows, and say so; null: stop."""
    self_instruct: PathText | None = None
    """Rows of the arm self_instruct: a JSONL file of {instruction, input, output} or {prompt, completion}, or the id of a
    data set on the Hub (yizhongw/self_instruct)."""

    def source_of(self, task: Task) -> Source:
        """Where the original data of a task come from."""
        if self.source != "auto":
            return self.source
        if self.dir is not None:
            return "local"
        return "none" if self.hub_of(task) is None else "hub"

    def hub_of(self, task: Task) -> str | None:
        """The task's data set on the Hub, or its local copy."""
        return self.hub or task.hub
