"""One task's data set: from slots to instances, until labels are balanced and nothing is there twice."""

import math
from collections import Counter
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from targen.data.contamination import EvaluationRows
from targen.runtime.errors import UserError
from targen.synthesis.candidate_store import Draft, Drafts, Refused, row_text, rows_text, seed_text
from targen.synthesis.duplicates import find_repeats
from targen.synthesis.item_lists import write_pools
from targen.synthesis.recipe import Candidate, InstanceSeed, Job, Pools, Recipe, Reject, Wanted
from targen.synthesis.slots import Shard, Slot, interleaved, quotas
from targen.synthesis.steps import final_cell, make_instance
from targen.tasks.task import Task
from targen.text.similarity import signature

SLOTS_WITHOUT_ANY, FEWEST_SLOTS = 8, 64  # per row, and in all, after which a label cell without an instance is given up


@dataclass
class Synthesis:
    """The state of one task while it is made. `size` counts rows."""

    recipe: Recipe
    size: int
    store: Drafts
    evaluation: EvaluationRows | None = None  # rows of the evaluation split, where they are at hand
    may_repeat: bool = True  # what stands in the evaluation split: False with synth.contamination=filter
    pools: Pools = field(default_factory=dict)
    drafts: dict[Slot, Draft] = field(default_factory=dict)
    refused: list[Refused] = field(default_factory=list)
    attempts: Counter[Slot] = field(default_factory=Counter)

    @property
    def task(self) -> Task:
        return self.recipe.task

    @property
    def quotas(self) -> list[int]:
        return quotas(self.task.label_cells, self.size // self.task.rows_per_slot)

    def candidate(self, slot: Slot) -> Candidate:
        return self.store.candidate(slot, self.drafts[slot])

    def keep(self, candidate: Candidate) -> None:
        task, weighed = self.task, self.recipe.near_duplicates is not None
        from_llm = self.recipe.file_seeds is None
        self.drafts[candidate.slot] = Draft(
            candidate.attempt,
            final_cell(task, candidate).number,
            (candidate.label_before, candidate.label_after),
            tuple(_digest(task.duplicate_key(row)) for row in candidate.rows),
            signature(row_text(task, candidate.rows[0])) if weighed else b"",
            signature(seed_text(candidate.instance_seed)) if weighed and from_llm else b"",
            self.store.put_candidate(candidate),
        )

    def refuse(self, reject: Reject) -> None:
        self.refused.append(self.store.put_reject(reject))

    def refuse_candidate(self, candidate: Candidate, step: str, reason: str) -> None:
        judged = (candidate.label_before, candidate.label_after)
        seed = InstanceSeed(candidate.instance_seed, candidate.context, candidate.call_ids, candidate.shown)
        text = rows_text(self.task, candidate.rows)
        slot, attempt, rows = candidate.slot, candidate.attempt, candidate.rows
        self.refuse(Reject(slot, attempt, step, reason, text, candidate.call_ids, seed, judged, rows))


@dataclass(frozen=True)
class Settled:
    """The instances of the set, in row order, and those that were held back."""

    accepted: tuple[Slot, ...]
    surplus: tuple[Slot, ...]


def name_pools(state: Synthesis) -> Generator[Wanted, Any, None]:
    """The job of what comes before the instances: contexts, and the other lists of a method."""
    state.pools = yield from write_pools(state.recipe)


def synthesise_shard(state: Synthesis, shard: Shard) -> Generator[Wanted, Any, None]:
    """The job of one task in a shard: the first round of its own slots. Everything else is the merge's."""
    if not state.pools:
        yield from name_pools(state)
    yield from _fill(state, [slot for slot in first_slots(state.recipe, state.size) if state.recipe.is_in(shard, slot)])


def synthesise(state: Synthesis) -> Generator[Wanted, Any, Settled]:
    """The job of one task: contexts and other pools, then slots in rounds, until every label cell has its quota.

    A flip by self-correction or a slot whose attempts are used up leaves a cell short: it gets further slots, the
    ones that a larger size would have. What repeats an earlier slot goes on with its next attempt.
    """
    yield from name_pools(state)
    opened = [_with_spare(state.recipe, quota) for quota in state.quotas]
    todo = first_slots(state.recipe, state.size)
    while True:
        yield from _fill(state, sorted(todo))
        if todo := _drop_repeats(state):
            continue
        settled = _settle(state)
        short = _shortage(state, settled)
        if not any(short):
            return settled
        todo = []
        for cell, lacking in enumerate(short):
            further = _with_spare(state.recipe, lacking)
            if lacking and _is_hopeless(state, cell, lacking, opened[cell]):
                raise UserError(_why_short(state, cell, state.quotas[cell] - lacking, opened[cell]))
            todo += [Slot(opened[cell] + extra, cell) for extra in range(further)]
            opened[cell] += further


def _is_hopeless(state: Synthesis, cell: int, lacking: int, opened: int) -> bool:
    """Whether a label cell has had its slots, or so many without a single instance that more are not worth their calls."""
    quota = state.quotas[cell]
    none_yet = lacking == quota and opened >= max(SLOTS_WITHOUT_ANY * quota, FEWEST_SLOTS)
    return none_yet or opened + lacking > quota * state.recipe.max_slots


def first_slots(recipe: Recipe, size: int) -> list[Slot]:
    """The slots of the first round for so many rows, in order."""
    task = recipe.task
    opened = [_with_spare(recipe, quota) for quota in quotas(task.label_cells, size // task.rows_per_slot)]
    return sorted(Slot(index, cell) for cell, count in enumerate(opened) for index in range(count))


def _with_spare(recipe: Recipe, instances: int) -> int:
    return math.ceil(instances * (1 + recipe.spare))


def _fill(state: Synthesis, slots: Iterable[Slot]) -> Generator[Wanted, Any, None]:
    """Attempts of the slots, side by side, until each has a candidate or has used up its attempts."""
    yield (_attempt(state, slot) for slot in slots)


def _attempt(state: Synthesis, slot: Slot) -> Job:
    while state.attempts[slot] < state.recipe.max_attempts:
        made = yield from make_instance(state.recipe, state.pools, slot, state.attempts[slot])
        state.attempts[slot] += 1
        if isinstance(made, Reject):
            state.refuse(made)
        elif (match := _contaminated(state, made)) is not None:
            state.refuse_candidate(made, "contamination", match)
        else:
            state.keep(made)
            return


def _contaminated(state: Synthesis, candidate: Candidate) -> str | None:
    """How one of its rows repeats the evaluation split, where that is not allowed."""
    if state.evaluation is None or state.may_repeat:
        return None
    views = [state.task.view(row) for row in candidate.rows]
    threshold = state.recipe.near_duplicates or 1.0
    return next((how for view in views if (how := state.evaluation.match(view, threshold)) is not None), None)


def _drop_repeats(state: Synthesis) -> list[Slot]:
    """Takes out every candidate that repeats an earlier one; the slots that go on."""
    repeats = find_repeats(state.task, state.drafts, state.candidate, state.recipe.near_duplicates)
    for slot, repeat in repeats.items():
        state.refuse_candidate(state.candidate(slot), repeat.kind, repeat.reason)
        del state.drafts[slot]
    return list(repeats)


def _settle(state: Synthesis) -> Settled:
    task, wanted = state.task, state.quotas
    groups: list[list[Slot]] = [[] for _ in task.label_cells]
    surplus = []
    for slot in sorted(state.drafts):
        cell = state.drafts[slot].cell
        if len(groups[cell]) < wanted[cell]:
            groups[cell].append(slot)
        else:
            surplus.append(slot)
    return Settled(tuple(interleaved(state.recipe.seed, task.name, groups)), tuple(surplus))


def _shortage(state: Synthesis, settled: Settled) -> list[int]:
    """Instances that each label cell lacks."""
    have = Counter(state.drafts[slot].cell for slot in settled.accepted)
    return [wanted - have[cell] for cell, wanted in enumerate(state.quotas)]


def _why_short(state: Synthesis, cell: int, have: int, opened: int) -> str:
    task, wanted = state.task, state.quotas[cell]
    reasons = Counter(refused.kind for refused in state.refused if refused.slot.cell == cell)
    if flips := sum(draft.flipped for slot, draft in state.drafts.items() if slot.cell == cell):
        reasons["self_correction: label flipped"] = flips
    why = "; ".join(f"{count} x {reason}" for reason, count in reasons.most_common(5))
    return (
        f"{task.name}: got {have} instances of label {task.label_cells[cell]}, expected {wanted}, after {opened} slots ({why}). All "
        "answers are kept: raise synth.max_slots to go on, or take a better model or prompt, and another run.dir."
    )


def _digest(key: str) -> int:
    return int.from_bytes(blake2b(key.encode("utf-8", "surrogatepass"), digest_size=12).digest())
