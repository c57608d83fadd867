"""The calls and tokens that a run will need, per task and step. Nothing is called, nothing is written."""

import fileinput
import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from targen.config.groups.generation import STEPS, Generator, Step
from targen.cost.token_estimate import StepEstimate, TaskEstimate, estimate_task, token_counter
from targen.llm.call_log import call_files
from targen.runtime.paths import RunPaths
from targen.synthesis.item_lists import list_rounds
from targen.synthesis.recipe import Recipe
from targen.synthesis.slots import Slot
from targen.synthesis.synthesis import MOST_AHEAD, first_slots

_SLOT_CALL = re.compile(r"-(generation|instance_seed|self_correction)-(c\d+-\d+)-a(\d+)")
_SHARED_CALL = re.compile(r"-instance_seed-(g\d+-\d+)-")
USUALLY_REJECTED = 0.1  # of the attempts, for the number of rounds


@dataclass(frozen=True)
class Planned:
    """The number of calls of one step of one task, and the sums of their tokens."""

    calls: int
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True)
class Plan:
    """Calls and tokens per task and step. `notes` are its assumptions, one sentence each."""

    tasks: dict[str, dict[Step, Planned]]
    answered: dict[str, dict[Step, int]]  # calls on record, not counted in `tasks`
    notes: tuple[str, ...]


def plan(recipes: Sequence[tuple[Recipe, int]], generator: Generator, run: RunPaths | None = None) -> Plan:
    """The calls for all recipes, each with its number of rows; with a `run`, only those that it has no answer for."""
    count, unit = token_counter(generator)
    estimates = [estimate_task(recipe, count) for recipe, _ in recipes]
    notes = [f"{unit} What a chat template adds is not counted."]
    notes.append(
        "Lengths of prompts and answers are those of the shipped recording; your model may write more, or less."
    )
    tasks: dict[str, dict[Step, Planned]] = {}
    answered: dict[str, dict[Step, int]] = {}
    for (recipe, size), estimate in zip(recipes, estimates, strict=True):
        task = recipe.task.name
        on_record = _on_record(run, task, size) if run is not None else NOTHING_ON_RECORD
        calls = estimate.calls | _borrowed(recipe, estimate, estimates)
        counts = _calls(recipe, size, calls, on_record)
        answered[task] = {step: on_record.calls[step] for step in STEPS}
        tasks[task] = {step: _planned(counts[step], calls.get(step)) for step in STEPS}
        notes += _notes(task, estimate, sorted(set(calls) - set(estimate.calls)))
        notes += _cut(recipe, calls)
        if on_record.attempts > 1 and any(counts.values()):
            notes.append(f"{task}: {on_record.attempts:.2f} attempts an instance, as in the run so far.")
    if any(any(steps.values()) for steps in answered.values()):
        notes.append("Answered calls are subtracted. Extra slots for rows that flip or repeat are not counted.")
    else:
        notes.append(
            "Assumes that no attempt is rejected and no row flips or repeats; each that does costs further calls."
        )
    if generator.backend == "batch":
        notes.append(_rounds_note(recipes))
    return Plan(tasks, answered, tuple(notes))


def _rounds_note(recipes: Sequence[tuple[Recipe, int]]) -> str:
    least, usual = (max(_rounds(*of, rejected) for of in recipes) for rejected in (0.0, USUALLY_REJECTED))
    return (
        f"generator=batch: {least} rounds of request files if no instance is rejected, about {usual} if {USUALLY_REJECTED:.0%} are; "
        "each waits for the answers to the one before."
    )


def _rounds(recipe: Recipe, size: int, rejected: float) -> int:
    """The rounds of request files for a task, where this share of the attempts is rejected and replaced."""
    seeds = recipe.method.instance_seed is not None and recipe.file_seeds is None
    steps = seeds + 1 + (recipe.self_correct != "off")
    slots = len(first_slots(recipe, size))
    attempts = math.ceil(math.log(2 * slots) / -math.log(rejected)) if rejected else 1  # until half a slot is left
    replacements = math.ceil((attempts - 1) / (1 + MOST_AHEAD))  # of a slot, one after the other
    return list_rounds(recipe) + steps * (1 + replacements)


def _planned(calls: int, each: StepEstimate | None) -> Planned:
    return Planned(calls, round(calls * each.prompt), round(calls * each.completion)) if each else Planned(0, 0, 0)


def _borrowed(recipe: Recipe, estimate: TaskEstimate, estimates: Sequence[TaskEstimate]) -> dict[Step, StepEstimate]:
    """Estimates for steps that this task did not reach, because its checks refuse the answers: the means of other tasks."""
    steps: list[Step] = ["generation"] if recipe.self_correct == "off" else ["generation", "self_correction"]
    borrowed = {}
    for step in steps:
        step_estimates = [other_task.calls[step] for other_task in estimates if step in other_task.calls]
        if step not in estimate.calls:
            borrowed[step] = StepEstimate(
                max((step_estimate.times for step_estimate in step_estimates), default=1),
                sum(step_estimate.prompt for step_estimate in step_estimates) / max(1, len(step_estimates)),
                sum(step_estimate.completion for step_estimate in step_estimates) / max(1, len(step_estimates)),
            )
    return borrowed


def _notes(task: str, estimate: TaskEstimate, borrowed: list[Step]) -> list[str]:
    notes = [
        f"{task}: no answer at hand leads to {step}; its tokens are the mean of the other tasks." for step in borrowed
    ]
    if not estimate.recorded:
        notes.append(f"{task}: the recording has not all of its fields; they are taken to be of the usual length.")
    return notes


def _cut(recipe: Recipe, calls: dict[Step, StepEstimate]) -> list[str]:
    """Warnings for answers that `max_tokens` would cut, so that their cost would be wasted."""
    return [
        f"{recipe.task.name}: WARNING, an answer of {step} takes about {each.completion:,.0f} tokens and is cut at "
        f"synth.sampling.{step}.max_tokens={recipe.sampling[step].max_tokens}."
        for step, each in calls.items()
        if each.completion > recipe.sampling[step].max_tokens
    ]


@dataclass(frozen=True)
class _OnRecord:
    """What the log of a run holds of a task: enough to tell which calls are left."""

    calls: Counter[str]
    slots: dict[str, frozenset[str]]  # per step, the slots with an answer
    shared: frozenset[str]  # answered calls for instance seeds that first attempts share
    attempts: float  # per slot
    done: bool


NOTHING_ON_RECORD = _OnRecord(Counter(), {}, frozenset(), 1.0, False)


def _calls(recipe: Recipe, size: int, each: dict[Step, StepEstimate], on_record: _OnRecord) -> dict[Step, int]:
    """Calls left per step: every slot without an answer needs one for each attempt, as many attempts as slots took so far.

    A later attempt makes its own call for an instance seed, assumed to be as long as a shared one.
    """
    left: dict[Step, int] = dict.fromkeys(STEPS, 0)
    if on_record.done:
        return left
    slots = first_slots(recipe, size)
    if "contexts" in each:
        left["contexts"] = max(0, each["contexts"].times - on_record.calls["contexts"])
    without = {step: sum(str(slot) not in on_record.slots.get(step, ()) for slot in slots) for step in STEPS}
    if "instance_seed" in each:
        again = math.ceil((on_record.attempts - 1) * without["generation"])
        left["instance_seed"] = len(_shared_calls(recipe, slots) - on_record.shared) + again
    for step in ("generation", "self_correction"):
        if step in each:
            left[step] = math.ceil(without[step] * each[step].times * on_record.attempts)
    return left


def _shared_calls(recipe: Recipe, slots: Sequence[Slot]) -> set[str]:
    """The positions of the step 2 calls that first attempts share."""
    shared_calls = set()
    for slot in slots:
        group = recipe.group_of(slot)
        call, _ = recipe.deal(group).place(slot)
        shared_calls.add(f"g{group.number}-{call:05d}")
    return shared_calls


def _on_record(run: RunPaths, task: str, size: int) -> _OnRecord:
    """Reads the log without opening it for writing, and skips damaged lines."""
    paths = call_files(run.calls, task)
    if not paths:
        return NOTHING_ON_RECORD
    calls: Counter[str] = Counter()
    slots: dict[str, set[str]] = defaultdict(set)
    shared: set[str] = set()
    attempts: Counter[str] = Counter()
    with fileinput.input(paths, mode="rb") as lines:
        for line in lines:
            try:
                record = json.loads(line)
                id, step = str(record["id"]), str(record["step"])
            except (ValueError, KeyError, TypeError, RecursionError):
                continue
            calls[step] += 1
            if (match := _SLOT_CALL.search(id)) is not None:
                slots[match[1]].add(match[2])
                attempts[match[2]] = max(attempts[match[2]], int(match[3]) + 1)
            elif (match := _SHARED_CALL.search(id)) is not None:
                shared.add(match[1])
    each = attempts.total() / len(attempts) if attempts else 1.0
    by_step = {step: frozenset(names) for step, names in slots.items()}
    return _OnRecord(calls, by_step, frozenset(shared), each, _done(run, task, size))


def _done(run: RunPaths, task: str, size: int) -> bool:
    folder = run.synthetic(task)
    try:
        rows = json.loads((folder / "stats.json").read_text(encoding="utf-8"))["rows"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False
    return bool(rows == size and (folder / "train.jsonl").is_file())
