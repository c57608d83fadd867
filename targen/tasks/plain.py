"""Rows that are named texts and a label: `{"premise": ..., "hypothesis": ..., "label": ..., "idx": 0}`.

The row's texts are taken, by name, from the label cell's variant, the instance seed and the answer of step 3.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from targen.runtime.errors import RowError
from targen.runtime.jsonl import Json
from targen.tasks.task import Example, Fields, LabelCell, Row, TaskSpec, same_value
from targen.text.normalise import normalised


def accept_seed(task: TaskSpec, seed: Json) -> None:
    """No rule beyond the schema's."""


def draw_nothing(task: TaskSpec, cell: LabelCell, seed: Json, rng: Random) -> dict[str, str]:
    return {}


def build(task: TaskSpec, cell: LabelCell, seed: Json, drawn: Fields, answer: Json, rng: Random) -> list[Row]:
    texts = {**cell.fields, **seed, **drawn, **answer}
    row: Row = {name: texts[name] for name in task.row}
    if cell.label is not None:
        row["label"] = task.label(cell.label).value
    return [row]


def check_format(task: TaskSpec, row: Row) -> None:
    check_keys(row, [*task.row, "idx"], optional=["label"])
    for name in task.row:
        check_text(row, name)
    check_label(task, row)


def accept_quality(task: TaskSpec, row: Row, seed: Json) -> None:
    """No rule beyond the format's."""


def view(task: TaskSpec, row: Row) -> dict[str, str]:
    return {name: row[name] for name in task.row}


def options(task: TaskSpec, row: Row) -> list[str]:
    return [label.name for label in task.labels]


def answer_of(task: TaskSpec, row: Row) -> str:
    name = task.label_of(row)
    if name is None:
        raise RowError("label: the split hides it")
    return name


def relabel(task: TaskSpec, row: Row, option: str) -> Row:
    return {**row, "label": task.label(option).value}


def number(task: TaskSpec, row: Row, idx: int) -> Row:
    return {**row, "idx": idx}


def examples(task: TaskSpec, row: Row) -> list[Example]:
    names = tuple(label.name for label in task.labels)
    label = task.label_of(row)
    gold = (names.index(label),) if label is not None else ()
    return [Example(task.name, row["idx"], task.code.view(task, row), names, gold)]


def key(task: TaskSpec, row: Row) -> str:
    """Two rows with equal keys are duplicates: all texts, up to case, punctuation and spacing."""
    return "\n".join(normalised(text) for text in task.code.view(task, row).values())


@dataclass(frozen=True)
class TaskCode:
    """What a task does in code. Functions that check or build raise RowError with the reason for a refusal."""

    check_seed: Callable[[TaskSpec, Json], None] = accept_seed
    """Refuses an instance seed that breaks a rule of the task."""
    draw: Callable[[TaskSpec, LabelCell, Json, Random], dict[str, str]] = draw_nothing
    """What the slot's RNG decides before step 3, as prompt fields (ReCoRD: the answer entity)."""
    build: Callable[[TaskSpec, LabelCell, Json, Fields, Json, Random], list[Row]] = build
    """The official rows, without idx, of one answer of step 3: `task.rows_per_slot` of them."""
    check_format: Callable[[TaskSpec, Row], None] = check_format
    """Refuses a row, original or synthetic, that breaks the official format."""
    check_quality: Callable[[TaskSpec, Row, Json], None] = accept_quality
    """Refuses a synthetic row that breaks a rule of the task: copied, trivial, lopsided."""
    view: Callable[[TaskSpec, Row], dict[str, str]] = view
    """The row as named texts, for templates."""
    options: Callable[[TaskSpec, Row], list[str]] = options
    """The labels that self-correction may choose from."""
    answer_of: Callable[[TaskSpec, Row], str] = answer_of
    """The row's label, as one of `options`."""
    relabel: Callable[[TaskSpec, Row, str], Row] = relabel
    """The row with another of its `options` as label."""
    number: Callable[[TaskSpec, Row, int], Row] = number
    """The row with its place in the file."""
    examples: Callable[[TaskSpec, Row], list[Example]] = examples
    """The row as questions to a model."""
    key: Callable[[TaskSpec, Row], str] = key
    """Equal for duplicates."""
    drawn_fields: tuple[str, ...] = ()
    """Names that `draw` adds to the prompt of step 3."""
    built_fields: tuple[str, ...] = ()
    """Those of them that `build` needs too: a whole instance written in one answer has to hold them."""
    view_fields: tuple[str, ...] = ()
    """Names that `view` has beside the task's `row`."""


CODE = TaskCode()


def check_keys(row: Row, required: list[str], optional: list[str]) -> None:
    missing = [name for name in required if name not in row]
    unknown = [name for name in row if name not in required and name not in optional]
    if missing or unknown:
        raise RowError(f"keys: missing {missing}, unknown {unknown}")
    if type(row["idx"]) is not int or row["idx"] < 0:
        raise RowError(f"idx: got {row['idx']!r}, expected a whole number from 0")


def check_text(row: Row, name: str) -> None:
    if not isinstance(row[name], str) or not row[name].strip():
        raise RowError(f"{name}: got {row[name]!r}, expected a text")


def check_label(task: TaskSpec, row: Row) -> None:
    if "label" in row and not any(same_value(label.value, row["label"]) for label in task.labels):
        known = ", ".join(repr(label.value) for label in task.labels)
        raise RowError(f"label: got {row['label']!r}, expected one of {known}")
