"""The settings of a method, from conf/method/<name>.yaml."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass as checked_dataclass

from targen.config.groups.bounds import STRICT, Count


@checked_dataclass(frozen=True, config=STRICT)
class AttributeValues:
    """The model first lists values of the task's attributes; each prompt then shows one value of every attribute."""

    values: Count
    """Values per attribute."""
    prompt: str
    """Template of the prompt that asks for values."""
    known: str
    """Template of the part that lists the values known so far."""


@checked_dataclass(frozen=True, config=STRICT)
class Instructions:
    """The model first writes a pool of instructions, in rounds that show some of them; each prompt then shows one."""

    per_call: Count
    """Instructions asked for in one call."""
    shown: Count
    """Earlier instructions shown in each call."""
    near_copy: Annotated[float, Field(gt=0, le=1)]
    """An instruction with this ROUGE-L to an earlier one is dropped."""
    prompt: str
    """Template of the prompt that asks for instructions."""
    known: str
    """Template of the part that shows earlier instructions."""


@checked_dataclass(frozen=True, config=STRICT)
class Demonstrations:
    """Each prompt shows rows of the original train split."""

    count: Count
    """Rows per prompt."""
    row: str
    """Template of one row."""
    intro: str
    """Text before the rows."""
    stand_in: str | None
    """Text before rows that come from another task (AX-g: from RTE); null: such tasks are refused."""


@checked_dataclass(frozen=True, config=STRICT)
class Rounds:
    """Rows are made in rounds. Those after the first ask for more of what students, taught the rows so far, get wrong."""

    count: Annotated[int, Field(ge=2)]
    """Rounds in all."""
    first: Annotated[float, Field(gt=0, lt=1)]
    """Share of synth.size that the first round makes; the others make equal parts of the rest."""
    students: Annotated[list[Literal["bag_of_words", "encoder"]], Field(min_length=1)]
    """The students that are asked; the one that is right most often says which rows are failures."""
    most_rows: Count
    """Rows per task at most that students are taught and asked; of more, a sample."""
    shown: Count
    """Kinds of failures that a prompt of step 3 describes at most."""
    failures: str
    """Template of the part of step 3 that describes them."""


@checked_dataclass(frozen=True, config=STRICT)
class Method:
    """A way to write a data set: one template per step, null where the method has no such step.

    Without a step for instance seeds, `generation` asks for a whole instance in one answer.
    """

    name: str
    """Name of the method."""
    system: str
    """System prompt of all steps."""
    self_correct_default: str
    """Default of synth.self_correct."""
    contexts: str | None
    """Template of step 1, which asks for contexts."""
    known_contexts: str
    """Template of the part of step 1 that lists the contexts known so far."""
    instance_seed: str | None
    """Template of step 2, which asks for instance seeds."""
    generation: str
    """Template of step 3, which asks for an instance."""
    self_correction: str
    """Template of step 4, which checks the label."""
    blind_correction: str = ""
    """Template of step 4 with synth.correct_blind, which does not show the label."""
    refusal: str = ""
    """Template of the sentence of step 4 that lets it refuse an instance, with synth.correct_refuses."""
    seed_purposes: str = ""
    """Template of the part of step 2 that lists what each instance seed is for, for tasks with instance_seed.each or
    per_label."""
    seed_label: str = ""
    """Template of the words of this list that name the label."""
    given_label: str = ""
    """Template of the sentence that names the label, for tasks whose labels have a constraint."""
    attributes: AttributeValues | None = None
    """Attributed prompts; null: none."""
    instructions: Instructions | None = None
    """A pool of instructions; null: none."""
    demonstrations: Demonstrations | None = None
    """Rows of the original train split in each prompt; null: none."""
    rounds: Rounds | None = None
    """Rounds that ask for hard cases; null: all rows are made alike."""

    @property
    def shown(self) -> frozenset[str]:
        """Fields of `generation` that are filled with what was drawn for an instance, if it is asked for in one answer."""
        parts = {
            "context": self.contexts,
            "attributes": self.attributes,
            "task_instruction": self.instructions,
            "demonstrations": self.demonstrations,
        }
        return frozenset(name for name, part in parts.items() if part is not None)
