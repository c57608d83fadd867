"""One task's data set: slots to rows, balance and duplicates settled, files written."""

import json
import math
import re
from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

from targen.errors import UserError
from targen.jsonl import Json, write_jsonl, write_text
from targen.paths import RunPaths
from targen.slots import Slot, interleaved, quotas
from targen.steps import Candidate, Job, Recipe, Reject, Wanted, final_cell, list_contexts, make_instance


@dataclass
class Synthesis:
    """The state of one task while it is made. `size` counts rows."""

    recipe: Recipe
    size: int
    contexts: list[str] = field(default_factory=list)
    candidates: dict[Slot, Candidate] = field(default_factory=dict)
    rejects: list[Reject] = field(default_factory=list)
    attempts: Counter[Slot] = field(default_factory=Counter)

    @property
    def quotas(self) -> list[int]:
        return quotas(self.recipe.task.cells, self.size // self.recipe.task.rows_per_slot)


@dataclass(frozen=True)
class Settled:
    """The instances of the set, in row order, and those that were held back."""

    accepted: tuple[Candidate, ...]
    surplus: tuple[Candidate, ...]


def synthesise(state: Synthesis) -> Generator[Wanted, Any, Settled]:
    """The job of one task: contexts, then slots in rounds, until every label cell has its quota.

    A flip by self-correction or a slot whose attempts are used up leaves a cell short: it gets further slots, the
    ones that a larger size would have. A duplicate's later slot goes on with its next attempt.
    """
    cells = state.recipe.task.cells
    if state.recipe.file_seeds is None:
        state.contexts = yield from list_contexts(state.recipe)
    opened = [_with_spare(state, quota) for quota in state.quotas]
    todo = [Slot(index, cell.number) for cell in cells for index in range(opened[cell.number])]
    while True:
        yield from _fill(state, sorted(todo))
        if todo := _drop_duplicates(state):
            continue
        settled = _settle(state)
        short = _shortage(state, settled)
        if not any(short):
            return settled
        todo = []
        for cell, lacking in enumerate(short):
            further = _with_spare(state, lacking)
            if lacking and opened[cell] + lacking > state.quotas[cell] * state.recipe.max_slots:
                raise UserError(_why_short(state, cell, state.quotas[cell] - lacking))
            todo += [Slot(opened[cell] + extra, cell) for extra in range(further)]
            opened[cell] += further


def _with_spare(state: Synthesis, instances: int) -> int:
    return math.ceil(instances * (1 + state.recipe.spare))


def _fill(state: Synthesis, slots: Sequence[Slot]) -> Generator[Wanted, Any, None]:
    """Attempts of the slots, side by side, until each has a candidate or has used up its attempts."""
    jobs: list[Job] = [_attempt(state.recipe, state.contexts, slot, state.attempts[slot]) for slot in slots]
    results = yield jobs
    for slot, (candidate, rejects) in zip(slots, results, strict=True):
        state.rejects += rejects
        state.attempts[slot] += len(rejects) + (candidate is not None)
        if candidate is not None:
            state.candidates[slot] = candidate


def _attempt(
    recipe: Recipe, contexts: list[str], slot: Slot, first: int
) -> Generator[Wanted, Any, tuple[Candidate | None, list[Reject]]]:
    rejects: list[Reject] = []
    for attempt in range(first, recipe.max_attempts):
        made = yield from make_instance(recipe, contexts, slot, attempt)
        if isinstance(made, Candidate):
            return made, rejects
        rejects.append(made)
    return None, rejects


def _drop_duplicates(state: Synthesis) -> list[Slot]:
    """Takes out, in slot order, every candidate that repeats an earlier one; the slots that go on."""
    task = state.recipe.task
    seen: dict[str, Slot] = {}
    losers: list[Slot] = []
    for slot in sorted(state.candidates):
        candidate = state.candidates[slot]
        keys = [task.code.key(task, row) for row in candidate.rows]
        first = next((seen[key] for key in keys if key in seen), None)
        if first is None:
            seen |= dict.fromkeys(keys, slot)
            continue
        text = str([task.code.view(task, row) for row in candidate.rows])
        reason = f"duplicate of slot {first}"
        judged = (candidate.label_before, candidate.label_after)
        state.rejects.append(Reject(slot, candidate.attempt, "duplicate", reason, text, candidate.call_ids, judged))
        del state.candidates[slot]
        losers.append(slot)
    return losers


def _settle(state: Synthesis) -> Settled:
    task, wanted = state.recipe.task, state.quotas
    groups: list[list[Slot]] = [[] for _ in task.cells]
    surplus = []
    for slot in sorted(state.candidates):
        cell = final_cell(task, state.candidates[slot]).number
        if len(groups[cell]) < wanted[cell]:
            groups[cell].append(slot)
        else:
            surplus.append(state.candidates[slot])
    order = interleaved(state.recipe.seed, task.name, groups)
    return Settled(tuple(state.candidates[slot] for slot in order), tuple(surplus))


def _shortage(state: Synthesis, settled: Settled) -> list[int]:
    """Instances that each label cell lacks."""
    have = Counter(final_cell(state.recipe.task, candidate).number for candidate in settled.accepted)
    return [wanted - have[cell] for cell, wanted in enumerate(state.quotas)]


def _why_short(state: Synthesis, cell: int, have: int) -> str:
    task, wanted = state.recipe.task, state.quotas[cell]
    reasons = Counter(_kind(reject) for reject in state.rejects if reject.slot.cell == cell)
    if flips := sum(c.flipped for slot, c in state.candidates.items() if slot.cell == cell):
        reasons["self_correction: label flipped"] = flips
    why = "; ".join(f"{count} x {reason}" for reason, count in reasons.most_common(5))
    return (
        f"{task.name}: got {have} instances of label {task.cells[cell]}, expected {wanted}, after "
        f"{state.recipe.max_slots} slots for each ({why}). All answers are kept: raise synth.max_slots to go on, or take a "
        "better model or prompt, and another run.dir."
    )


def _kind(reject: Reject) -> str:
    """The reason without the particulars of the row, for counting."""
    without_quotes = re.sub(r"(?<!\w)(['\"]).*?\1(?!\w)", "...", reject.reason)
    return f"{reject.step}: {re.sub(r'[0-9]+', '#', without_quotes)}"


def write_data_set(paths: RunPaths, state: Synthesis, settled: Settled, usage: Json) -> None:
    """train.jsonl, provenance.jsonl, rejects.jsonl and stats.json of a task, each written whole."""
    task, folder = state.recipe.task, paths.synthetic(state.recipe.task.name)
    rows: list[Json] = []
    provenance: list[Json] = []
    for candidate in settled.accepted:
        for row in candidate.rows:
            idx = len(rows)
            rows.append(task.code.number(task, row, idx))
            provenance.append({"idx": idx} | _story(state, candidate))
    rejects: list[Json] = [
        {
            "slot": str(reject.slot),
            "attempt": reject.attempt,
            "step": reject.step,
            "reason": reject.reason,
            "text": reject.text,
            "call_ids": list(reject.call_ids),
        }
        for reject in sorted(state.rejects, key=lambda reject: (reject.slot, reject.attempt))
    ]
    for candidate in settled.surplus:
        reason = f"surplus: label {candidate.label_after} is full"
        text = str([task.code.view(task, row) for row in candidate.rows])
        rejects.append(
            {
                "slot": str(candidate.slot),
                "attempt": candidate.attempt,
                "step": "balance",
                "reason": reason,
                "text": text,
            }
            | {"call_ids": list(candidate.call_ids)}
        )
    write_jsonl(folder / "provenance.jsonl", provenance)
    write_jsonl(folder / "rejects.jsonl", rejects)
    write_text(folder / "stats.json", _pretty(_stats(state, settled, len(rows)) | {"calls": usage}))
    write_jsonl(folder / "train.jsonl", rows)  # last: where it stands, the task is done


def _story(state: Synthesis, candidate: Candidate) -> Json:
    return {
        "slot": str(candidate.slot),
        "attempt": candidate.attempt,
        "context": candidate.context,
        "instance_seed": candidate.instance_seed,
        "variant": state.recipe.task.cells[candidate.slot.cell].fields,
        "label_before": candidate.label_before,
        "label_after": candidate.label_after,
        "explanation": candidate.explanation,
        "call_ids": list(candidate.call_ids),
    }


def _stats(state: Synthesis, settled: Settled, rows: int) -> Json:
    task = state.recipe.task
    labels = Counter(c.label_after for c in settled.accepted for _ in c.rows) if task.labels else Counter()
    cells = Counter(str(final_cell(task, candidate)) for candidate in settled.accepted)
    judged = [(c.label_before, c.label_after) for c in (*settled.accepted, *settled.surplus)]
    judged += [reject.judged for reject in state.rejects if reject.judged is not None]
    flips = Counter(before for before, after in judged if before != after)
    return {
        "task": task.name,
        "rows": rows,
        "rows_per_label": dict(sorted(labels.items())),
        "instances_per_label_cell": {str(cell): cells[str(cell)] for cell in task.cells},
        "contexts": len(state.contexts),
        "instances": len(settled.accepted),
        "attempts": sum(state.attempts.values()),
        "rejects": len(state.rejects),
        "rejects_per_reason": dict(sorted(Counter(_kind(reject) for reject in state.rejects).items())),
        "duplicates": sum(reject.step == "duplicate" for reject in state.rejects),
        "surplus": len(settled.surplus),
        "checked": 0 if state.recipe.self_correct == "off" else len(judged),
        "flips": sum(flips.values()),
        "flips_per_label": dict(sorted(flips.items())) if task.labels else {},
    }


def _pretty(value: Json) -> str:
    return json.dumps(value, indent=2) + "\n"
