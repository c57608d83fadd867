"""Which rows of a set are held out for evaluation: those of whole contexts, so that no topic is in training and evaluation.

Contexts are held out in an order that depends on the seed and on their texts alone. So the same rows give the same part,
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


def parted(state: Synthesis, selection: Selection, wanted: int) -> tuple[Selection, Selection]:
    """(what is trained on, what is held out): of the latter about `wanted` rows, every label in proportion.

    Raises: UserError if the rows are of too few contexts to be parted.
    """
    if not wanted:
        return selection, Selection((), ())
    groups: dict[str, list[Slot]] = defaultdict(list)
    labels: dict[str, Counter[str]] = defaultdict(Counter)
    for slot in selection.accepted:
        candidate = state.candidate(slot)
        group = _group(state, candidate)
        groups[group].append(slot)
        labels[group][candidate.label_after if state.task.labels else ""] += 1
    chosen = _chosen(state, labels, wanted / state.task.rows_per_slot)
    if not chosen:
        raise UserError(
            f"synth.holdout: {state.task.name} has {len(selection.accepted)} instances of {len(groups)} contexts, expected more, so "
            "that rows of some can be held out and every label stays in training. All answers are kept. Raise synth.size, or set "
            "synth.holdout=0 and name rows to score with data.dir=..."
        )
    held_out = {slot for group in chosen for slot in groups[group]}
    kept = tuple(slot for slot in selection.accepted if slot not in held_out)
    return replace(selection, accepted=kept), Selection(
        tuple(slot for slot in selection.accepted if slot in held_out), ()
    )


def _group(state: Synthesis, candidate: Candidate) -> str:
    """What rows have in common that must not be split: their context, an instance seed from a file, or else nothing."""
    if state.recipe.file_seeds is not None:
        return json.dumps(candidate.instance_seed, sort_keys=True)
    return candidate.context or str(candidate.slot)


def _chosen(state: Synthesis, labels: Mapping[str, Counter[str]], wanted: float) -> list[str]:
    """The groups to hold out: one after the other in a drawn order, as long as each brings the labels closer to their goals."""
    seed, name = state.recipe.seed, state.task.name
    order = sorted(labels, key=lambda group: (rng(seed, name, "held out", group).random(), group))
    left = sum(labels.values(), Counter())
    share = wanted / left.total()
    goals = {label: share * count for label, count in left.items()}
    held, chosen = Counter[str](), []
    for group in order:
        closer = _distance(held + labels[group], goals) < _distance(held, goals)
        if closer and _leaves_all(left, labels[group]):
            chosen.append(group)
            held += labels[group]
            left -= labels[group]
    if not chosen:  # each context has more than all that is wanted
        possible = [group for group in order if _leaves_all(left, labels[group])]
        chosen = sorted(possible, key=lambda group: _distance(labels[group], goals))[:1]
    return chosen


def _distance(counts: Labels, goals: Labels) -> float:
    return sum((counts.get(label, 0) - goal) ** 2 for label, goal in goals.items())


def _leaves_all(left: Counter[str], taken: Counter[str]) -> bool:
    """Whether every label stays in training."""
    return all(left[label] > count for label, count in taken.items())


def names_of(state: Synthesis, slots: Sequence[Slot]) -> set[str]:
    """The contexts of these slots, or what stands in for one."""
    return {_group(state, state.candidate(slot)) for slot in slots}
