"""The files of a finished data set: `synthetic/<task>/`."""

import json
from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from statistics import fmean
from typing import Any

from targen.data.contamination import EvaluationRows
from targen.data.evaluation import HELD_OUT
from targen.dataset.held_out import context_names
from targen.runtime.jsonl import Json, write_jsonl, write_text
from targen.runtime.paths import RunPaths
from targen.synthesis.candidate_store import LabelChange, rows_text
from targen.synthesis.recipe import Candidate, Recipe
from targen.synthesis.slots.assignment import Slot
from targen.synthesis.synthesis import Selection, Synthesis
from targen.text.similarity import jaccard, trigrams

CONTEXTS_COMPARED = 200  # at most, to bound the cost of their mean similarity
PAIRS_SHOWN = 20  # of contaminated rows
HELD_OUT_STORY = "held_out_provenance.jsonl"
NOTHING = Selection((), ())


def write_data_set(
    paths: RunPaths,
    state: Synthesis,
    selection: Selection,
    usage: Json,
    evaluation: EvaluationRows | None,
    held_out: Selection = NOTHING,
) -> None:
    """Writes train.jsonl, provenance.jsonl, rejects.jsonl and stats.json of a task, each complete or not at all.

    `usage` holds calls and tokens per step; `evaluation`, the rows to compare with, None for no comparison. Rows `held_out` for
    evaluation go into files of their own, held_out.jsonl and held_out_provenance.jsonl, and into no other.
    """
    folder = paths.synthetic(state.task.name)
    (folder / "train.jsonl").unlink(missing_ok=True)
    write_jsonl(folder / "provenance.jsonl", _provenance(state, selection))
    write_jsonl(folder / "rejects.jsonl", _rejects(state, selection))
    stats = _stats(state, selection, held_out)
    stats |= {"contamination": _contamination(state, selection, evaluation), "calls": usage}
    write_text(folder / "stats.json", json.dumps(stats, indent=2) + "\n")
    for name, records in ((HELD_OUT_STORY, _provenance(state, held_out)), (HELD_OUT, _official(state, held_out))):
        if held_out.accepted:
            write_jsonl(folder / name, records)
        else:
            (folder / name).unlink(missing_ok=True)
    # Last, because its presence marks the data set as finished.
    write_jsonl(folder / "train.jsonl", _official(state, selection))


def _official(state: Synthesis, selection: Selection) -> Iterator[Json]:
    return (row for _, row in _rows(state, selection))


def _rows(state: Synthesis, selection: Selection) -> Iterator[tuple[Candidate, Json]]:
    """Every accepted row with its idx, and the candidate it belongs to."""
    idx = 0
    for slot in selection.accepted:
        candidate = state.candidate(slot)
        for row in candidate.rows:
            yield candidate, state.task.with_idx(row, idx)
            idx += 1


def _provenance(state: Synthesis, selection: Selection) -> Iterator[Json]:
    for idx, (candidate, _) in enumerate(_rows(state, selection)):
        record = {
            "idx": idx,
            "slot": str(candidate.slot),
            "attempt": candidate.attempt,
            "context": candidate.context,
            **candidate.prompt_details,
            "instance_seed": candidate.instance_seed,
            "seed_position": state.rounds.recipe_of(candidate.slot).seed_position(candidate.slot, candidate.attempt),
            "variant": {**state.recipe.variant_of(candidate.slot), **candidate.free_variants},
            "label_before": candidate.label_before,
            "label_after": candidate.label_after,
            "explanation": candidate.explanation,
            "call_ids": list(candidate.call_ids),
        }
        yield record | ({"votes": candidate.votes} if candidate.votes is not None else {})


def _rejects(state: Synthesis, selection: Selection) -> Iterator[Json]:
    """Rejected lists, then rejected candidates in slot order, then surplus ones; each with the label it was requested for."""
    task = state.task
    for reject in (reject for reject in state.rejects if reject.slot is None):
        yield state.store.reject(reject) | {"label": None, "variant": {}}
    of_slots = [(reject.slot, reject) for reject in state.rejects if reject.slot is not None]
    for slot, reject in sorted(of_slots, key=lambda pair: (pair[0], pair[1].attempt)):
        yield state.store.reject(reject) | _requested(state.recipe, slot) | _label_change(reject.label_change)
    for slot in selection.surplus:
        candidate = state.candidate(slot)
        record = {
            "slot": str(slot),
            "attempt": candidate.attempt,
            "step": "balance",
            "reason": f"surplus: label {candidate.label_after} is full",
            "text": rows_text(task, candidate.rows),
            "context": candidate.context,
            **candidate.prompt_details,
            "instance_seed": candidate.instance_seed,
            "rows": list(candidate.rows),
            "call_ids": list(candidate.call_ids),
        }
        yield record | _requested(state.recipe, slot) | _label_change((candidate.label_before, candidate.label_after))


def _requested(recipe: Recipe, slot: Slot) -> Json:
    return {"label": recipe.task.label_cells[slot.cell].label, "variant": recipe.variant_of(slot)}


def _label_change(labels: LabelChange | None) -> Json:
    return {} if labels is None else {"label_before": labels[0], "label_after": labels[1]}


def _stats(state: Synthesis, selection: Selection, held_out: Selection) -> Json:
    task, candidates = state.task, state.candidates
    cells = Counter(candidates[slot].cell for slot in selection.accepted)
    finished = (*selection.accepted, *held_out.accepted, *selection.surplus)
    label_changes = [candidates[slot].label_change for slot in finished]
    label_changes += [reject.label_change for reject in state.rejects if reject.label_change is not None]
    flips = Counter(before for before, after in label_changes if before != after)
    corrected = label_changes if state.recipe.self_correct != "off" else []
    steps = Counter(reject.step for reject in state.rejects)
    return {
        "task": task.name,
        "rows": len(selection.accepted) * task.rows_per_slot,
        "rows_per_label": _rows_per_label(state, selection),
        **_held_out(state, held_out),
        "instances_per_label_cell": {str(cell): cells[cell.number] for cell in task.label_cells},
        "contexts": len(state.item_lists.get("context", [])),
        "contexts_mean_similarity": _mean_similarity(state.item_lists.get("context", [])),
        **_contexts_used(state, selection),
        "pools": {name: len(items) for name, items in state.item_lists.items()},
        "instances": len(selection.accepted),
        "attempts": state.attempts_made,
        "rejects": len(state.rejects),
        "rejects_per_reason": dict(sorted(Counter(reject.kind for reject in state.rejects).items())),
        "duplicates": steps["duplicate"],
        "near_duplicates": steps["near_duplicate"],
        "repeated_instance_seeds": steps["repeated_seed"],
        "surplus": len(selection.surplus),
        "checked": len(corrected),
        "flips": sum(flips.values()),
        "flips_per_label": dict(sorted(flips.items())) if task.labels else {},
        "checked_per_label": dict(sorted(Counter(before for before, _ in corrected).items())) if task.labels else {},
        **({"rounds": _rounds(state, selection)} if state.rounds.reports else {}),
    }


def _rounds(state: Synthesis, selection: Selection) -> list[Json]:
    """For each round, the counts of its rows in the set, and the scores of the students after it."""
    rounds = []
    for report in state.rounds.reports:
        slots = [slot for slot in selection.accepted if state.rounds.round_of(slot) == report["round"]]
        cells = Counter(state.candidates[slot].cell for slot in slots)
        counts = {
            "rows": len(slots) * state.task.rows_per_slot,
            "instances_per_label_cell": {str(cell): cells[cell.number] for cell in state.task.label_cells},
            "instances_per_context": dict(Counter(state.candidates[slot].context for slot in slots).most_common()),
        }
        rounds.append({"round": report["round"], **counts, **report})
    return rounds


def _rows_per_label(state: Synthesis, selection: Selection) -> dict[str, int]:
    """Rows of each label after self-correction; empty if the task has no labels."""
    labels = Counter(state.candidates[slot].label_change[1] for slot in selection.accepted)
    return {label: labels[label] * state.task.rows_per_slot for label in sorted(labels)} if state.task.labels else {}


def _held_out(state: Synthesis, held_out: Selection) -> Json:
    """The counts of the rows that are held out for evaluation, if there are any; the other counts are of those to train on."""
    if not held_out.accepted:
        return {}
    return {
        "held_out": {
            "rows": len(held_out.accepted) * state.task.rows_per_slot,
            "rows_per_label": _rows_per_label(state, held_out),
            "contexts": len(context_names(state, held_out.accepted)),
        }
    }


def _contexts_used(state: Synthesis, selection: Selection) -> Json:
    """How many contexts the rows use, and how many of those with several rows have one label, or one value of a variant, only."""
    values: dict[str, dict[str, list[str]]] = {}
    for slot in selection.accepted:
        context, (_, label) = state.candidates[slot].context, state.candidates[slot].label_change
        if not context:
            continue
        kinds = {"label": label if state.task.labels else None, **state.recipe.variant_of(slot)}
        for name, value in kinds.items():
            if value is not None:
                values.setdefault(name, {}).setdefault(context, []).append(value)
    used = {context for contexts in values.values() for context in contexts}
    return {
        "contexts_used": len(used),
        "contexts_with_one_value_only": {
            name: sum(len(seen) > 1 and len(set(seen)) == 1 for seen in contexts.values())
            for name, contexts in values.items()
        },
    }


def _mean_similarity(contexts: list[str]) -> float | None:
    """The mean similarity of two contexts, from 0 to 1, by their trigrams; None for fewer than two contexts."""
    features = [trigrams(context) for context in contexts[:CONTEXTS_COMPARED]]
    pairs = [jaccard(first, second) for first, second in combinations(features, 2)]
    return round(fmean(pairs), 4) if pairs else None


def _contamination(state: Synthesis, selection: Selection, evaluation: EvaluationRows | None) -> Json | None:
    """Counts of accepted rows that repeat the evaluation split; None if they were not compared with it."""
    if evaluation is None:
        return None
    threshold = state.recipe.near_duplicates or 1.0
    matches: list[dict[str, Any]] = []
    for candidate, row in _rows(state, selection):
        if (reason := evaluation.match(state.task.view(row), threshold)) is not None:
            matches.append({"idx": row["idx"], "slot": str(candidate.slot), "how": reason})
    return {
        "against": evaluation.origin,
        "examples": len(evaluation.texts),
        "filtered": sum(reject.step == "contamination" for reject in state.rejects),
        "rows": len(matches),
        "first": matches[:PAIRS_SHOWN],
    }
