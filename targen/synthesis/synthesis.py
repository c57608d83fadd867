"""One task's data set: from slots to instances, until labels are balanced and no instance repeats another."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

from targen.data.contamination import EvaluationRows
from targen.llm.messages import REMEDIES
from targen.runtime.errors import UserError
from targen.synthesis.candidate_store import (
    CandidateStore,
    StoredCandidate,
    StoredReject,
    row_key,
    row_text,
    rows_text,
    seed_text,
)
from targen.synthesis.duplicates import find_repeats
from targen.synthesis.engine import Detachable, Workflow
from targen.synthesis.hard_cases import HardCases, StudentsFor
from targen.synthesis.item_lists import write_lists
from targen.synthesis.recipe import Candidate, InstanceSeed, ItemLists, Recipe, Reject
from targen.synthesis.slots.assignment import Shard, Slot, interleaved
from targen.synthesis.steps import final_cell, make_instance
from targen.tasks.task import Task
from targen.text.similarity import signature

SLOTS_WITHOUT_ANY, FEWEST_SLOTS = 8, 64  # per row, and in all, after which a label cell without an instance is given up
# Asked for with batch files before they are known to be needed: next attempts, as a part of all slots and at most for one slot;
# further slots, as a part of those that replace others.
AHEAD, MOST_AHEAD, SLOTS_AHEAD = 0.1, 2, 0.25


@dataclass
class Synthesis:
    """The state of one task during generation. `size` counts rows."""

    recipe: Recipe
    size: int
    store: CandidateStore
    evaluation: EvaluationRows | None = None  # rows of the evaluation split, if available
    may_repeat: bool = True  # rows of the evaluation split: False with synth.contamination=filter
    students: StudentsFor = lambda _: []  # they decide which cases are hard, with a method that has rounds
    item_lists: ItemLists = field(default_factory=dict)
    candidates: dict[Slot, StoredCandidate] = field(default_factory=dict)
    rejects: list[StoredReject] = field(default_factory=list)
    attempts: Counter[Slot] = field(default_factory=Counter)  # the number of the current or next attempt
    awaited: dict[Slot, Candidate | None] = field(default_factory=dict)  # wait for answers; with what waits for step 4
    supposed: set[Slot] = field(default_factory=set)  # awaited, and taken to succeed while looking ahead
    rounds: HardCases = field(init=False)

    def __post_init__(self) -> None:
        self.rounds = HardCases(self.recipe, self.size, self.students)

    @property
    def task(self) -> Task:
        """The task whose rows are made."""
        return self.recipe.task

    @property
    def attempts_made(self) -> int:
        """Attempts so far, each a candidate or a reject."""
        return len(self.candidates) + sum(reject.slot is not None for reject in self.rejects)

    @property
    def quotas(self) -> list[int]:
        """Instances per label cell at the end of the current round."""
        return self.rounds.quotas

    def candidate(self, slot: Slot) -> Candidate:
        """The candidate of a slot, read from the store."""
        return self.store.candidate(slot, self.candidates[slot])

    def keep(self, candidate: Candidate) -> None:
        """Stores a candidate that passed all checks."""
        task, has_signatures = self.task, self.recipe.near_duplicates is not None
        seed = seed_text(candidate.instance_seed) if self.recipe.file_seeds is None else ""
        self.candidates[candidate.slot] = StoredCandidate(
            candidate.attempt,
            candidate.context,
            final_cell(task, candidate).number,
            (candidate.label_before, candidate.label_after),
            tuple(row_key(task, row) for row in candidate.rows),
            signature(row_text(task, candidate.rows[0])) if has_signatures else b"",
            signature(seed) if has_signatures and seed else b"",
            self.store.put_candidate(candidate),
        )

    def refuse(self, reject: Reject) -> None:
        """Records a reject."""
        self.rejects.append(self.store.put_reject(reject))

    def refuse_candidate(self, candidate: Candidate, step: str, reason: str) -> None:
        """Records as a reject a candidate that had passed the checks of its steps, with the reason."""
        label_change = (candidate.label_before, candidate.label_after)
        seed = InstanceSeed(candidate.instance_seed, candidate.context, candidate.call_ids, candidate.prompt_details)
        text = rows_text(self.task, candidate.rows)
        slot, attempt, rows = candidate.slot, candidate.attempt, candidate.rows
        self.refuse(Reject(slot, attempt, step, reason, text, candidate.call_ids, seed, label_change, rows))


@dataclass(frozen=True)
class Selection:
    """The instances of the set, in row order, and those that were held back."""

    accepted: tuple[Slot, ...]
    surplus: tuple[Slot, ...]


def write_item_lists(state: Synthesis) -> Workflow[None]:
    """Makes what comes before the instances: contexts, and the other lists of a method."""
    result = yield from write_lists(state.recipe)
    state.item_lists = result.lists
    for reject in result.rejects:
        state.refuse(reject)


def synthesise_shard(state: Synthesis, shard: Shard) -> Workflow[None]:
    """One task in a shard: the first round of its own slots. The merge does everything else."""
    if not state.item_lists:
        yield from write_item_lists(state)
    yield from _fill(
        state, [slot for slot in first_slots(state.recipe, state.quotas) if state.recipe.is_in(shard, slot)]
    )


def synthesise(state: Synthesis) -> Workflow[Selection]:
    """One task: contexts and other lists, then slots in rounds, until every label cell has its quota.

    A flip by self-correction or a slot without attempts left leaves a cell short: it gets further slots, those that a larger
    size would have. A slot whose candidate repeats an earlier one continues with its next attempt.

    While batch files wait for answers, the attempts in them are supposed to succeed, so that the same round asks for all that
    is needed then. The engine ends such a start without a result; the next start begins with the answers.

    A method that asks for hard cases raises the quotas when a round is full. Its next round cannot be foreseen, and so waits.
    """
    yield from write_item_lists(state)
    opened = [state.recipe.with_spare(quota) for quota in state.quotas]
    todo = first_slots(state.recipe, state.quotas)
    first = set(todo)
    while True:
        yield from _fill(state, sorted(todo))
        _suppose(state)
        if todo := _drop_repeats(state):
            continue
        selection = _select(state)
        shortages = _shortage(state, selection)
        if not any(shortages):
            if state.supposed:
                yield from _ask_ahead(state, opened, first)
                return selection
            if not state.rounds.next(state.candidate, selection.accepted, state.item_lists.get("context", [])):
                return selection
            first, shortages = set(), _shortage(state, selection)
        todo = []
        for cell, lacking in enumerate(shortages):
            further = state.recipe.with_spare(lacking)
            if lacking and _is_hopeless(state, cell, lacking, opened[cell]):
                raise UserError(_why_short(state, cell, state.quotas[cell] - lacking, opened[cell]))
            todo += [state.recipe.slot(cell, opened[cell] + extra) for extra in range(further)]
            opened[cell] += further
        state.rounds.open(todo)
        first = first or set(todo)


def _is_hopeless(state: Synthesis, cell: int, lacking: int, opened: int) -> bool:
    """Whether a label cell has used up its slots, or so many without any instance that more are not worth their calls."""
    return _is_empty(state, cell, lacking, opened) or opened + lacking > state.quotas[cell] * state.recipe.max_slots


def _is_empty(state: Synthesis, cell: int, lacking: int, opened: int) -> bool:
    quota = state.quotas[cell]
    return lacking == quota and opened >= max(SLOTS_WITHOUT_ANY * quota, FEWEST_SLOTS)


def first_slots(recipe: Recipe, quotas: Sequence[int]) -> list[Slot]:
    """The slots that are opened first for the quotas of the label cells, in order."""
    opened = [recipe.with_spare(quota) for quota in quotas]
    return sorted(recipe.slot(cell, number) for cell, count in enumerate(opened) for number in range(count))


def _fill(state: Synthesis, slots: Iterable[Slot]) -> Workflow[None]:
    """Attempts of the slots, side by side, until each has a candidate or has used up its attempts."""
    yield Detachable(_attempt(state, slot) for slot in slots)


def _attempt(state: Synthesis, slot: Slot) -> Workflow[None]:
    recipe = state.rounds.recipe_of(slot)
    kept_seed: InstanceSeed | None = None
    while (attempt := state.attempts[slot]) < recipe.max_attempts:
        state.awaited[slot] = None
        on_written = partial(state.awaited.__setitem__, slot)
        outcome = yield from make_instance(recipe, state.item_lists, slot, attempt, kept_seed, on_written)
        del state.awaited[slot]
        kept_seed = None
        if isinstance(outcome, Reject):
            state.refuse(outcome)
            kept_seed = recipe.kept_seed(outcome)
        elif (match := _contamination(state, outcome)) is not None:
            state.refuse_candidate(outcome, "contamination", match)
        else:
            state.keep(outcome)
            break
        state.attempts[slot] = attempt + 1 if kept_seed is not None else recipe.attempt_anew(attempt)
    state.supposed.discard(slot)


def _suppose(state: Synthesis) -> None:
    """Takes the attempts that wait for answers to succeed and keep their labels."""
    for candidate in filter(None, state.awaited.values()):
        state.keep(candidate)
    state.supposed |= state.awaited.keys()
    state.awaited.clear()


def _ask_ahead(state: Synthesis, opened: list[int], first: set[Slot]) -> Workflow[None]:
    """Asks for what few replacements that wait for answers may need in turn: one after the other would take rounds.

    `first` are the slots that were opened for all rows, and not to replace others.
    """
    recipe = state.rounds.current
    late = sorted(slot for slot in state.supposed if state.attempts[slot] > 0)
    per_slot = min(MOST_AHEAD, int(AHEAD * sum(opened)) // len(late)) if late else 0
    further: list[tuple[Slot, int]] = []
    for slot in late:
        attempt = state.attempts[slot]
        for _ in range(per_slot):
            attempt = recipe.attempt_anew(attempt)
            further += [(slot, attempt)] if attempt < recipe.max_attempts else []
    for cell, count in Counter(slot.cell for slot in state.supposed - first).items():  # their labels may flip, too
        further += [(recipe.slot(cell, opened[cell] + extra), 0) for extra in range(math.ceil(SLOTS_AHEAD * count))]
    state.rounds.open([slot for slot, attempt in further if attempt == 0])
    yield Detachable(
        make_instance(state.rounds.recipe_of(slot), state.item_lists, slot, attempt) for slot, attempt in further
    )


def _contamination(state: Synthesis, candidate: Candidate) -> str | None:
    """How one of its rows repeats the evaluation split, if that is not allowed; else None."""
    if state.evaluation is None or state.may_repeat:
        return None
    views = [state.task.view(row) for row in candidate.rows]
    threshold = state.recipe.near_duplicates or 1.0
    return next((match for view in views if (match := state.evaluation.match(view, threshold)) is not None), None)


def _drop_repeats(state: Synthesis) -> list[Slot]:
    """Removes every candidate that repeats an earlier one. Returns the slots that need another attempt."""
    repeats = find_repeats(state.task, state.candidates, state.candidate, state.recipe.near_duplicates)
    for slot, repeat in repeats.items():
        state.refuse_candidate(state.candidate(slot), repeat.kind, repeat.reason)
        state.attempts[slot] = state.recipe.attempt_anew(state.candidates[slot].attempt)
        del state.candidates[slot]
    return list(repeats)


def _select(state: Synthesis) -> Selection:
    """The first candidates of each label cell, up to its quota, as rows; the others are surplus."""
    task, quotas = state.task, state.quotas
    groups: list[list[Slot]] = [[] for _ in task.label_cells]
    surplus = []
    for slot in sorted(state.candidates):
        cell = state.candidates[slot].cell
        if len(groups[cell]) < quotas[cell]:
            groups[cell].append(slot)
        else:
            surplus.append(slot)
    return Selection(tuple(interleaved(state.recipe.seed, task.name, groups)), tuple(surplus))


def _shortage(state: Synthesis, selection: Selection) -> list[int]:
    """The number of instances that each label cell lacks."""
    have = Counter(state.candidates[slot].cell for slot in selection.accepted)
    have.update(slot.cell for slot in state.supposed - state.candidates.keys())
    return [max(0, quota - have[cell]) for cell, quota in enumerate(state.quotas)]


def _why_short(state: Synthesis, cell: int, have: int, opened: int) -> str:
    task, quota = state.task, state.quotas[cell]
    reasons = Counter(reject.kind for reject in state.rejects if reject.slot is not None and reject.slot.cell == cell)
    if flips := sum(draft.flipped for slot, draft in state.candidates.items() if slot.cell == cell):
        reasons["self_correction: label flipped"] = flips
    why = "; ".join(f"{count} x {reason}" for reason, count in reasons.most_common(5))
    commonest = next(iter(reasons.most_common(1)), ("", 0))[0].partition(": ")[2]
    remedy = f"{REMEDIES.get(commonest, REMEDIES[None])}, in another run.dir"
    if _is_empty(state, cell, quota - have, opened):
        advice = f"{remedy}; more slots (synth.max_slots) would not help"
    else:
        advice = f"Raise synth.max_slots to continue. Or: {remedy[0].lower()}{remedy[1:]}"
    return (
        f"{task.name}: got {have} instances of label {task.label_cells[cell]}, expected {quota}, after {opened} slots ({why}). All "
        f"answers are kept. {advice}."
    )
