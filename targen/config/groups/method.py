"""The settings of a method, from conf/method/<name>.yaml."""

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass as checked_dataclass

from targen.tasks.task import STRICT, Count


@checked_dataclass(frozen=True, config=STRICT)
class AttributeValues:
    """Values of the task's attributes are asked for first; each prompt shows one of every attribute."""

    values: Count  # of an attribute
    prompt: str
    known: str


@checked_dataclass(frozen=True, config=STRICT)
class Instructions:
    """A pool of instructions is written first, in rounds that show some of it; each prompt shows one."""

    per_call: Count
    shown: Count
    near_copy: Annotated[float, Field(gt=0, le=1)]  # an instruction with this ROUGE-L to an earlier one is dropped
    prompt: str
    known: str


@checked_dataclass(frozen=True, config=STRICT)
class Demonstrations:
    """Each prompt shows rows of the original train split."""

    count: Count
    row: str
    intro: str  # said before them
    stand_in: str  # the same where they are another task's (AX-g: RTE's)


@checked_dataclass(frozen=True, config=STRICT)
class Method:
    """A way to write a data set, from conf/method/<name>.yaml: one template a step, null where it has no such step.

    Without a step for instance seeds, `generation` asks for a whole instance in one answer.
    """

    name: str
    system: str
    self_correct_default: str  # of synth.self_correct
    contexts: str | None
    known_contexts: str
    instance_seed: str | None
    generation: str
    self_correction: str
    given_label: str = ""  # names the label, for tasks whose labels have a constraint
    attributes: AttributeValues | None = None
    instructions: Instructions | None = None
    demonstrations: Demonstrations | None = None

    @property
    def shown(self) -> frozenset[str]:
        """Fields of `generation` that stand for what was drawn for an instance, where it is asked for in one answer."""
        parts = {
            "context": self.contexts,
            "attributes": self.attributes,
            "task_instruction": self.instructions,
            "demonstrations": self.demonstrations,
        }
        return frozenset(name for name, part in parts.items() if part is not None)
