"""Intervals and tests against hand-worked numbers, exact distributions and scipy."""

from itertools import product

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import f1_score

from eval.scoring.metrics import average, macro_f1, task_score
from eval.statistics.resampling import (
    Answers,
    Ints,
    bootstrap,
    exchanged_differences,
    generator,
    holm,
    interval,
    mcnemar,
    p_value,
    scores,
    unit_kinds,
)

GOLD = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2, 1])
CLASSES = np.array([0, 0, 1, 1, -1, 2, 2, 0, 2, 1])
OTHER = np.array([0, 1, 1, 1, 2, 2, 0, 0, 1, 1])
OF_COUNTS = {"f1_macro": macro_f1}


def right(answered: Ints, gold: Ints = GOLD) -> Answers:
    return Answers({"accuracy": (answered == gold).astype(float)}, answered[:, None], OF_COUNTS)


def test_mcnemar_by_hand_and_by_scipy() -> None:
    first, second = np.array([1.0] * 8 + [0.0] * 2 + [1.0] * 30), np.array([0.0] * 8 + [1.0] * 2 + [1.0] * 30)
    # 10 rows that only one got right, 2 or fewer on one side: 2 (1 + 10 + 45) / 1024
    assert mcnemar(first, second) == pytest.approx(112 / 1024)
    assert mcnemar(first, second) == pytest.approx(mcnemar(second, first))
    assert mcnemar(first, first) == 1.0


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])  # 3 x 0.01; 2 x 0.03; 0.04 not below that
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_p_values_are_never_0_and_two_sided() -> None:
    null = np.array([-2.0, -1.0, 0.0, 1.0])
    assert p_value(1.0, null) == pytest.approx(4 / 5)  # -2, -1, 1 and the sample itself
    assert p_value(5.0, null) == pytest.approx(1 / 5)


def test_macro_f1_of_counts_is_scikit_learns_of_rows() -> None:
    weights = np.array([[2.0, 1, 0, 3, 1, 1, 0, 2, 1, 1], [1.0] * 10])
    values = scores(right(CLASSES), GOLD, 3, weights)
    for index, row in enumerate(weights.astype(int)):
        gold, answered = np.repeat(GOLD, row), np.repeat(CLASSES, row)
        expected = f1_score(gold, answered, labels=[0, 1, 2], average="macro", zero_division=0)
        assert values["f1_macro"][index] == pytest.approx(expected)
        assert values["accuracy"][index] == pytest.approx(np.mean(gold == answered))


def test_several_seeds_are_averaged_before_and_macro_f1_seed_by_seed() -> None:
    means = {"accuracy": np.mean([GOLD == CLASSES, GOLD == OTHER], axis=0)}
    averaged = Answers(means, np.column_stack([CLASSES, OTHER]), OF_COUNTS)
    every = np.ones((1, 10))
    first, second = (scores(right(answered), GOLD, 3, every) for answered in (CLASSES, OTHER))
    values = scores(averaged, GOLD, 3, every)
    for metric in values:
        assert values[metric][0] == pytest.approx((first[metric][0] + second[metric][0]) / 2)


def test_kinds_count_units_that_were_answered_alike() -> None:
    positions, counts = unit_kinds([Answers({"accuracy": np.array([1.0, 0.0, 1.0, 1.0])})], np.array([0, 0, 0, 1]))
    assert sorted(counts) == [1, 1, 2]
    assert set(positions) == {0, 1, 3}


def test_the_interval_of_an_accuracy_is_the_binomials() -> None:
    values = np.array([1.0] * 42 + [0.0] * 14)
    (draws,) = bootstrap([Answers({"accuracy": values})], np.zeros(56, int), 0, generator("binomial"))
    low, high = interval(draws["accuracy"])
    exact = stats.binom(56, 0.75).ppf([0.025, 0.975]) / 56
    assert [low, high] == pytest.approx(list(exact), abs=1.01 / 56)
    assert draws["accuracy"].std() == pytest.approx((0.75 * 0.25 / 56) ** 0.5, rel=0.03)


def test_the_interval_of_macro_f1_is_that_of_resampled_rows() -> None:
    gold, answered = np.tile(GOLD, 8), np.tile(CLASSES, 8)
    (draws,) = bootstrap([right(answered, gold)], gold, 3, generator("f1"))

    def macro(positions: Ints) -> float:
        return float(f1_score(gold[positions], answered[positions], labels=[0, 1, 2], average="macro", zero_division=0))

    rng = np.random.default_rng(0)
    rows = [macro(rng.integers(0, 80, 80)) for _ in range(500)]
    assert list(interval(draws["f1_macro"])) == pytest.approx(list(np.quantile(rows, [0.025, 0.975])), abs=0.03)


def test_a_paired_interval_is_on_the_same_rows() -> None:
    answers = right(CLASSES)
    first, second = bootstrap([answers, answers], GOLD, 3, generator("same"))
    assert interval(first["accuracy"] - second["accuracy"]) == (0.0, 0.0)
    assert first["accuracy"].std() > 0


def test_exchange_of_means_is_scipys_permutation_test() -> None:
    first = np.array([0.9, 1.0, 0.4, 0.8, 1.0, 0.5, 0.7, 0.2])
    second = np.array([0.5, 0.8, 0.5, 0.2, 1.0, 0.1, 0.6, 0.3])
    exact = stats.permutation_test(
        (first, second), lambda x, y: np.mean(x - y), permutation_type="samples", n_resamples=np.inf, vectorized=False
    )
    null = exchanged_differences(
        Answers({"f": first}), Answers({"f": second}), np.zeros(8, int), 0, generator("exchange")
    )["f"]
    assert p_value(float(np.mean(first - second)), null) == pytest.approx(exact.pvalue, abs=0.015)


def test_exchange_of_macro_f1_is_that_of_all_arrangements() -> None:
    def difference(swapped: tuple[int, ...]) -> float:
        change = np.zeros(10, dtype=bool)
        change[order[:differ]] = swapped
        pair = np.where(change, OTHER, CLASSES), np.where(change, CLASSES, OTHER)
        first, second = (f1_score(GOLD, p, labels=[0, 1, 2], average="macro", zero_division=0) for p in pair)
        return float(first - second)

    differ = int(np.sum(CLASSES != OTHER))
    order = np.argsort(CLASSES == OTHER, kind="stable")
    every = np.array([difference(swapped) for swapped in product((0, 1), repeat=differ)])
    observed = difference((0,) * differ)
    exact = np.mean(np.abs(every) >= abs(observed) - 1e-9)
    null = exchanged_differences(right(CLASSES), right(OTHER), GOLD, 3, generator("all"))["f1_macro"]
    assert p_value(observed, null) == pytest.approx(exact, abs=0.015)


def test_draws_are_equal_whatever_fits_into_memory() -> None:
    def draws(**memory: int) -> tuple[list[float], list[float]]:
        (resampled,) = bootstrap([right(CLASSES)], GOLD, 3, generator("memory"), 200, **memory)
        null = exchanged_differences(right(CLASSES), right(OTHER), GOLD, 3, generator("memory"), 200, **memory)
        return list(resampled["f1_macro"]), list(null["f1_macro"])

    assert draws() == draws(numbers_at_once=70)


QUESTIONS = np.array([0, 0, 1, 1, 1, 2, 3, 3, 4, 4])  # of rows
PASSAGES = np.array([0, 0, 0, 0, 0, 1, 2, 2, 2, 2])


def grouped(answered: Ints, gold: Ints = GOLD, questions: Ints = QUESTIONS) -> Answers:
    """Accuracy and macro-F1 of rows, and the share of questions whose rows are all right."""
    sizes = np.bincount(questions)[questions]
    all_right = np.array([float((answered == gold)[questions == question].all()) for question in questions])
    of_rows = right(answered, gold)
    return Answers({**of_rows.means, "em": all_right}, of_rows.classes, OF_COUNTS, {"em": 1 / sizes})


def macro(answered: Ints, positions: Ints) -> float:
    return float(f1_score(GOLD[positions], answered[positions], labels=[0, 1, 2], average="macro", zero_division=0))


def test_whole_clusters_are_resampled() -> None:
    (draws,) = bootstrap([grouped(CLASSES)], GOLD, 3, generator("clusters"), clusters=PASSAGES)
    right_rows, rows = np.array([3, 1, 3]), np.array([5, 1, 4])  # of each passage
    right_questions, questions = np.array([1, 1, 1]), np.array([2, 1, 2])
    values = {(round(a, 9), round(e, 9)) for a, e in zip(draws["accuracy"], draws["em"], strict=True)}
    possible = set()
    for passages in product(range(3), repeat=3):
        ids = list(passages)
        accuracy, exact = right_rows[ids].sum() / rows[ids].sum(), right_questions[ids].sum() / questions[ids].sum()
        possible.add((round(float(accuracy), 9), round(float(exact), 9)))
    assert values == possible
    all_rows = [
        np.concatenate([np.flatnonzero(p == PASSAGES) for p in passages]) for passages in product(range(3), repeat=3)
    ]
    exact_draws = [macro(CLASSES, passages) for passages in all_rows]
    assert draws["f1_macro"].mean() == pytest.approx(np.mean(exact_draws), abs=0.01)
    assert {round(value, 9) for value in draws["f1_macro"]} == {round(value, 9) for value in exact_draws}


def test_whole_clusters_are_exchanged() -> None:
    null = exchanged_differences(grouped(CLASSES), grouped(OTHER), GOLD, 3, generator("swap"), clusters=PASSAGES)
    possible = set()
    for swap in product((False, True), repeat=3):
        change = np.array(swap)[PASSAGES]
        first, second = np.where(change, OTHER, CLASSES), np.where(change, CLASSES, OTHER)
        possible.add(round(float(np.mean(first == GOLD) - np.mean(second == GOLD)), 9))
    assert {round(float(value), 9) for value in null["accuracy"]} == possible
    assert len(null["em"]) == len(null["f1_macro"]) == 10_000


def test_clusters_widen_an_interval_where_their_rows_go_together() -> None:
    answered = np.where(np.arange(200) // 10 % 2 == 0, 0, 1)  # whole passages of ten rows are right or wrong
    gold, passages = np.zeros(200, dtype=int), np.arange(200) // 10
    (rows,) = bootstrap([right(answered, gold)], gold, 2, generator("wide"))
    (clusters,) = bootstrap([right(answered, gold)], gold, 2, generator("wide"), clusters=passages)
    assert clusters["accuracy"].std() == pytest.approx(rows["accuracy"].std() * 10**0.5, rel=0.05)


def test_two_metrics_are_averaged_and_gender_parity_is_left_out() -> None:
    assert task_score({"accuracy": 0.5, "f1_macro": 0.25}) == 0.375
    assert task_score({"accuracy": 0.5, "gender_parity": 1.0}) == 0.5
    mean = average({"cb": {"accuracy": 0.5, "f1_macro": 0.25}, "axg": {"accuracy": 0.5, "gender_parity": 1.0}})
    assert mean == pytest.approx(0.4375)
