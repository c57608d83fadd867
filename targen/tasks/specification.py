"""The parts of a task's specification, as conf/task/<name>.yaml has them."""

import re
from dataclasses import field
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as checked_dataclass

STRICT = ConfigDict(extra="forbid")
Count = Annotated[int, Field(ge=1)]
Weights = Annotated[dict[str, Count], Field(min_length=1)]  # value -> how often it is drawn
Variant = list[str] | str | Weights | dict[str, Weights]
"""How a kind of instance is chosen. A list: crossed with the label, so that every label has as many of each value. Weights:
drawn for each slot, in these proportions; by label name, where it goes with the label. A text: what the model chooses in
step 3, and names."""
Metric = Annotated[str, Field(min_length=1)]  # a name in METRICS of eval/scoring/metrics.py


@checked_dataclass(frozen=True, config=STRICT)
class Label:
    """One label: `value` as the official row has it, `name` as prompts and predictions have it."""

    value: str | bool | int
    name: str
    verbalizer: str
    constraint: str = ""  # what step 3 asks for, so that the label holds by construction
    seed: str = ""  # what step 2 asks for, with `instance_seed.per_label`


@checked_dataclass(frozen=True, config=STRICT)
class StepPrompt:
    """The task's part of a step's prompt, and the fields of the JSON answer with what each holds."""

    instruction: str
    fields: dict[str, Any]


@checked_dataclass(frozen=True, config=STRICT)
class SeedPrompt(StepPrompt):
    """The task's part of step 2. With `per_label` or `each`, a call lists what each of its instance seeds is for."""

    per_label: bool = False  # the call names the label of each seed
    each: str = ""  # template of the request for a single seed; its fields are the variants
    per_call: Count | None = None  # instance seeds per call at most, for long ones


@checked_dataclass(frozen=True, config=STRICT)
class WholePrompt:
    """The task's part of a prompt that asks for a whole instance: its fields are those of the instance seed, these, and those of step 3."""

    instruction: str
    fields: dict[str, str] = field(default_factory=dict)  # drawn by methods that have instance seeds


@checked_dataclass(frozen=True, config=STRICT)
class EncoderInput:
    """Templates of the two texts of an encoder; which of them is cut if they are too long, and at which end."""

    first: str
    second: str
    truncate: Literal["first", "second", "longest"]
    cut: Literal["end", "beginning"] = "end"


@checked_dataclass(frozen=True, config=STRICT)
class Cue:
    """A property of a row that may go with its label: `pattern`, a regular expression, found in `field`, or in any text of the row."""

    pattern: str
    field: str | None = None

    def __post_init__(self) -> None:
        try:
            re.compile(self.pattern)
        except re.error as err:
            raise ValueError(f"pattern {self.pattern!r} is no regular expression: {err}") from None
