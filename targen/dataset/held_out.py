"""Which rows of a set are held out for evaluation: those of whole contexts, so that no topic is in both training and evaluation.

Contexts are held out in an order that depends on the seed and on their texts alone. So equal rows give equal parts,
however they were made; a larger set holds out the same contexts first, as far as their labels allow.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from targen.runtime.errors import UserError
from targen.runtime.randomness import rng
from targen.synthesis.recipe import Candidate
from targen.synthesis.slots.assignment import Slot
from targen.synthesis.synthesis import Selection, Synthesis

Labels = Mapping[str, float]


def split_held_out(state: Synthesis, selection: Selection, count: int) -> tuple[Selection, Selection]:
    """(training rows, held-out rows): about `count` rows are held out, every label in proportion.

    Raises: UserError if the rows have too few contexts to be split.
    """
    if not count:
        return selection, Selection((), ())
    groups: dict[str, list[Slot]] = defaultdict(list)
    labels: dict[str, Counter[str]] = defaultdict(Counter)
    for slot in selection.accepted:
        candidate = state.candidate(slot)
        group = _group_of(state, candidate)
        groups[group].append(slot)
        labels[group][candidate.label_after if state.task.labels else ""] += 1
    chosen = _choose_groups(state, labels, count / state.task.rows_per_slot)
    if not chosen:
        raise UserError(
            f"synth.holdout: {state.task.name} has {len(selection.accepted)} instances of {len(groups)} contexts, expected more, so "
            "that rows of some can be held out and every label stays in training. All answers are kept. Raise synth.size, or set "
            "synth.holdout=0 and name rows to score with data.dir=..."
        )
    held_out = {slot for group in chosen for slot in groups[group]}
    training = tuple(slot for slot in selection.accepted if slot not in held_out)
    evaluation = tuple(slot for slot in selection.accepted if slot in held_out)
    return replace(selection, accepted=training), Selection(evaluation, ())


def _group_of(state: Synthesis, candidate: Candidate) -> str:
    """What rows have in common that must not be split: their context, an instance seed from a file, or else nothing."""
    if state.recipe.file_seeds is not None:
        return json.dumps(candidate.instance_seed, sort_keys=True)
    return candidate.context or str(candidate.slot)


def _choose_groups(state: Synthesis, labels: Mapping[str, Counter[str]], instances: float) -> list[str]:
    """The groups to hold out: of all groups in a random order, each that brings the labels closer to their goals."""
    seed, name = state.recipe.seed, state.task.name
    order = sorted(labels, key=lambda group: (rng(seed, name, "held out", group).random(), group))
    remaining = sum(labels.values(), Counter())
    share = instances / remaining.total()
    goals = {label: share * count for label, count in remaining.items()}
    held_out, chosen = Counter[str](), []
    for group in order:
        is_closer = _distance(held_out + labels[group], goals) < _distance(held_out, goals)
        if is_closer and _leaves_all_labels(remaining, labels[group]):
            chosen.append(group)
            held_out += labels[group]
            remaining -= labels[group]
    if not chosen:  # every context has more rows than are to be held out
        possible = [group for group in order if _leaves_all_labels(remaining, labels[group])]
        chosen = sorted(possible, key=lambda group: _distance(labels[group], goals))[:1]
    return chosen


def _distance(counts: Labels, goals: Labels) -> float:
    return sum((counts.get(label, 0) - goal) ** 2 for label, goal in goals.items())


def _leaves_all_labels(remaining: Counter[str], group: Counter[str]) -> bool:
    """Whether every label stays in training."""
    return all(remaining[label] > count for label, count in group.items())


def context_names(state: Synthesis, slots: Sequence[Slot]) -> set[str]:
    """The contexts of these slots, or what stands in for one."""
    return {_group_of(state, state.candidate(slot)) for slot in slots}
