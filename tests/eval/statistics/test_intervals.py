"""Intervals where a bootstrap has no width, against Wilson's and Tango's, and by hand."""

import re
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

from eval.reporting.report import report_runs
from eval.scoring.metric_kinds import Prediction
from eval.scoring.metrics import macro_f1
from eval.statistics.intervals import Resampled, interval_from_error, mean_of_tasks, resampled_metrics, weighted_sum
from eval.statistics.resampling import Answers, Floats, Ints, bootstrap, generator, interval
from tests.support.scored_runs import MORE, FakeCell, write_cell, write_run, write_scores

Z2 = 1.959964**2
OF_COUNTS = {"f1_macro": macro_f1}


def intervals_of(arms: list[Answers], gold: Ints, labels: int) -> dict[str, tuple[float, float]]:
    """By metric; of two arms, of their difference."""
    by_arm = bootstrap(arms, gold, labels, generator("flat"), 500)
    draws = by_arm[0] if len(arms) == 1 else {name: by_arm[0][name] - by_arm[1][name] for name in by_arm[0]}
    by_metric = resampled_metrics(arms, gold, labels, draws)
    return {name: by_metric[name].interval(float(values[0])) for name, values in draws.items()}


def means(values: list[float], name: str = "accuracy") -> Answers:
    return Answers({name: np.array(values)})


def classes(answered: Ints, gold: Ints) -> Answers:
    return Answers({"accuracy": (answered == gold).astype(float)}, answered[:, None], OF_COUNTS)


@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("n", [1, 12, 56, 277])
def test_all_right_or_all_wrong_has_wilsons_interval(n: int, value: float) -> None:
    bounds = intervals_of([means([value] * n)], np.full(n, -1), 0)["accuracy"]
    wilson = binomtest(int(n * value), n).proportion_ci(0.95, method="wilson")
    assert bounds == pytest.approx((wilson.low, wilson.high), abs=1e-4)


def test_equal_f1_of_every_query_is_not_certain_either() -> None:
    bounds = intervals_of([means([0.5] * 12, "record_f1")], np.full(12, -1), 0)["record_f1"]
    assert bounds == pytest.approx((6 / (12 + Z2), (6 + Z2) / (12 + Z2)))


def test_arms_that_agree_have_tangos_interval_of_the_difference() -> None:
    arm = means([1.0] * 9 + [0.0] * 3)
    bounds = intervals_of([arm, arm], np.full(12, -1), 0)["accuracy"]
    assert bounds == pytest.approx((-Z2 / (12 + Z2), Z2 / (12 + Z2)))  # no row that only one of them got right


def test_the_macro_f1_of_right_answers_falls_with_a_class_that_has_few_rows() -> None:
    gold = np.array([0] * 40 + [1] * 40 + [2] * 20)
    low, high = intervals_of([classes(gold, gold)], gold, 3)["f1_macro"]
    worst = (40 / (40 + Z2 / 2) + 1 + 20 / (20 + Z2 / 2)) / 3  # 3.84 rows of the third class, answered as another
    assert (low, high) == (pytest.approx(worst), 1.0)
    same = intervals_of([classes(gold, gold)] * 2, gold, 3)["f1_macro"]
    assert same == pytest.approx((worst - 1, 1 - worst))


def test_an_interval_with_a_width_is_the_bootstraps() -> None:
    answers = means([1.0] * 11 + [0.0])
    (draws,) = bootstrap([answers], np.full(12, -1), 0, generator("wide"), 500)
    assert resampled_metrics([answers], np.full(12, -1), 0, draws)["accuracy"].interval(11 / 12) == interval(
        draws["accuracy"]
    )


def test_an_average_of_tasks_adds_the_squares_and_one_of_metrics_the_sizes() -> None:
    flat: Floats = np.ones(10_001)
    tasks = [Resampled(flat, below=0.3), Resampled(flat, below=0.4)]
    assert mean_of_tasks(tasks).interval(1.0) == pytest.approx((1 - 0.25, 1.0))
    assert weighted_sum([(0.5, tasks[0]), (0.5, tasks[1])]).interval(1.0) == pytest.approx((1 - 0.35, 1.0))
    wide = Resampled(np.linspace(0.0, 1.0, 10_001))  # 0.025 to 0.975
    low, high = mean_of_tasks([wide, Resampled(flat, below=0.4)]).interval(0.75)
    assert (low, high) == pytest.approx((0.75 - np.hypot(0.475, 0.4) / 2, 0.9875), abs=1e-4)


def test_a_standard_error_of_0_has_a_width_and_no_bound_leaves_the_scale() -> None:
    assert interval_from_error(1.0, 0.0, 12) == pytest.approx((12 / (12 + Z2), 1.0))
    assert interval_from_error(0.98, 0.02, 50) == pytest.approx((0.98 - 1.959964 * 0.02, 1.0))


def test_a_report_has_no_interval_without_width(tmp_path: Path) -> None:
    """All right in both arms, in every kind of metric: rows, classes, pairs of rows, texts."""
    sizes = dict.fromkeys(("axg", "cb", "record"), 12)
    run = write_run(
        tmp_path / "run", [FakeCell(task, arm, 1.0) for task in sizes for arm in ("original", "synthetic")], sizes
    )
    report_runs((run,), tmp_path / "report")
    table = (tmp_path / "report" / "tables" / "original_vs_synthetic.md").read_text()
    assert not re.search(r"\((-?[\d.]+) to \1\)", table)
    assert table.count("100.0 (75.8 to 100.0) 12×1") == 8  # four metrics, two arms
    assert "average" in table
    assert "+0.0 (-24.2 to 24.2), p = 1.00" in table


def test_a_sentence_pair_of_axb_counts_once_though_it_is_there_in_both_orders(tmp_path: Path) -> None:
    """As many pairs, each in one order or in both, where it has the same label and answer: no more is known of the model."""
    task, draws = MORE["axb"], np.random.default_rng(0)
    pairs = [(f"Ann has {n} cats.", f"ann has {n} pets", draws.random() < 0.5, draws.random() < 0.7) for n in range(80)]
    widths = []
    for orders in ((0,), (0, 1)):
        predictions = []
        for exchanged in orders:
            for *sentences, entailed, right in pairs:
                texts = dict(zip(task.row, sentences[::-1] if exchanged else sentences, strict=True))
                label = task.labels[0 if entailed else 1].value
                (example,) = task.examples({**texts, "idx": len(predictions), "label": label})
                (gold,) = example.gold
                answer = example.choices[gold if right else 1 - gold]
                predictions.append(Prediction(example.id, (example.choices[gold],), answer, {}, groups=example.groups))
        run = tmp_path / f"{len(orders)}"
        write_scores(
            run,
            [row for arm in ("original", "synthetic") for row in write_cell(run, FakeCell("axb", arm, 0), predictions)],
        )
        report_runs((run,), run / "report")
        table = (run / "report" / "tables" / "original_vs_synthetic.md").read_text()
        low, high = map(float, re.search(r"\(([\d.]+) to ([\d.]+)\)", table).groups())
        widths.append(high - low)
    assert widths[1] == pytest.approx(widths[0], rel=0.05)  # as independent rows, narrower by a factor of 1.4
