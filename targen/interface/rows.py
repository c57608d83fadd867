"""The rows of a finished data set with their provenance, and the rejects."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from targen.interface.tables import Table
from targen.runtime.errors import UserError
from targen.runtime.jsonl import Json, read_json, read_jsonl
from targen.runtime.paths import RunPaths
from targen.tasks.task import Task

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class SyntheticRow:
    """A row and its provenance. `row` is the line of train.jsonl; `label` is the name of its label, None if the task has none."""

    row: Json
    label: str | None
    context: str
    instance_seed: Json
    variant: Json  # what was drawn or chosen for it, by name
    label_before: str | None  # self-correction
    explanation: str | None  # of self-correction
    slot: str  # the instance that it is, c<label cell>-<number>
    attempt: int  # of that slot, from 0
    call_ids: tuple[str, ...]  # of the calls that it came from, in calls/<task>.jsonl
    provenance: Json = field(repr=False)  # the whole line of provenance.jsonl

    @property
    def idx(self) -> int:
        """Its position among the rows of the task."""
        return int(self.row["idx"])


@dataclass(frozen=True)
class Reject:
    """What a step refused. A list of contexts or instance seeds belongs to no slot."""

    step: str
    reason: str
    text: str  # of the answer, or of the row if it got that far
    label: str | None  # that was asked for
    context: str
    instance_seed: Json
    slot: str | None
    attempt: int | None
    record: Json = field(repr=False)  # the whole line of rejects.jsonl


@dataclass(frozen=True)
class LearnabilityScore:
    """What a student that was taught some of the rows scores on the others, from 0 to 1, with a 95 % interval."""

    student: str
    metric: str
    value: float
    low: float
    high: float
    chance: float
    majority: float | None  # None: the task has no labels


class Rows(Table[SyntheticRow]):
    """The rows of a task, in order."""

    def __init__(self, task: Task, rows: list[SyntheticRow]) -> None:
        super().__init__(SyntheticRow, rows, _columns)
        self.task = task

    def to_datasets(self) -> "Dataset":
        """The rows for `datasets` and `transformers`, without provenance; the label is a ClassLabel of the names of the labels."""
        from datasets import ClassLabel, Dataset

        names = [label.name for label in self.task.labels]
        if not names or not len(self):
            return Dataset.from_list([row.row for row in self])
        features = Dataset.from_list([row.row for row in self]).features
        features["label"] = ClassLabel(names=names)
        numbered = [row.row | {"label": names.index(row.label or "")} for row in self]
        return Dataset.from_list(numbered, features=features)


def _columns(row: SyntheticRow) -> Json:
    """The official row, then its provenance; of a name that both have, the second is `provenance_<name>`."""
    columns = {"label_name": row.label, **asdict(row)}
    columns = {name: value for name, value in columns.items() if name not in ("row", "label", "provenance")}
    return row.row | {f"provenance_{name}" if name in row.row else name: value for name, value in columns.items()}


def read_rows(paths: RunPaths, task: Task) -> Rows:
    """The rows that models are trained on. Raises: UserError if there are none yet, or the files do not match."""
    folder = paths.synthetic(task.name)
    if not (folder / "train.jsonl").is_file():
        raise UserError(
            f"{folder}: got no train.jsonl, expected a finished data set of {task.name}. Generate it, or wait for its end."
        )
    return _read(task, folder / "train.jsonl", folder / "provenance.jsonl")


def read_held_out(paths: RunPaths, task: Task) -> Rows:
    """The rows of other contexts that are held out to score models on; empty if there are none."""
    folder = paths.synthetic(task.name)
    if not (folder / "held_out.jsonl").is_file():
        return Rows(task, [])
    return _read(task, folder / "held_out.jsonl", folder / "held_out_provenance.jsonl")


def _read(task: Task, rows_path: Path, provenance_path: Path) -> Rows:
    rows = [row for _, row in read_jsonl(rows_path, surrogates=True)]
    records = [record for _, record in read_jsonl(provenance_path, surrogates=True)]
    if len(rows) != len(records):
        raise UserError(
            f"{provenance_path}: got {len(records)} lines, expected one for each of {len(rows)} rows. Generate again."
        )
    return Rows(task, [_row(task, row, record) for row, record in zip(rows, records, strict=True)])


def _row(task: Task, row: Json, record: Json) -> SyntheticRow:
    return SyntheticRow(
        row=row,
        label=task.label_of(row) if task.labels else None,
        context=record.get("context", ""),
        instance_seed=record.get("instance_seed", {}),
        variant=record.get("variant", {}),
        label_before=record.get("label_before"),
        explanation=record.get("explanation"),
        slot=record["slot"],
        attempt=record.get("attempt", 0),
        call_ids=tuple(record.get("call_ids", ())),
        provenance=record,
    )


def read_rejects(paths: RunPaths, task: Task) -> Table[Reject]:
    """The rejects of a task. Raises: UserError if there is no data set yet."""
    path = paths.synthetic(task.name) / "rejects.jsonl"
    return Table(Reject, [_reject(line) for _, line in read_jsonl(path, surrogates=True)], _reject_columns)


def _reject(line: Json) -> Reject:
    return Reject(
        step=line["step"],
        reason=line["reason"],
        text=line.get("text", ""),
        label=line.get("label"),
        context=line.get("context") or "",
        instance_seed=line.get("instance_seed") or {},
        slot=line.get("slot"),
        attempt=line.get("attempt"),
        record=line,
    )


def _reject_columns(reject: Reject) -> Json:
    return {name: value for name, value in asdict(reject).items() if name != "record"}


def read_stats(paths: RunPaths, task: Task) -> Json:
    """The counts of a task, as in stats.json. Raises: UserError if there are none yet."""
    return read_json(paths.synthetic(task.name) / "stats.json")


def read_learnability(paths: RunPaths, task: Task) -> Table[LearnabilityScore]:
    """The scores of each student. Raises: UserError with the reason if they were not measured."""
    learnability = read_stats(paths, task).get("learnability", {"not_measured": "synth.learnability_rows=0"})
    if (reason := learnability.get("not_measured")) is not None:
        raise UserError(
            f"learnability: {task.name} was not measured: {reason}. Make more rows, or set synth.learnability_rows."
        )
    chance, majority = learnability["chance"], learnability["majority"] or {}
    scores = [
        LearnabilityScore(student, metric, **score, chance=chance[metric], majority=majority.get(metric))
        for student, metrics in learnability["students"].items()
        for metric, score in metrics.items()
        if metric in chance
    ]
    return Table(LearnabilityScore, scores)
