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
    """Text before rows from another task (AX-g: from RTE); null: tasks without a train split are refused."""


@checked_dataclass(frozen=True, config=STRICT)
class Rounds:
    """Rows are generated in rounds. Later rounds target the errors of small students trained on the rows so far."""

    count: Annotated[int, Field(ge=2)]
    """Rounds in all."""
    first: Annotated[float, Field(gt=0, lt=1)]
    """Fraction of synth.size generated in the first round; the other rounds split the rest evenly."""
    students: Annotated[list[Literal["bag_of_words", "encoder"]], Field(min_length=1)]
    """The students; the most accurate one determines which rows are failures."""
    most_rows: Count
    """Maximum rows per task for the students; a sample beyond that."""
    shown: Count
    """Maximum kinds of failures described in a prompt of step 3."""
    failures: str
    """Template of the part of step 3 that describes the failures."""


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
    """Template of the sentence in step 4 that allows refusing an instance, with synth.correct_refuses."""
    seed_purposes: str = ""
    """Template of the part of step 2 that lists what each instance seed is for, for tasks with instance_seed.each or
    per_label."""
    seed_label: str = ""
    """Template of the words in this list that name the label."""
    given_label: str = ""
    """Template of the sentence that names the label, for tasks whose labels have a constraint."""
    attributes: AttributeValues | None = None
    """Attributed prompts; null: none."""
    instructions: Instructions | None = None
    """A pool of instructions; null: none."""
    demonstrations: Demonstrations | None = None
    """Rows of the original train split in each prompt; null: none."""
    rounds: Rounds | None = None
    """Rounds that target hard cases; null: one round."""

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
