"""What a run will ask, before it asks: calls and tokens per task and step. Nothing is called and nothing is written."""

import fileinput
import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from targen.config.groups.generation import STEPS, Generator, Step
from targen.cost.token_estimate import Call, Measure, measure, tokens_of
from targen.llm.call_log import call_files
from targen.runtime.paths import RunPaths
from targen.synthesis.recipe import Recipe
from targen.synthesis.slots import Slot, seed_place
from targen.synthesis.synthesis import first_slots

_SLOT_PLACE = re.compile(r"-(generation|instance_seed|self_correction)-(c\d+-\d+)-a(\d+)")
_SHARED_PLACE = re.compile(r"-instance_seed-(g\d+-\d+)-")


@dataclass(frozen=True)
class Planned:
    """Calls of one step of one task, and their tokens together."""

    calls: int
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True)
class Plan:
    """Per task and step, with what it rests on, a sentence each."""

    tasks: dict[str, dict[Step, Planned]]
    answered: dict[str, dict[Step, int]]  # calls on record, not among the planned
    notes: tuple[str, ...]


def plan(recipes: Sequence[tuple[Recipe, int]], generator: Generator, run: RunPaths | None = None) -> Plan:
    """What the recipes, each with its rows, ask in all; with a `run`, what is left to ask beside its answers."""
    count, unit = tokens_of(generator)
    measures = [measure(recipe, count) for recipe, _ in recipes]
    notes = [f"{unit} What a chat template adds is not counted."]
    notes.append(
        "Lengths of prompts and answers are those of the shipped recording; your model may write more, or less."
    )
    tasks: dict[str, dict[Step, Planned]] = {}
    answered: dict[str, dict[Step, int]] = {}
    for (recipe, size), measured in zip(recipes, measures, strict=True):
        task = recipe.task.name
        on_record = _on_record(run, task, size) if run is not None else NOTHING
        calls = measured.calls | _borrowed(recipe, measured, measures)
        counts = _calls(recipe, size, calls, on_record)
        answered[task] = {step: on_record.calls[step] for step in STEPS}
        tasks[task] = {step: _planned(counts[step], calls.get(step)) for step in STEPS}
        notes += _notes(task, measured, sorted(set(calls) - set(measured.calls)))
        notes += _cut(recipe, calls)
        if on_record.attempts > 1 and any(counts.values()):
            notes.append(f"{task}: {on_record.attempts:.2f} attempts an instance, as in the run so far.")
    if any(any(steps.values()) for steps in answered.values()):
        notes.append("Answered calls are subtracted. Not counted: further slots for rows that flip or repeat.")
    else:
        notes.append(
            "Assumes that no attempt is rejected and no row flips or repeats; each that does costs further calls."
        )
    return Plan(tasks, answered, tuple(notes))


def _planned(calls: int, each: Call | None) -> Planned:
    return Planned(calls, round(calls * each.prompt), round(calls * each.completion)) if each else Planned(0, 0, 0)


def _borrowed(recipe: Recipe, measured: Measure, measures: Sequence[Measure]) -> dict[Step, Call]:
    """The steps that no answer at hand leads to, because a check of the task refuses it: as the other tasks have them."""
    steps: list[Step] = ["generation"] if recipe.self_correct == "off" else ["generation", "self_correction"]
    borrowed = {}
    for step in steps:
        others = [measure.calls[step] for measure in measures if step in measure.calls]
        if step not in measured.calls:
            borrowed[step] = Call(
                max((measure.times for measure in others), default=1),
                sum(measure.prompt for measure in others) / max(1, len(others)),
                sum(measure.completion for measure in others) / max(1, len(others)),
            )
    return borrowed


def _notes(task: str, measured: Measure, borrowed: list[Step]) -> list[str]:
    notes = [
        f"{task}: no answer at hand leads to {step}; its tokens are the mean of the other tasks." for step in borrowed
    ]
    if not measured.recorded:
        notes.append(f"{task}: the recording has not all of its fields; they are taken to be of the usual length.")
    return notes


def _cut(recipe: Recipe, calls: dict[Step, Call]) -> list[str]:
    """Answers that `max_tokens` would cut, and that would be paid for in vain."""
    return [
        f"{recipe.task.name}: WARNING, an answer of {step} takes about {each.completion:,.0f} tokens and is cut at "
        f"synth.sampling.{step}.max_tokens={recipe.sampling[step].max_tokens}."
        for step, each in calls.items()
        if each.completion > recipe.sampling[step].max_tokens
    ]


@dataclass(frozen=True)
class _OnRecord:
    """What a run's log has of a task: enough to know what is still to ask."""

    calls: Counter[str]
    slots: dict[str, frozenset[str]]  # per step, the slots that have an answer
    shared: frozenset[str]  # calls for the instance seeds of first attempts
    attempts: float  # per slot
    done: bool


NOTHING = _OnRecord(Counter(), {}, frozenset(), 1.0, False)


def _calls(recipe: Recipe, size: int, each: dict[Step, Call], on_record: _OnRecord) -> dict[Step, int]:
    """Calls still to make: a slot without an answer of a step needs it, as often as slots needed attempts so far.

    A later attempt's own call for an instance seed is taken to be as long as a shared one.
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
        left["instance_seed"] = len(_shared_places(recipe, slots) - on_record.shared) + again
    for step in ("generation", "self_correction"):
        if step in each:
            left[step] = math.ceil(without[step] * each[step].times * on_record.attempts)
    return left


def _shared_places(recipe: Recipe, slots: Sequence[Slot]) -> set[str]:
    """The calls of step 2 that first attempts share."""
    places = set()
    for slot in slots:
        group = recipe.group_of(slot)
        call, _ = seed_place(recipe.seed, recipe.task.name, group, slot, recipe.seeds_per_context)
        places.add(f"g{group.number}-{call:05d}")
    return places


def _on_record(run: RunPaths, task: str, size: int) -> _OnRecord:
    """Read without opening the log for writing; a line that a kill tore is passed over."""
    paths = call_files(run.calls, task)
    if not paths:
        return NOTHING
    calls: Counter[str] = Counter()
    slots: dict[str, set[str]] = defaultdict(set)
    shared: set[str] = set()
    attempts: Counter[str] = Counter()
    with fileinput.input(paths, mode="rb") as lines:
        for line in lines:
            try:
                record = json.loads(line)
                id, step = str(record["id"]), str(record["step"])
            except (ValueError, KeyError, TypeError):
                continue
            calls[step] += 1
            if (match := _SLOT_PLACE.search(id)) is not None:
                slots[match[1]].add(match[2])
                attempts[match[2]] = max(attempts[match[2]], int(match[3]) + 1)
            elif (match := _SHARED_PLACE.search(id)) is not None:
                shared.add(match[1])
    each = attempts.total() / len(attempts) if attempts else 1.0
    by_step = {step: frozenset(names) for step, names in slots.items()}
    return _OnRecord(calls, by_step, frozenset(shared), each, _done(run, task, size))


def _done(run: RunPaths, task: str, size: int) -> bool:
    folder = run.synthetic(task)
    try:
        rows = json.loads((folder / "stats.json").read_text(encoding="utf-8"))["rows"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return bool(rows == size and (folder / "train.jsonl").is_file())
