"""What a task is: its labels, its prompts and how its rows look, from conf/task/<name>.yaml.

Where the official format needs code, `targen/tasks/<name>.py` says so with a `TaskCode`.
"""

import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as checked_dataclass

from targen.runtime.jsonl import Json

if TYPE_CHECKING:
    from targen.tasks.plain import TaskCode

Row = Json  # one row in the official SuperGLUE JSONL format
Fields = Mapping[str, str]  # named texts, as prompt templates see them
STRICT = ConfigDict(extra="forbid")
Count = Annotated[int, Field(ge=1)]
Metric = Literal["accuracy", "f1_macro", "gender_parity", "record_f1", "record_em"]  # functions of eval/metrics.py


@checked_dataclass(frozen=True, config=STRICT)
class Label:
    """One label: `value` as the official row has it, `name` as prompts and predictions have it."""

    value: str | bool | int
    name: str
    verbalizer: str
    constraint: str  # what step 3 asks for, so that the label holds by construction


@checked_dataclass(frozen=True, config=STRICT)
class StepPrompt:
    """The task's part of a step's prompt, and the fields of the JSON answer with what each holds."""

    instruction: str
    fields: dict[str, Any]


@checked_dataclass(frozen=True, config=STRICT)
class WholePrompt:
    """The task's part of a prompt that asks for a whole instance: its fields are those of the instance seed, these, and those of step 3."""

    instruction: str
    fields: dict[str, str] = field(default_factory=dict)  # that are drawn where there is an instance seed


@checked_dataclass(frozen=True, config=STRICT)
class EncoderInput:
    """Templates of the two texts of an encoder, and which one is cut, where, when they are too long."""

    first: str
    second: str
    truncate: Literal["first", "second", "longest"]
    cut: Literal["end", "beginning"] = "end"


@dataclass(frozen=True)
class LabelCell:
    """A label with its fixed variant (COPA: cause or effect): the unit in which rows are balanced."""

    number: int
    label: str | None  # None: the task has no fixed labels (ReCoRD)
    variant: tuple[tuple[str, str], ...]

    @property
    def fields(self) -> dict[str, str]:
        return dict(self.variant)

    def __str__(self) -> str:
        return ", ".join([self.label or "answer", *(f"{key} {value}" for key, value in self.variant)])


@dataclass(frozen=True)
class Example:
    """One question to a model. `choices` are label names, or the texts to choose from; `gold` indexes them."""

    task: str
    id: int
    fields: Fields
    choices: tuple[str, ...]
    gold: tuple[int, ...]  # several may be right (ReCoRD); empty: hidden
    answers: tuple[str, ...] = ()  # gold answers as texts, where scored as text (ReCoRD)


@checked_dataclass(frozen=True, config=STRICT)
class TaskSpec:
    """One task, as conf/task/<name>.yaml has it."""

    name: str
    folder: str
    title: str
    description: str
    question: str
    metrics: Annotated[list[Metric], Field(min_length=1)]
    sizes: dict[str, int]
    eval_split: str
    row: list[str]
    contexts: str
    instance_seed: StepPrompt
    generation: StepPrompt
    instance: str
    encoder: EncoderInput
    long_field: str  # of `instance`: what is cut where a whole prompt is too long
    whole: WholePrompt | None = None  # for methods that write an instance in one answer
    attributes: dict[str, str] = field(default_factory=dict)  # for AttrPrompt: what the values of each are
    labels: list[Label] = field(default_factory=list)
    variants: dict[str, list[str]] = field(default_factory=dict)
    choices: Literal["labels", "texts"] = "labels"
    rows_per_slot: int = 1
    original_train: str | None = None  # the task whose train split stands in where this one has none

    @cached_property
    def cells(self) -> list[LabelCell]:
        """All label cells; neighbours differ in the label, so that a size that does not divide stays balanced."""
        variants: list[tuple[tuple[str, str], ...]] = [()]
        for key, values in self.variants.items():
            variants = [(*variant, (key, value)) for variant in variants for value in values]
        names: list[str | None] = [label.name for label in self.labels] or [None]
        pairs = [(name, variant) for variant in variants for name in names]
        return [LabelCell(number, name, variant) for number, (name, variant) in enumerate(pairs)]

    def label(self, name: str) -> Label:
        return next(label for label in self.labels if label.name == name)

    def label_of(self, row: Row) -> str | None:
        """The label's name, None where the split hides it."""
        if "label" not in row:
            return None
        return next((label.name for label in self.labels if same_value(label.value, row["label"])), None)

    @cached_property
    def code(self) -> "TaskCode":
        """The task's functions: `CODE` of targen/tasks/<name>.py where there is one, else the plain ones."""
        own = importlib.util.find_spec(f"targen.tasks.{self.name}") is not None
        module = importlib.import_module(f"targen.tasks.{self.name if own else 'plain'}")
        code: TaskCode = module.CODE
        return code


def same_value(one: object, other: object) -> bool:
    """Equality that keeps `true` and `1` apart."""
    return type(one) is type(other) and one == other
