"""The files of a finished data set: `synthetic/<task>/`."""

import json
from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from statistics import fmean
from typing import Any

from targen.data.contamination import EvaluationRows
from targen.runtime.jsonl import Json, write_jsonl, write_text
from targen.runtime.paths import RunPaths
from targen.synthesis.candidate_store import Judged, rows_text
from targen.synthesis.recipe import Candidate
from targen.synthesis.slots import Slot
from targen.synthesis.synthesis import Settled, Synthesis
from targen.tasks.task import Task
from targen.text.similarity import jaccard, trigrams

CONTEXTS_COMPARED = 200  # at most, for their mean similarity
PAIRS_SHOWN = 20  # of contaminated rows


def write_data_set(
    paths: RunPaths, state: Synthesis, settled: Settled, usage: Json, evaluation: EvaluationRows | None
) -> None:
    """train.jsonl, provenance.jsonl, rejects.jsonl and stats.json of a task, each written whole."""
    folder = paths.synthetic(state.task.name)
    (folder / "train.jsonl").unlink(missing_ok=True)
    write_jsonl(folder / "provenance.jsonl", _stories(state, settled))
    write_jsonl(folder / "rejects.jsonl", _rejects(state, settled))
    stats = _stats(state, settled) | {"contamination": _contamination(state, settled, evaluation), "calls": usage}
    write_text(folder / "stats.json", json.dumps(stats, indent=2) + "\n")
    write_jsonl(folder / "train.jsonl", (row for _, row in _rows(state, settled)))  # last: where it stands, it is done


def _rows(state: Synthesis, settled: Settled) -> Iterator[tuple[Candidate, Json]]:
    """Every row with its idx, and the candidate it belongs to."""
    idx = 0
    for slot in settled.accepted:
        candidate = state.candidate(slot)
        for row in candidate.rows:
            yield candidate, state.task.with_idx(row, idx)
            idx += 1


def _stories(state: Synthesis, settled: Settled) -> Iterator[Json]:
    for idx, (candidate, _) in enumerate(_rows(state, settled)):
        story = {
            "idx": idx,
            "slot": str(candidate.slot),
            "attempt": candidate.attempt,
            "context": candidate.context,
            **candidate.shown,
            "instance_seed": candidate.instance_seed,
            "variant": state.task.label_cells[candidate.slot.cell].fields,
            "label_before": candidate.label_before,
            "label_after": candidate.label_after,
            "explanation": candidate.explanation,
            "call_ids": list(candidate.call_ids),
        }
        yield story | ({"votes": candidate.votes} if candidate.votes is not None else {})


def _rejects(state: Synthesis, settled: Settled) -> Iterator[Json]:
    """What was refused, in slot order, then what was held back; each with the label that was asked for."""
    task = state.task
    for refused in sorted(state.refused, key=lambda refused: (refused.slot, refused.attempt)):
        yield state.store.reject(refused) | _asked(task, refused.slot) | _judged(refused.judged)
    for slot in settled.surplus:
        candidate = state.candidate(slot)
        held = {
            "slot": str(slot),
            "attempt": candidate.attempt,
            "step": "balance",
            "reason": f"surplus: label {candidate.label_after} is full",
            "text": rows_text(task, candidate.rows),
            "context": candidate.context,
            **candidate.shown,
            "instance_seed": candidate.instance_seed,
            "rows": list(candidate.rows),
            "call_ids": list(candidate.call_ids),
        }
        yield held | _asked(task, slot) | _judged((candidate.label_before, candidate.label_after))


def _asked(task: Task, slot: Slot) -> Json:
    cell = task.label_cells[slot.cell]
    return {"label": cell.label, "variant": cell.fields}


def _judged(labels: Judged | None) -> Json:
    return {} if labels is None else {"label_before": labels[0], "label_after": labels[1]}


def _stats(state: Synthesis, settled: Settled) -> Json:
    task, drafts = state.task, state.drafts
    labels = Counter(drafts[slot].judged[1] for slot in settled.accepted)
    cells = Counter(drafts[slot].cell for slot in settled.accepted)
    judged = [drafts[slot].judged for slot in (*settled.accepted, *settled.surplus)]
    judged += [refused.judged for refused in state.refused if refused.judged is not None]
    flips = Counter(before for before, after in judged if before != after)
    corrected = judged if state.recipe.self_correct != "off" else []
    steps = Counter(refused.step for refused in state.refused)
    return {
        "task": task.name,
        "rows": len(settled.accepted) * task.rows_per_slot,
        "rows_per_label": {label: labels[label] * task.rows_per_slot for label in sorted(labels)}
        if task.labels
        else {},
        "instances_per_label_cell": {str(cell): cells[cell.number] for cell in task.label_cells},
        "contexts": len(state.pools.get("context", [])),
        "contexts_mean_similarity": _mean_similarity(state.pools.get("context", [])),
        "pools": {name: len(items) for name, items in state.pools.items()},
        "instances": len(settled.accepted),
        "attempts": sum(state.attempts.values()),
        "rejects": len(state.refused),
        "rejects_per_reason": dict(sorted(Counter(refused.kind for refused in state.refused).items())),
        "duplicates": steps["duplicate"],
        "near_duplicates": steps["near_duplicate"],
        "repeated_instance_seeds": steps["repeated_seed"],
        "surplus": len(settled.surplus),
        "checked": len(corrected),
        "flips": sum(flips.values()),
        "flips_per_label": dict(sorted(flips.items())) if task.labels else {},
        "checked_per_label": dict(sorted(Counter(before for before, _ in corrected).items())) if task.labels else {},
    }


def _mean_similarity(contexts: list[str]) -> float | None:
    """How alike two contexts are on average, by their trigrams; 0: nothing shared. None: fewer than two contexts."""
    found = [trigrams(context) for context in contexts[:CONTEXTS_COMPARED]]
    pairs = [jaccard(one, other) for one, other in combinations(found, 2)]
    return round(fmean(pairs), 4) if pairs else None


def _contamination(state: Synthesis, settled: Settled, evaluation: EvaluationRows | None) -> Json | None:
    """Accepted rows that repeat the evaluation split; None where they were not held against it."""
    if evaluation is None:
        return None
    threshold = state.recipe.near_duplicates or 1.0
    matches: list[dict[str, Any]] = []
    for candidate, row in _rows(state, settled):
        if (how := evaluation.match(state.task.view(row), threshold)) is not None:
            matches.append({"idx": row["idx"], "slot": str(candidate.slot), "how": how})
    return {
        "against": evaluation.origin,
        "examples": len(evaluation.texts),
        "filtered": sum(refused.step == "contamination" for refused in state.refused),
        "rows": len(matches),
        "first": matches[:PAIRS_SHOWN],
    }
