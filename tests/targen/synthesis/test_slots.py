"""Slots: how many of each label, and how they are dealt to contexts and calls for instance seeds."""

from collections import Counter, defaultdict
from dataclasses import replace

import pytest

from targen.synthesis.slots.assignment import Deal, SeedGroup, Slot, cell_weights, drawn_variants, nth_slot, quotas
from tests.support.commands import settings

GROUP = SeedGroup(0, (0, 1, 2))
DEAL = Deal(seed=0, task="cb", group=GROUP, contexts=14, per_call=5)  # 4 rounds of 3 contexts, 2 contexts left over


def slots(count: int) -> list[Slot]:
    return [Slot(index, cell) for index in range(count) for cell in GROUP.cells]


def test_balanced_quotas_differ_by_one_at_most() -> None:
    assert quotas([1.0] * 3, 14) == [5, 5, 4]
    assert quotas([1.0] * 12, 14) == [2, 2, *[1] * 10]


def test_quotas_follow_the_shares_of_the_labels_and_add_up() -> None:
    cb = settings().tasks["cb"]
    assert quotas(cell_weights(cb.label_cells, cb.label_counts), 250) == [115, 119, 16]
    assert quotas(cell_weights(cb.label_cells, {"entailment": 2, "contradiction": 1, "neutral": 1}), 6) == [3, 2, 1]
    copa = settings().tasks["copa"]  # two label cells for each label
    assert quotas(cell_weights(copa.label_cells, {"choice1": 3, "choice2": 1}), 80) == [30, 10, 30, 10]


def test_every_slot_has_its_own_instance_seed_and_calls_know_their_slots() -> None:
    positions = {slot: DEAL.call_and_position(slot) for slot in slots(45)}
    assert len(set(positions.values())) == len(positions)
    assert all(DEAL.slots(call)[position] == slot for slot, (call, position) in positions.items())


def test_no_context_goes_with_a_label_and_no_position_does() -> None:
    cells_of_call, cells_at = defaultdict(list), defaultdict(Counter)
    for slot in slots(20):  # one turn: 12 calls of 5 instance seeds
        call, position = DEAL.call_and_position(slot)
        cells_of_call[call].append(slot.cell)
        cells_at[position][slot.cell] += 1
    assert sorted(cells_of_call) == list(range(12))
    assert all(sorted(Counter(cells).values()) == [1, 2, 2] for cells in cells_of_call.values())
    assert all(counts == {0: 4, 1: 4, 2: 4} for counts in cells_at.values())


def test_a_small_set_uses_many_contexts() -> None:
    assert len({DEAL.call_and_position(slot)[0] for slot in slots(4)}) == 12


def test_contexts_left_over_are_used_next() -> None:
    assert {DEAL.call_and_position(slot)[0] for slot in slots(24)} == set(
        range(24)
    )  # calls 12 and 13 have the two other contexts


def test_one_context_serves_all_labels_in_turn() -> None:
    deal = replace(DEAL, contexts=1)
    assert {deal.call_and_position(slot)[0] for slot in slots(5)} == {0, 1, 2}


def test_a_rare_label_is_spread_over_the_indices_and_a_common_one_takes_all() -> None:
    rare = [nth_slot(0, "cb", [115, 119, 16], 2, number).index for number in range(16)]
    assert rare == sorted(set(rare)) and rare[-1] < 119
    assert all(round(number * 119 / 16) - 1 <= index <= (number + 1) * 119 / 16 for number, index in enumerate(rare))
    assert [nth_slot(0, "cb", [115, 119, 16], 1, number).index for number in range(119)] == list(range(119))
    assert [nth_slot(0, "cb", [1, 1], 0, number).index for number in range(9)] == list(range(9))


@pytest.mark.parametrize("label", [0, 1])
def test_variants_are_drawn_in_proportion_to_their_weights_for_the_label(label: int) -> None:
    task = replace(
        settings().tasks["rte"],
        variants={
            "length": {"short": 3, "long": 1},
            "register": {"entailment": {"news": 1}, "not_entailment": {"news": 1, "novel": 3}},
            "device": "what the model names",
            "crossed": ["a"],
        },
    )
    variants = [drawn_variants(0, task, Slot(index, label)) for index in range(40)]
    assert Counter(values["length"] for values in variants) == {"short": 30, "long": 10}
    assert Counter(values["register"] for values in variants) == (
        {"news": 40} if label == 0 else {"news": 10, "novel": 30}
    )
    assert all(set(values) == {"length", "register"} for values in variants)
