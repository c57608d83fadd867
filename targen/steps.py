"""The four steps of TarGEN, as jobs.

A job is a generator: it yields a request and is sent its answer, or yields a list of jobs and is sent their results.
What runs when is the engine's affair (targen/engine.py); nothing here knows of time, servers or files.
"""

import math
from collections.abc import Generator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from targen.errors import RowError, UserError
from targen.jsonl import Json
from targen.llm import Answer, Request, Sampling, Step, make_request, read_object
from targen.prompts import (
    Method,
    Prompt,
    contexts_prompt,
    generation_prompt,
    instance_seed_prompt,
    seed_variant_keys,
    self_correction_prompt,
)
from targen.slots import SeedGroup, Slot, context_of_call, rng, seed_groups, seed_place
from targen.task import LabelCell, Row, TaskSpec
from targen.words import normalised

Wanted = Any  # what a job yields: a Request, or a list of jobs
CONTEXTS_PER_CALL = 40


@dataclass(frozen=True)
class Candidate:
    """An instance that passed all checks: one row, or a pair (AX-g)."""

    slot: Slot
    attempt: int
    context: str
    instance_seed: Json
    rows: tuple[Row, ...]
    label_before: str
    label_after: str
    explanation: str
    call_ids: tuple[str, ...]

    @property
    def flipped(self) -> bool:
        return self.label_before != self.label_after


@dataclass(frozen=True)
class Reject:
    """An attempt that came to nothing, with the step that failed and the raw text of its answer."""

    slot: Slot
    attempt: int
    step: str
    reason: str
    text: str
    call_ids: tuple[str, ...]
    judged: tuple[str, str] | None = None  # label before and after self-correction, where it came so far


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what is asked for one task."""

    task: TaskSpec
    method: Method
    model: str
    sampling: dict[Step, Sampling]
    seed: int
    contexts: int
    seeds_per_context: int
    self_correct: str  # off, paper, drop
    max_attempts: int
    max_slots: int
    spare: float
    file_seeds: tuple[tuple[Json, ...], ...] | None = None  # per seed group, with synth.seed_source=file

    @cached_property
    def groups(self) -> list[SeedGroup]:
        return seed_groups(self.task.cells, seed_variant_keys(self.task))

    def group_of(self, slot: Slot) -> SeedGroup:
        return next(group for group in self.groups if slot.cell in group.cells)

    def request(self, step: Step, place: str, prompt: Prompt) -> Request:
        messages, schema = prompt
        number = rng(self.seed, self.task.name, step, place).getrandbits(31)
        return make_request(place, self.task.name, step, self.model, messages, self.sampling[step], schema, number)


Job = Generator[Wanted, Any, Any]


def list_contexts(recipe: Recipe) -> Generator[Wanted, Any, list[str]]:
    """Step 1: different contexts, asked for in rounds that show those named so far."""
    found: dict[str, str] = {}
    rounds = math.ceil(recipe.contexts / CONTEXTS_PER_CALL) + recipe.max_attempts
    for number in range(rounds):
        count = min(CONTEXTS_PER_CALL, recipe.contexts - len(found))
        if count == 0:
            break
        prompt = contexts_prompt(recipe.method, recipe.task, count, list(found.values()))
        request = recipe.request("contexts", f"r{number}", prompt)
        answer: Answer = yield request
        try:
            for context in read_object(answer, request.schema)["contexts"][:count]:
                if normalised(context):
                    found.setdefault(normalised(context), " ".join(context.split()))
        except RowError:
            continue
    if not found:
        raise UserError(
            f"{recipe.task.name}: no context could be read from {rounds} answers of {recipe.model}, expected "
            f"{recipe.contexts}. Look at the texts in calls/{recipe.task.name}.jsonl of the run; raise synth.max_attempts to ask "
            "again, or take another model and run.dir."
        )
    return list(found.values())


@dataclass(frozen=True)
class InstanceSeed:
    seed: Json
    context: str
    call_ids: tuple[str, ...]


class StepError(Exception):
    """A step's answer was refused."""

    def __init__(self, step: str, reason: str, text: str, call_ids: tuple[str, ...]) -> None:
        super().__init__(reason)
        self.step, self.reason, self.text, self.call_ids = step, reason, text, call_ids


def make_instance(
    recipe: Recipe, contexts: list[str], slot: Slot, attempt: int
) -> Generator[Wanted, Any, Candidate | Reject]:
    """Steps 2 to 4 for one attempt of a slot."""
    try:
        seed = yield from write_instance_seed(recipe, contexts, slot, attempt)
        rows, calls = yield from generate(recipe, slot, attempt, seed)
        before = recipe.task.code.answer_of(recipe.task, rows[0])
        after, explanation = before, ""
        if recipe.self_correct != "off":
            after, explanation, calls = yield from self_correct(recipe, slot, attempt, rows[0], before, calls)
    except StepError as err:
        return Reject(slot, attempt, err.step, err.reason, err.text, err.call_ids)
    if after != before:
        if recipe.self_correct == "drop":
            return Reject(
                slot, attempt, "self_correction", f"label changed from {before}", explanation, calls, (before, after)
            )
        rows = [recipe.task.code.relabel(recipe.task, row, after) for row in rows]
    return Candidate(slot, attempt, seed.context, seed.seed, tuple(rows), before, after, explanation, calls)


def write_instance_seed(
    recipe: Recipe, contexts: list[str], slot: Slot, attempt: int
) -> Generator[Wanted, Any, InstanceSeed]:
    """Step 2. First attempts share calls, `seeds_per_context` seeds each; a later attempt has its own."""
    task, cell = recipe.task, recipe.task.cells[slot.cell]
    if recipe.file_seeds is not None:
        return _seed_of_file(recipe, slot, attempt)
    if attempt == 0:
        group, count = recipe.group_of(slot), recipe.seeds_per_context
        call, position = seed_place(recipe.seed, task.name, group, slot, count)
        place = f"g{group.number}-{call:05d}"
        context = context_of_call(recipe.seed, task.name, contexts, len(recipe.groups), group, call)
    else:
        place, count, position = f"{slot}-a{attempt}", 1, 0
        context = rng(recipe.seed, task.name, slot, attempt, "context").choice(contexts)
    prompt = instance_seed_prompt(recipe.method, task, context, count, cell.fields)
    request = recipe.request("instance_seed", place, prompt)
    answer: Answer = yield request
    calls = (answer.id,)
    try:
        seeds = read_object(answer, request.schema)["instance_seeds"]
        if position >= len(seeds):
            raise RowError(f"answer holds {len(seeds)} instance seeds, expected {count}")
        task.code.check_seed(task, seeds[position])
    except RowError as err:
        raise StepError("instance_seed", str(err), answer.text, calls) from None
    return InstanceSeed(seeds[position], context, calls)


def _seed_of_file(recipe: Recipe, slot: Slot, attempt: int) -> InstanceSeed:
    """The slot's line of the seed file; a later attempt draws another."""
    assert recipe.file_seeds is not None
    group = recipe.group_of(slot)
    seeds = recipe.file_seeds[group.number]
    number, _ = seed_place(recipe.seed, recipe.task.name, group, slot, 1)
    if attempt > 0:
        number = rng(recipe.seed, recipe.task.name, slot, attempt, "file").randrange(len(seeds))
    seed = seeds[number % len(seeds)]
    try:
        recipe.task.code.check_seed(recipe.task, seed)
    except RowError as err:
        raise StepError("instance_seed", str(err), str(seed), ()) from None
    return InstanceSeed(seed, "", ())


def generate(
    recipe: Recipe, slot: Slot, attempt: int, seed: InstanceSeed
) -> Generator[Wanted, Any, tuple[list[Row], tuple[str, ...]]]:
    """Step 3: the rest of the instance, so that the slot's label holds by construction."""
    task, cell = recipe.task, recipe.task.cells[slot.cell]
    drawn = task.code.draw(task, cell, seed.seed, rng(recipe.seed, task.name, slot, attempt, "draw"))
    texts = {name: text for name, text in seed.seed.items() if isinstance(text, str)}
    prompt = generation_prompt(
        recipe.method, task, cell.label, {**cell.fields, **texts, **drawn, "context": seed.context}
    )
    request = recipe.request("generation", f"{slot}-a{attempt}", prompt)
    answer: Answer = yield request
    calls = (*seed.call_ids, answer.id)
    try:
        found = read_object(answer, request.schema)
        build_rng = rng(recipe.seed, task.name, slot, attempt, "build")
        rows = task.code.build(task, cell, seed.seed, drawn, found, build_rng)
        for row in rows:
            task.code.check_format(task, task.code.number(task, row, 0))
            task.code.check_quality(task, row, seed.seed)
    except RowError as err:
        raise StepError("generation", str(err), answer.text, calls) from None
    return rows, calls


def self_correct(
    recipe: Recipe, slot: Slot, attempt: int, row: Row, label: str, calls: tuple[str, ...]
) -> Generator[Wanted, Any, tuple[str, str, tuple[str, ...]]]:
    """Step 4: one pass, one prompt; the label that is kept or corrected, the explanation, all call ids."""
    task = recipe.task
    options = task.code.options(task, row)
    prompt = self_correction_prompt(recipe.method, task, task.code.view(task, row), label, options)
    request = recipe.request("self_correction", f"{slot}-a{attempt}", prompt)
    answer: Answer = yield request
    calls = (*calls, answer.id)
    try:
        found = read_object(answer, request.schema)
    except RowError as err:
        raise StepError("self_correction", str(err), answer.text, calls) from None
    return found["label"], found["explanation"].strip(), calls


def final_cell(task: TaskSpec, candidate: Candidate) -> LabelCell:
    """The label cell to which the corrected label moves the instance."""
    cell = task.cells[candidate.slot.cell]
    if cell.label is None or not candidate.flipped:
        return cell
    return next(c for c in task.cells if c.label == candidate.label_after and c.variant == cell.variant)
