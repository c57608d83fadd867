"""The calls and tokens that a run will need, per task and step. Nothing is called, nothing is written."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from targen.config.groups.generation import STEPS, Generator, Step
from targen.cost.expected_answers import DEFAULT_WORDS, Length
from targen.cost.on_record import OnRecord, on_record
from targen.cost.token_estimate import StepEstimate, estimate_task, token_counter
from targen.runtime.paths import RunPaths
from targen.synthesis.hard_cases import ends_of, first_quotas, next_quotas
from targen.synthesis.item_lists import list_rounds
from targen.synthesis.recipe import Recipe, Round
from targen.synthesis.slots.assignment import Slot
from targen.synthesis.synthesis import MOST_AHEAD

USUALLY_REJECTED = 0.1  # of the attempts, for the number of rounds
ANY_CONTEXT = "any"  # of a round whose contexts are not known yet
ENOUGH = 5  # answered calls of a step whose mean length is that of further ones


@dataclass(frozen=True)
class PlannedStep:
    """The number of calls of one step of one task, and the sums of their tokens."""

    calls: int
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True)
class Plan:
    """Calls and tokens per task and step. `notes` are its assumptions, one sentence each."""

    tasks: dict[str, dict[Step, PlannedStep]]
    answered: dict[str, dict[Step, int]]  # calls on record, not counted in `tasks`
    notes: tuple[str, ...]


def plan(recipes: Sequence[tuple[Recipe, int]], generator: Generator, run: RunPaths | None = None) -> Plan:
    """The calls for all recipes, each with its number of rows; with a `run`, only those that it has no answer for."""
    count, unit = token_counter(generator)
    notes = [f"{unit} What a chat template adds is not counted."]
    tasks: dict[str, dict[Step, PlannedStep]] = {}
    answered: dict[str, dict[Step, int]] = {}
    rounds: list[tuple[int, int]] = []  # of request files for each task: if nothing is rejected, and usually
    for recipe, size in recipes:
        task, estimate = recipe.task.name, estimate_task(recipe, count)
        recorded = on_record(run, task, size) if run is not None else OnRecord()
        calls, measured = _measured(estimate.calls, recorded)
        counts = _calls(recipe, size, calls, recorded)
        answered[task] = {step: recorded.calls[step] for step in STEPS}
        tasks[task] = {step: _planned(counts[step], calls.get(step)) for step in STEPS}
        if generator.backend == "batch":
            rounds.append((_rounds(recipe, size, counts, 0.0), _rounds(recipe, size, counts, USUALLY_REJECTED)))
        steps_left = {step for step in STEPS if counts[step]}
        if measured & steps_left:
            notes.append(
                f"{task}: {', '.join(sorted(measured & steps_left))} take as many tokens as the calls answered so far."
            )
        if steps_left - measured:
            notes.append(RECORDED if estimate.expected is None else _expected_note(task, estimate.expected))
        notes += _cut_warnings(recipe, calls)
        if recorded.attempts > 1 and steps_left:
            notes.append(f"{task}: {recorded.attempts:.2f} attempts an instance, as in the run so far.")
    if any(any(steps.values()) for steps in answered.values()):
        notes.append("Answered calls are subtracted. Extra slots for rows that flip or repeat are not counted.")
    else:
        notes.append(
            "Assumes that no attempt is rejected and no row flips or repeats; each that does costs further calls."
        )
    notes += [_hard_cases_note(recipe, size) for recipe, size in recipes if recipe.round_ends]
    if rounds:
        notes.append(_rounds_note(*map(max, zip(*rounds, strict=True))))
    return Plan(tasks, answered, tuple(dict.fromkeys(notes)))


RECORDED = "Lengths of prompts and answers are those of the shipped recording; your model may write more, or less."


def _measured(calls: Mapping[Step, StepEstimate], recorded: OnRecord) -> tuple[dict[Step, StepEstimate], set[Step]]:
    """The estimates, with the mean tokens of the answered calls of a step where there are enough; and these steps."""
    enough = {step: sums for step in calls if (sums := recorded.token_sums.get(step)) and sums.calls >= ENOUGH}
    means = {
        step: replace(calls[step], prompt=sums.prompt / sums.calls, completion=sums.completion / sums.calls)
        for step, sums in enough.items()
    }
    return {**calls, **means}, set(means)


def _rounds_note(least: int, usual: int) -> str:
    return (
        f"generator=batch: {least} round{'s' * (least != 1)} of request files if no instance is rejected, about {usual} if {USUALLY_REJECTED:.0%} are; "
        "each waits for the answers to the one before."
    )


def _hard_cases_note(recipe: Recipe, size: int) -> str:
    ends = ends_of(recipe, size)
    round_sizes = ", ".join(str(end - start) for start, end in pairwise([0, *ends]))
    return (
        f"{recipe.task.name}: {round_sizes} rows in {len(ends)} rounds. What the prompts of later rounds say of failures is not counted; with other shares "
        "of the variants, the calls of instance_seed differ a little."
    )


def _rounds(recipe: Recipe, size: int, left: Mapping[Step, int], rejected: float) -> int:
    """The rounds of request files for a task, where this share of the attempts is rejected and replaced."""
    steps = sum(left[step] > 0 for step in STEPS if step != "contexts")
    slots = len(_slots(recipe, size))
    attempts = math.ceil(math.log(2 * slots) / -math.log(rejected)) if rejected else 1  # until half a slot is left
    replacements = math.ceil((attempts - 1) / (1 + MOST_AHEAD))  # of a slot, one after the other
    return (list_rounds(recipe) if left["contexts"] else 0) + len(ends_of(recipe, size)) * steps * (1 + replacements)


def _planned(calls: int, estimate: StepEstimate | None) -> PlannedStep:
    if estimate is None:
        return PlannedStep(0, 0, 0)
    return PlannedStep(calls, round(calls * estimate.prompt), round(calls * estimate.completion))


def _expected_note(task: str, expected: dict[str, Length]) -> str:
    phrases = [f"{name} {length.phrase}" for name, length in expected.items() if length.phrase]
    unnamed = [name for name, length in expected.items() if not length.phrase]
    parts = [", ".join(phrases) or "none"]
    if unnamed:
        parts.append(f"no length is named for {', '.join(unnamed)}, taken as {DEFAULT_WORDS} words")
    return f"{task}: nothing is recorded that fits, so answers are as long as its prompts ask for: {'; '.join(parts)}."


def _cut_warnings(recipe: Recipe, calls: dict[Step, StepEstimate]) -> list[str]:
    """Warnings for answers that `max_tokens` would cut, so that their cost would be wasted."""
    return [
        f"{recipe.task.name}: WARNING, an answer of {step} takes about {estimate.completion:,.0f} tokens and is cut at "
        f"synth.sampling.{step}.max_tokens={recipe.sampling[step].max_tokens}."
        for step, estimate in calls.items()
        if estimate.completion > recipe.sampling[step].max_tokens
    ]


def _calls(recipe: Recipe, size: int, estimates: dict[Step, StepEstimate], recorded: OnRecord) -> dict[Step, int]:
    """Calls left per step: for every slot that is not answered to its end as many attempts as slots took so far.

    A later attempt makes its own call for an instance seed, assumed to be as long as a shared one.
    """
    left: dict[Step, int] = dict.fromkeys(STEPS, 0)
    if recorded.is_complete:
        return left
    in_rounds = _slots(recipe, size)
    slots = [slot for _, slot in in_rounds]
    if "contexts" in estimates:
        left["contexts"] = max(0, estimates["contexts"].times - recorded.calls["contexts"])
    last_step = "self_correction" if "self_correction" in estimates else "generation"
    answered = {str(slot): recorded.latest[str(slot)].steps for slot in slots if str(slot) in recorded.latest}
    unfinished = len(slots) - sum(last_step in steps for steps in answered.values())
    started = sum("generation" in steps and last_step not in steps for steps in answered.values())
    attempts = unfinished * recorded.attempts
    left["generation"] = math.ceil(attempts - started)
    if "self_correction" in estimates:
        left["self_correction"] = math.ceil(attempts * estimates["self_correction"].times)
    if "instance_seed" in estimates:
        left["instance_seed"] = len(_shared_calls(in_rounds) - recorded.shared) + math.ceil(attempts - unfinished)
    return left


def _shared_calls(slots: Sequence[tuple[Recipe, Slot]]) -> set[str]:
    """The positions of the step 2 calls that first attempts share."""
    shared_calls = set()
    for recipe, slot in slots:
        group = recipe.group_of(slot)
        call, _ = recipe.deal(group).call_and_position(slot)
        shared_calls.add(recipe.mark + recipe.shared_position(group, call))
    return shared_calls


def _slots(recipe: Recipe, size: int) -> list[tuple[Recipe, Slot]]:
    """The slots of all rows, each with the recipe of its round, as if all label cells were equally hard."""
    quotas, round_recipe = first_quotas(recipe, size), recipe
    opened, slots = [0] * len(quotas), []
    for number, end in enumerate(ends_of(recipe, size), start=1):
        if number > 1:
            quotas = next_quotas(recipe, quotas, size, end, {})
            round_recipe = replace(recipe, round=Round(number, (ANY_CONTEXT,), mark=f"h{number}-"))
        for cell, quota in enumerate(quotas):
            count = recipe.with_spare(max(0, quota - opened[cell]))
            slots += [(round_recipe, recipe.slot(cell, opened[cell] + further)) for further in range(count)]
            opened[cell] += count
    return slots
