"""Everything that decides the requests of a task, and the result of an attempt: a candidate, or a reject with its reason."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

from targen.config.groups.generation import Sampling, Step
from targen.config.groups.method import Method
from targen.llm.messages import Request, call_seed, make_request
from targen.runtime.jsonl import Json
from targen.synthesis.demonstrations import TrainRows
from targen.synthesis.prompts.step_prompts import Prompt, SeedPurpose, instance_seed_prompt, seed_variant_keys
from targen.synthesis.slots.assignment import (
    Deal,
    SeedGroup,
    Shard,
    Slot,
    cell_weights,
    drawn_variants,
    nth_slot,
    quotas,
    seed_groups,
    shard_of_call,
)
from targen.tasks.task import Row, Task

ItemLists = dict[str, list[str]]  # written before the instances, by name: "context", "attributes.topic", ...
ATTRIBUTE = "attributes."  # before the names of pools of attribute values


@dataclass(frozen=True)
class Candidate:
    """An instance that passed all checks: one row, or a pair (AX-g)."""

    slot: Slot
    attempt: int
    context: str
    prompt_details: Json
    instance_seed: Json
    rows: tuple[Row, ...]
    label_before: str
    label_after: str
    explanation: str
    call_ids: tuple[str, ...]
    votes: Mapping[str, int] | None = None  # label -> corrections that gave it, with self_correct=vote
    free_variants: Mapping[str, str] = field(default_factory=dict)  # that the model named

    @property
    def flipped(self) -> bool:
        """Whether self-correction changed the label."""
        return self.label_before != self.label_after


@dataclass(frozen=True)
class InstanceSeed:
    """What step 3 starts from: the instance seed, its context, and the calls that made them."""

    seed: Json  # empty if the answer had no usable one
    context: str
    call_ids: tuple[str, ...]
    prompt_details: Json = field(default_factory=dict)  # what else the prompt showed, for provenance


@dataclass(frozen=True)
class Reject:
    """A failed attempt: the step that failed, the raw text of its answer, and the instance seed."""

    slot: Slot | None  # None: an answer that no single slot waits for, such as a list of contexts
    attempt: int
    step: str
    reason: str
    text: str
    call_ids: tuple[str, ...]
    seed: InstanceSeed
    label_change: tuple[str, str] | None = None  # label before and after self-correction; None: it was not reached
    rows: tuple[Row, ...] = ()  # that passed the checks, if it came so far


@dataclass(frozen=True)
class Round:
    """A round of a method that asks for hard cases. The first has no contexts and no failures of its own."""

    number: int  # from 1
    contexts: tuple[str, ...] = ()  # of its calls for instance seeds, as often as each has a share; empty: all, evenly
    failures: Mapping[str, tuple[Json, ...]] = field(default_factory=dict)  # kinds of failures in each context
    mark: str = ""  # before the positions of its calls; another one for other contexts or failures


@dataclass(frozen=True, eq=False)
class Recipe:
    """Everything that decides the requests of one task."""

    task: Task
    method: Method
    model: str
    sampling: dict[Step, Sampling]
    seed: int
    contexts: int
    seeds_per_context: int
    self_correct: str  # off, paper, drop, vote
    votes: int
    vote_temperature: float
    max_attempts: int
    max_slots: int
    spare: float
    near_duplicates: float | None  # similarity from which a row repeats another
    file_seeds: tuple[tuple[Json, ...], ...] | None = None  # per seed group, with synth.seed_source=file
    train_rows: TrainRows | None = None  # for demonstrations
    label_shares: Mapping[str, float] | None = None  # None: balanced
    correct_blind: bool = False  # self-correction does not see the label
    correct_refuses: bool = False  # self-correction may refuse an instance
    few_rounds: bool = False  # lists at once, and a second instance from the same instance seed
    round_ends: tuple[int, ...] = ()  # rows so far at the end of each round but the last; empty: no rounds
    round: Round | None = None  # None: the method has no rounds

    @cached_property
    def groups(self) -> list[SeedGroup]:
        """The seed groups of the task."""
        return seed_groups(self.task.label_cells, seed_variant_keys(self.task))

    def group_of(self, slot: Slot) -> SeedGroup:
        """The seed group of a slot."""
        return next(group for group in self.groups if slot.cell in group.cells)

    @lru_cache(maxsize=64)  # noqa: B019  (recipes live as long as the run)
    def deal(self, group: SeedGroup) -> Deal:
        """How slots of a group are dealt to calls for instance seeds."""
        limit = self.task.instance_seed.per_call or self.seeds_per_context
        # A later round lists a context once for each of its calls, which neighbouring slots share
        contexts = 1 if self.round is not None and self.round.contexts else self.contexts
        return Deal(self.seed, self.task.name, group, contexts, min(self.seeds_per_context, limit))

    def shared_position(self, group: SeedGroup, call: int) -> str:
        """The position in the run of a call for instance seeds that first attempts share."""
        return f"g{group.number}-{call:05d}"

    @property
    def mark(self) -> str:
        """The prefix of the positions of all calls: that of the round."""
        return self.round.mark if self.round is not None else ""

    def round_details(self, slot: Slot, context: str) -> Json:
        """What an attempt's prompts show of its round, for provenance: failures in its context, those of its label first."""
        if self.round is None or self.method.rounds is None:
            return {}
        cell = self.task.label_cells[slot.cell]
        ranked = sorted(
            self.round.failures.get(context, ()),
            key=lambda kind: (kind["label"] != cell.label, not cell.fields.items() <= kind["variant"].items()),
        )
        failures = ranked[: self.method.rounds.shown]
        return {"round": self.round.number} | ({"failures": failures} if failures else {})

    def seed_position(self, slot: Slot, attempt: int) -> int | None:
        """The index of a slot's instance seed in its answer, from 0; None if it was made alone or comes from a file."""
        if self.method.instance_seed is None or self.file_seeds is not None or self._seed_attempt(attempt) > 0:
            return None
        return self.deal(self.group_of(slot)).call_and_position(slot)[1]

    @property
    def keeps_seeds(self) -> bool:
        """Whether a rejected instance is written once more from its context and instance seed. Greedy answers would be the same."""
        return self.few_rounds and self.method.instance_seed is not None and self.sampling["generation"].temperature > 0

    def _seed_attempt(self, attempt: int) -> int:
        """The attempt for which an attempt's instance seed was made: odd attempts use that of the one before."""
        return attempt - attempt % 2 if self.keeps_seeds else attempt

    def attempt_anew(self, attempt: int) -> int:
        """The next attempt that has an instance seed of its own."""
        return self._seed_attempt(attempt) + (2 if self.keeps_seeds else 1)

    def kept_seed(self, reject: Reject) -> InstanceSeed | None:
        """The instance seed from which a rejected instance is written once more; None: the next attempt has its own."""
        has_own = bool(reject.seed.seed) and self._seed_attempt(reject.attempt) == reject.attempt
        return reject.seed if self.keeps_seeds and has_own else None

    def quotas(self, size: int) -> list[int]:
        """Instances per label cell in a set of `size` rows."""
        return quotas(self._weights, size // self.task.rows_per_slot)

    def with_spare(self, instances: int) -> int:
        """How many slots are opened for this many instances."""
        return math.ceil(instances * (1 + self.spare))

    def slot(self, cell: int, number: int) -> Slot:
        """The `number`-th slot of a label cell, from 0."""
        return nth_slot(self.seed, self.task.name, self._weights, cell, number)

    @cached_property
    def _weights(self) -> list[float]:
        return cell_weights(self.task.label_cells, self.label_shares if self.task.labels else None)

    @lru_cache(maxsize=16_384)  # noqa: B019  (recipes live as long as the run)
    def variant_of(self, slot: Slot) -> Mapping[str, str]:
        """The slot's variant: what is crossed with its label, and what was drawn for it."""
        return {**self.task.label_cells[slot.cell].fields, **drawn_variants(self.seed, self.task, slot)}

    def purpose_of(self, slot: Slot) -> SeedPurpose:
        """What the instance seed of a slot is for."""
        return SeedPurpose(self.task.label_cells[slot.cell].label, self.variant_of(slot))

    def is_in(self, shard: Shard, slot: Slot) -> bool:
        """Whether this shard makes the slot."""
        group = self.group_of(slot)
        call, _ = self.deal(group).call_and_position(slot)
        return shard_of_call(self.seed, self.task.name, shard.count, len(self.groups), group, call) == shard.index

    def request(self, step: Step, position: str, prompt: Prompt, sampling: Sampling | None = None) -> Request:
        """The request for a step at a position of the run; its sampling seed follows from both."""
        messages, schema = prompt
        position = self.mark + position
        number = call_seed(self.seed, self.task.name, step, position)
        sampling = sampling or self.sampling[step]
        return make_request(position, self.task.name, step, self.model, messages, sampling, schema, number)


@lru_cache(maxsize=1024)
def shared_seed_request(recipe: Recipe, group: SeedGroup, call: int, context: str) -> tuple[int, Request]:
    """The number of slots that a call of step 2 serves, and its request; cached for these slots, each of which waits for it."""
    served = recipe.deal(group).slots(call)
    return len(served), seed_request(recipe, recipe.shared_position(group, call), context, served)


def seed_request(recipe: Recipe, position: str, context: str, served: list[Slot]) -> Request:
    """The request for the instance seeds of the slots in `served`."""
    prompt = instance_seed_prompt(recipe.method, recipe.task, context, [recipe.purpose_of(slot) for slot in served])
    return recipe.request("instance_seed", position, prompt)


class StepError(Exception):
    """A step's answer was refused."""

    def __init__(self, step: str, reason: str, text: str, call_ids: tuple[str, ...], seed: InstanceSeed) -> None:
        super().__init__(reason)
        self.step, self.reason, self.text, self.call_ids, self.seed = step, reason, text, call_ids, seed
