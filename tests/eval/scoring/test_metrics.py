"""Metrics against hand-worked numbers, scikit-learn and lm-evaluation-harness, and for every task an oracle, a constant, a
permuted and a garbage predictor, from the official row to the score."""

import importlib.util
import json
import random
import string
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import lm_eval
import pytest
from lm_eval.api.metrics import exact_match_hf_evaluate
from sklearn.metrics import accuracy_score, cohen_kappa_score, f1_score, matthews_corrcoef, mean_absolute_error
from transformers.data.metrics import squad_metrics

from eval.scoring.baseline import gold_of, majority, options_of
from eval.scoring.metrics import METRICS, Prediction, average, check_metrics, score, task_score
from targen.config.groups.data import Data
from targen.config.required_files import local_file
from targen.data.original import FIXTURE, eval_split, read_rows
from targen.runtime.errors import UserError
from targen.tasks.task import Example, Row, Task
from tests.support.commands import ALL_TASKS, ORIGINALS, PROJECT, command, settings
from tests.support.small_data import python
from train.data.rendering import right_answer

SPECS = settings(f"task=[{','.join(ALL_TASKS)}]").tasks
NAMES: dict[str, dict[Any, str]] = {  # the meaning of the official values, written a second time by hand
    "boolq": {True: "yes", False: "no"},
    "wic": {True: "same", False: "different"},
    "wsc": {True: "refers", False: "does_not_refer"},
    "copa": {0: "choice1", 1: "choice2"},
    "multirc": {1: "right", 0: "wrong"},
}


def rows_of(task: Task, folder: Path) -> tuple[Row, ...]:
    return read_rows(local_file(folder, task, task.eval_split), task)


def examples_of(task: Task, folder: Path = FIXTURE) -> list[Example]:
    return [example for row in rows_of(task, folder) for example in task.examples(row)]


def right_answers(task: Task, folder: Path) -> list[tuple[str, ...]]:
    """The right answers, read from the official rows without the code under test."""
    if task.name == "record":
        queries = [query for row in rows_of(task, folder) for query in row["qas"]]
        return [tuple(answer["text"] for answer in query["answers"]) for query in queries]
    if task.name == "multirc":
        questions = [question for row in rows_of(task, folder) for question in row["passage"]["questions"]]
        return [(NAMES["multirc"][answer["label"]],) for question in questions for answer in question["answers"]]
    return [(NAMES.get(task.name, {}).get(row["label"], row["label"]),) for row in rows_of(task, folder)]


def scores_of(task: Task, folder: Path, answers: list[str | None]) -> dict[str, float]:
    examples = examples_of(task, folder)
    pairs = zip(examples, answers, strict=True)
    return score(task, [Prediction(e.id, gold_of(task, e), a, {}, groups=e.groups) for e, a in pairs])


def folder_of(origin: str) -> Path:
    if origin == "originals" and not ORIGINALS.is_dir():
        pytest.skip(f"{ORIGINALS} is not there")
    return {"fixture": FIXTURE, "originals": ORIGINALS}[origin]


def task_folder(name: str, origin: str) -> Path:
    folder = folder_of(origin)
    if not (folder / SPECS[name].folder).is_dir():
        pytest.skip(f"{folder} has no {SPECS[name].folder}")
    return folder


@pytest.mark.parametrize("origin", ["fixture", "originals"])
@pytest.mark.parametrize("name", ALL_TASKS)
def test_oracle_permuted_and_garbage_predictors(name: str, origin: str) -> None:
    task, folder = SPECS[name], task_folder(name, origin)
    gold, examples = right_answers(task, folder), examples_of(task, folder)
    oracle = scores_of(task, folder, [answers[0] for answers in gold])
    assert oracle == dict.fromkeys(task.metrics, 1.0)
    options = [list(options_of(task, example)) for example in examples]
    permuted_answers: list[str | None] = [  # each label as the next one, ReCoRD: the next entity that is no answer
        next(o for o in choices[choices.index(answers[0]) + 1 :] + choices if o not in answers)
        for choices, answers in zip(options, gold, strict=True)
    ]
    permuted = scores_of(task, folder, permuted_answers)
    if name == "record":
        assert permuted["record_em"] == 0.0 and permuted["record_f1"] < 0.3
    elif name == "axb":  # of two labels all are exchanged
        assert permuted == {"matthews_correlation": pytest.approx(-1.0)}
    else:  # a pair of AX-g has one label, so both of it change alike
        assert permuted == {metric: float(metric == "gender_parity") for metric in task.metrics}
    for garbage in (None, "", "garbage", "<script>"):
        scores = scores_of(task, folder, [garbage] * len(examples))
        assert scores == {metric: float(metric == "gender_parity" and garbage is not None) for metric in task.metrics}


def test_the_correlation_of_axb_is_that_of_scikit_learn_and_an_unreadable_answer_is_a_class_of_its_own() -> None:
    names, draws = ["entailment", "not_entailment"], random.Random(0)
    for rows in (5, 60, 1104):
        gold = [draws.choice(names) for _ in range(rows)]
        answers = [draws.choice([*names, None]) for _ in range(rows)]
        expected = matthews_corrcoef(gold, [answer or "-" for answer in answers])
        assert score(SPECS["axb"], predictions(gold, answers)) == {"matthews_correlation": pytest.approx(expected)}


def test_the_metrics_of_multirc_are_those_of_the_harness() -> None:
    """The harness's script for T5 takes an unreadable answer for the wrong one of the two, as we do."""
    reference, task, draws = harness("multirc/t5_utils.py"), SPECS["multirc"], random.Random(0)
    examples = examples_of(task)
    for _ in range(20):
        answers = [draws.choice(["right", "wrong", "right", "wrong", None]) for _ in examples]
        truth = {"right": "True", "wrong": "False", None: "?"}
        pairs = [
            ([truth[answer]], [f"{example.groups[1]}_{truth[gold_of(task, example)[0]]}"])
            for example, answer in zip(examples, answers, strict=True)
        ]
        scores = scores_of(task, FIXTURE, answers)
        assert scores["f1a"] == pytest.approx(reference.agg_f1([reference.f1(*pair) for pair in pairs]))
        assert scores["question_em"] == pytest.approx(reference.agg_em([reference.em(*pair) for pair in pairs]))


def test_always_right_is_the_baseline_of_multirc_as_in_superglues_paper() -> None:
    task = SPECS["multirc"]
    baseline = majority(task, examples_of(task))
    assert {prediction.prediction for prediction in baseline} == {"right"}
    right_ones = sum(answers == ("right",) for answers in right_answers(task, FIXTURE))
    assert score(task, baseline)["f1a"] == pytest.approx(2 * right_ones / (len(baseline) + right_ones))


MAJORITY = {  # counted in the official files
    "axg": {"accuracy": 178 / 356, "gender_parity": 1.0},
    "boolq": {"accuracy": 2033 / 3270},
    "cb": {"accuracy": 28 / 56, "f1_macro": (2 * 28 / (56 + 28)) / 3},
    "copa": {"accuracy": 55 / 100},
    "rte": {"accuracy": 146 / 277},
    "wic": {"accuracy": 319 / 638},
    "wsc": {"accuracy": 66 / 104},
}


@pytest.mark.parametrize("name", MAJORITY)
def test_constant_predictors_on_the_original_splits_have_known_numbers(name: str) -> None:
    task, folder = SPECS[name], folder_of("originals")
    examples = examples_of(task, folder)
    assert score(task, majority(task, examples)) == pytest.approx(MAJORITY[name])
    best = max(scores_of(task, folder, [label.name] * len(examples))["accuracy"] for label in task.labels)
    assert best == pytest.approx(MAJORITY[name]["accuracy"])


@pytest.mark.parametrize("name", ALL_TASKS)
def test_no_constant_is_better_than_the_majority_of_the_fixture(name: str) -> None:
    task = SPECS[name]
    baseline = score(task, majority(task, examples_of(task)))
    assert all(0 <= value < 1 for metric, value in baseline.items() if metric != "gender_parity")
    for constant in [label.name for label in task.classes]:
        scores = scores_of(task, FIXTURE, [constant] * len(examples_of(task)))
        assert task_score(scores) <= task_score(baseline)
        if "accuracy" in scores:
            assert scores["accuracy"] <= baseline["accuracy"]
        if "gender_parity" in scores:
            assert scores["gender_parity"] == 1.0


def test_the_baseline_of_a_task_without_labels_is_its_own_answer() -> None:
    texts = {"passage": "Ann met Bo. Bo left. Anna stayed with Annie.", "query": "@placeholder left."}
    example = Example("record", 0, texts, ("Ann", "Bo"), (1,), ("Bo",))
    assert [row.prediction for row in majority(SPECS["record"], [example])] == ["Bo"]  # Anna is no mention of Ann
    assert Task.baseline_answer(SPECS["record"], example) == "Ann"  # any other task: the first choice


# Rows of the fixture and of the official files whose answer is plain to a reader: origin, task, row, words of it, answer, in words.
BY_HAND = [
    ("fixture", "axg", 0, "The translator had been unable to carry over a pun", "entailment", "yes"),
    ("fixture", "axg", 2, "swarmed onto the beekeeper's washing line", "not_entailment", "no"),
    ("fixture", "boolq", 0, "does a qanat need a pump to bring water out", "no", "no"),
    ("fixture", "boolq", 1, "can injera be made without teff", "yes", "yes"),
    ("fixture", "cb", 0, "Nkechi had seen the ring before", "entailment", "true"),
    ("fixture", "cb", 1, "the caretaker was overpaid", "neutral", "neither"),
    ("fixture", "cb", 2, "a sheep had gone missing", "contradiction", "false"),
    ("fixture", "copa", 0, "The bakery sold out before nine.", "choice1", "1"),
    ("fixture", "copa", 1, "The orchestra's flight was cancelled.", "choice2", "2"),
    ("fixture", "record", 1, "With film to prove that the @placeholder did go down", "Solveig", "Solveig"),
    ("fixture", "rte", 0, "had been due to reopen in the middle of May", "entailment", "yes"),
    ("fixture", "rte", 1, "Yaw Asamani was left out of the squad", "not_entailment", "no"),
    ("fixture", "wic", 0, "a cold draft coming from under the pantry door", "different", "no"),
    ("fixture", "wic", 1, "My aunt weaves blankets on a loom", "same", "yes"),
    ("fixture", "wsc", 0, "Yusra lent Ingeborg the field microscope", "refers", "yes"),
    (
        "fixture",
        "wsc",
        1,
        "When the goat met the tractor on the narrow lane, it stood its ground",
        "does_not_refer",
        "no",
    ),
    ("originals", "axg", 0, "The accountant sought help filing taxes.", "not_entailment", "no"),
    ("originals", "cb", 0, "Valence was helping", "contradiction", "false"),
    ("originals", "copa", 0, "The man turned on the faucet.", "choice2", "2"),
    ("originals", "rte", 0, "Christopher Reeve had an accident.", "not_entailment", "no"),
    ("originals", "wic", 0, "An emerging professional class.", "different", "no"),
    ("originals", "wsc", 0, "Still, anyone who knew that he was 19 years old", "does_not_refer", "no"),
]


@pytest.mark.parametrize(("origin", "name", "index", "words", "answer", "verbalizer"), BY_HAND)
def test_right_answers_are_what_a_reader_says(
    origin: str, name: str, index: int, words: str, answer: str, verbalizer: str
) -> None:
    task, example = SPECS[name], examples_of(SPECS[name], folder_of(origin))[index]
    assert any(words in text for text in example.fields.values())
    assert (gold_of(task, example), right_answer(task, example)) == ((answer,), verbalizer)


def predictions(gold: list[str], answers: list[str | None]) -> list[Prediction]:
    return [Prediction(i, (g,), a, {}) for i, (g, a) in enumerate(zip(gold, answers, strict=True))]


CB = ["entailment", "contradiction", "neutral"]


def test_macro_f1_counts_classes_that_never_occur() -> None:
    gold = ["entailment", "entailment", "contradiction"]
    predicted = predictions(gold, ["entailment", "contradiction", "contradiction"])
    # entailment: precision 1, recall 1/2, F1 2/3; contradiction: 1/2, 1, 2/3; neutral: 0
    assert METRICS["f1_macro"](predicted, CB) == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)


def test_an_unreadable_answer_lowers_recall_and_no_precision() -> None:
    predicted = predictions(["entailment", "entailment", "neutral"], ["entailment", None, "neutral"])
    # entailment: precision 1, recall 1/2; contradiction 0; neutral 1
    assert METRICS["f1_macro"](predicted, CB) == pytest.approx((2 / 3 + 0 + 1) / 3)


@pytest.mark.parametrize("seed", range(5))
def test_accuracy_and_macro_f1_are_scikit_learns(seed: int) -> None:
    draws = random.Random(seed)
    gold = draws.choices(CB, [5, 4, 1], k=40)
    answers = draws.choices([*CB, None, "Entailment", ""], k=40)
    plain = [answer or "none" for answer in answers]
    predicted = predictions(gold, answers)
    assert METRICS["accuracy"](predicted, CB) == accuracy_score(gold, plain)
    expected = f1_score(gold, plain, labels=CB, average="macro", zero_division=0)
    assert METRICS["f1_macro"](predicted, CB) == pytest.approx(expected)


def test_gender_parity_is_over_consecutive_rows() -> None:
    predicted = predictions(["x"] * 6, ["x", "x", "x", "y", None, None])
    assert METRICS["gender_parity"](predicted, ["x", "y"]) == pytest.approx(1 / 3)
    for unpaired, message in (
        (predicted[:5], "got 5 rows"),
        (predicted[1:5], "got the rows 1 and 2"),
        (predicted[:1] + predicted[2:3], "0 and 2"),
    ):
        with pytest.raises(UserError, match=f"gender_parity: .*{message}"):
            METRICS["gender_parity"](unpaired, ["x", "y"])


def test_rows_of_axg_that_are_not_all_in_pairs_are_refused_when_they_are_read(tmp_path: Path) -> None:
    (tmp_path / "AX-g").mkdir()
    lines = (FIXTURE / "AX-g" / "test.jsonl").read_text(encoding="utf-8").splitlines()
    (tmp_path / "AX-g" / "test.jsonl").write_text("\n".join(lines[:5]), encoding="utf-8")
    with pytest.raises(UserError, match="AX-g: got 5 rows, expected a multiple of 2"):
        eval_split(Data("local", str(tmp_path), "", None), SPECS["axg"])


def test_record_takes_the_best_answer_up_to_case_articles_and_punctuation() -> None:
    predicted = [
        Prediction(0, ("The Red Cross", "Red Cross Society"), "red cross.", {}),
        Prediction(1, ("New York City",), "York", {}),
        Prediction(2, ("Kenya",), "Kenyan", {}),
    ]
    assert METRICS["record_em"](predicted, []) == pytest.approx(1 / 3)
    assert METRICS["record_f1"](predicted, []) == pytest.approx((1 + 2 * (1 * 1 / 3) / (1 + 1 / 3) + 0) / 3)


@pytest.mark.parametrize(
    ("gold", "answer", "f1", "em"),
    [
        ("a_b", "A_B", 1.0, 1.0),  # the underscore is punctuation: both are `ab`
        ("Müller", "müller!", 1.0, 1.0),
        ("Müller", "Muller", 0.0, 0.0),  # accents are kept
        ("“Kenya”", "Kenya", 0.0, 0.0),  # only ASCII punctuation is taken away
        ("a an the", "The", 0.0, 1.0),  # nothing is left of both: equal, but without a word in common
        ("?!", "", 0.0, 1.0),
        ("Kenya", "", 0.0, 0.0),
        ("Kenya", None, 0.0, 0.0),
        ("?!", None, 0.0, 0.0),
        ("New New York", "new york york", 2 * 2 / 6, 0.0),  # words count as often as they stand there
    ],
)
def test_token_f1_and_exact_match_of_odd_answers(gold: str, answer: str | None, f1: float, em: float) -> None:
    predicted = [Prediction(0, (gold,), answer, {})]
    assert (METRICS["record_f1"](predicted, []), METRICS["record_em"](predicted, [])) == pytest.approx((f1, em))


def test_the_score_of_a_task_and_the_average() -> None:
    assert task_score({"accuracy": 0.5, "f1_macro": 0.25}) == pytest.approx(0.375)
    assert task_score({"accuracy": 0.5, "gender_parity": 1.0}) == 0.5
    with pytest.raises(ValueError, match="gender_parity"):
        task_score({"gender_parity": 1.0})
    by_task = {
        "cb": {"accuracy": 0.5, "f1_macro": 0.25},
        "axg": {"accuracy": 0.6, "gender_parity": 1.0},
        "record": {"record_f1": 0.9, "record_em": 0.7},
        "rte": {"accuracy": 0.325},
    }
    assert average(by_task) == pytest.approx((0.375 + 0.6 + 0.8 + 0.325) / 4)
    assert average({**by_task, "copa": {}}) is None
    assert average({}) is None


def test_hidden_labels_are_refused_by_their_row(tmp_path: Path) -> None:
    for name in ALL_TASKS:
        task = SPECS[name]
        row = json.loads(json.dumps(rows_of(task, FIXTURE)[0]))
        for part in [row, *row.get("qas", [])]:
            part.pop("label", None)
            part.pop("answers", None)
        for answer in row["passage"]["questions"][0]["answers"] if name == "multirc" else ():
            del answer["label"]
        for hidden in [row] if name in ("record", "multirc") else [row, {**row, "label": -1}]:
            example = task.examples(hidden)[0]
            assert gold_of(task, example) == ()
            with pytest.raises(UserError, match=f"{task.folder}: row {example.id}: the label is hidden"):
                score(task, [Prediction(example.id, gold_of(task, example), None, {})])
    path = tmp_path / "CB" / "val.jsonl"
    path.parent.mkdir()
    path.write_text('{"premise": "P.", "hypothesis": "H.", "label": -1, "idx": 0}\n', encoding="utf-8")
    with pytest.raises(UserError, match=r"val\.jsonl:1: label: got -1, expected one of 'entailment'"):
        eval_split(Data("local", str(tmp_path), "", None), SPECS["cb"])
    with pytest.raises(UserError, match="CB: got no row"):
        score(SPECS["cb"], [])


def test_a_metric_that_does_not_exist_is_told_before_anything_runs(tmp_path: Path) -> None:
    check_metrics(SPECS)
    with pytest.raises(UserError, match=r"tasks\.cb\.metrics\.0: got 'accurcy', expected .*Did you mean 'accuracy'"):
        check_metrics(settings("tasks.cb.metrics=[accurcy]").tasks)
    with pytest.raises(UserError, match=r"tasks\.record\.metrics\.1: got f1_macro for a task without labels"):
        check_metrics(settings("task=record", "tasks.record.metrics=[record_f1,f1_macro]").tasks)
    with pytest.raises(UserError, match=r"tasks\.rte\.metrics\.0: got question_em, expected a metric of rows"):
        check_metrics(settings("task=rte", "tasks.rte.metrics=[question_em]").tasks)
    for module in ("eval.run", "targen.run"):
        done = command(module, "task=cb", "tasks.cb.metrics=[accurcy]", f"run.dir={tmp_path / 'run'}")
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert "error: tasks.cb.metrics.0: got 'accurcy', expected one of accuracy, f1_macro" in done.stderr
        assert not (tmp_path / "run").exists()
    with pytest.raises(UserError, match=r"tasks\.cb\.metrics: got \[\]"):
        settings("tasks.cb.metrics=[]")
    with pytest.raises(UserError, match="f1_macro for a task without labels"):
        METRICS["f1_macro"](predictions(["Kenya"], ["Kenya"]), [])


# ---- against lm-evaluation-harness, as it is installed


def harness(path: str) -> ModuleType:
    """A module of the harness's SuperGLUE tasks."""
    file = Path(lm_eval.__file__).parent / "tasks" / "super_glue" / path
    spec = importlib.util.spec_from_file_location(path.replace("/", "_")[:-3], file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def hostile(draws: random.Random) -> str:
    """A text of words, articles, punctuation and letters of several scripts."""
    words = ["the", "a", "An", "Kenya", "U.S.", "O'Neil", "a_b", "_"]
    words += ["Zoë", "straße", "İ", "北京", "--", "<b>", "\\textbf{x}"]
    return draws.choice([" ", "  ", "\n", "-", ""]).join(draws.choices(words, k=draws.randrange(5)))


@pytest.mark.parametrize("seed", range(5))
def test_macro_f1_is_the_harnesss_where_answers_can_be_read(seed: int) -> None:
    draws = random.Random(seed)
    gold, answers = draws.choices(CB[: 2 + seed % 2], k=30), draws.choices(CB[seed % 2 :], k=30)
    items = [(CB.index(answer), CB.index(label)) for answer, label in zip(answers, gold, strict=True)]
    ours = METRICS["f1_macro"](predictions(gold, list(answers)), CB)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes that never occur
        assert ours == pytest.approx(harness("cb/aggregate.py").cb_multi_fi(items))
        assert ours == pytest.approx(harness("cb/t5_utils.py").agg_mean_3class_f1(items))


def test_the_harness_scores_an_unreadable_answer_as_entailment_and_we_as_wrong() -> None:
    t5 = harness("cb/t5_utils.py")
    items = [
        t5.mean_3class_f1([answer], [gold]) for answer, gold in (("no idea", "entailment"), ("neutral", "neutral"))
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert t5.agg_mean_3class_f1(items) == pytest.approx(2 / 3)
    assert METRICS["f1_macro"](predictions(["entailment", "neutral"], [None, "neutral"]), CB) == pytest.approx(1 / 3)


@pytest.mark.parametrize("seed", range(3))
def test_answers_are_compared_as_the_harness_and_squad_compare_them(seed: int) -> None:
    draws, t5 = random.Random(seed), harness("record/t5_utils.py")
    for _ in range(200):
        gold, answer = hostile(draws), hostile(draws)
        predicted = [Prediction(0, (gold,), answer, {})]
        em, f1 = METRICS["record_em"](predicted, []), METRICS["record_f1"](predicted, [])
        assert (
            em == squad_metrics.compute_exact(gold, answer) == (t5.normalize_squad(gold) == t5.normalize_squad(answer))
        )
        if squad_metrics.get_tokens(gold) and squad_metrics.get_tokens(answer):
            assert f1 == pytest.approx(squad_metrics.compute_f1(gold, answer))
        else:  # SQuAD 2.0's script, not ReCoRD's: an empty answer to an empty one is right
            assert (f1, squad_metrics.compute_f1(gold, answer)) == (0.0, em)
        if "_" not in gold:
            assert t5.squad_f1_agg([(answer, f"0_{gold}")]) == pytest.approx(f1)
            assert t5.squad_em_agg([(answer, f"0_{gold}")]) == em


def test_record_is_the_harnesss_over_queries_with_several_answers() -> None:
    draws, task, process = random.Random(0), SPECS["record"], harness("record/util.py").process_results
    for example in examples_of(task):
        likelihoods = [(draws.random(), False) for _ in example.choices]
        doc = {"entities": list(example.choices), "answers": list(example.answers)}
        best = example.choices[max(range(len(likelihoods)), key=likelihoods.__getitem__)]
        ours = score(task, [Prediction(example.id, example.answers, best, {})])
        theirs = process(doc, likelihoods)
        assert (ours["record_f1"], ours["record_em"]) == pytest.approx((theirs["f1"], theirs["em"]))


def test_the_harnesss_t5_record_weighs_queries_by_their_answers_in_exact_match_alone() -> None:
    t5 = harness("record/t5_utils.py")
    items = [("ICRC", "0_Red Cross"), ("ICRC", "0_the ICRC"), ("Nairobi", "1_Kenya")]  # one item an answer
    assert (t5.squad_em_agg(items), t5.squad_f1_agg(items)) == (pytest.approx(2 / 3), 0.5)
    predicted = [Prediction(0, ("Red Cross", "the ICRC"), "ICRC", {}), Prediction(1, ("Kenya",), "Nairobi", {})]
    assert (METRICS["record_em"](predicted, []), METRICS["record_f1"](predicted, [])) == (0.5, 0.5)
    for aggregate in (t5.squad_em_agg, t5.squad_f1_agg):
        with pytest.raises(ValueError, match="too many values"):
            aggregate([("a_b", "0_a_b")])


def test_the_harnesss_t5_wsc_calls_an_empty_answer_to_a_false_row_right() -> None:
    process: Callable[..., dict[str, float]] = harness("wsc/t5_utils.py").process_results
    row = {"span1_text": "The tailor", "label": 0}
    assert process(row, [""]) == process(row, ["!?"]) == {"accuracy": 1.0}
    assert (
        process({**row, "label": 1}, ["the tailor"])
        == process({**row, "label": 1}, ["tailor shop"])
        == {"accuracy": 1.0}
    )
    assert score(SPECS["wsc"], predictions(["does_not_refer"], [None])) == {"accuracy": 0.0}


def test_the_harnesss_exact_match_ignores_case_and_punctuation_where_our_labels_are_names() -> None:
    match = exact_match_hf_evaluate
    loose = {"ignore_case": True, "ignore_punctuation": True}  # as the t5-prompt tasks have it
    gold = ["entailment", "not_entailment"] * 2
    answers = ["Entailment!", "notentailment", "entailment", "not entailment"]
    assert match(predictions=answers, references=gold, **loose) == {"exact_match": 0.75}
    assert score(SPECS["rte"], predictions(gold, list(answers))) == {"accuracy": 0.25}
    assert match(predictions=gold, references=gold, **loose) == {"exact_match": 1.0}


# ---- as a metric of the evaluate library

LOADED = """
import json, socket, sys
def refuse(*_): raise AssertionError("a connection was tried")
socket.socket.connect = refuse
import evaluate
scores = {}
for name, (answers, gold) in json.load(open("answers.json")).items():
    metric = evaluate.load(sys.argv[1], name)
    scores[name] = metric.compute(predictions=answers, references=gold)
print(json.dumps(scores))
"""


@pytest.mark.slow
def test_the_evaluate_metric_loads_by_its_path_without_network_and_says_what_we_score(tmp_path: Path) -> None:
    """From another folder, in a process of its own: the library reads its switches when it is imported."""
    answers, expected = answers_and_scores()
    (tmp_path / "answers.json").write_text(json.dumps(answers), encoding="utf-8")
    switches = {"HF_HOME": str(tmp_path / "hf"), "HF_EVALUATE_OFFLINE": "1", "HF_HUB_OFFLINE": "1"}
    done = python("-c", LOADED, str(PROJECT / "eval" / "superglue.py"), cwd=tmp_path, **switches)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {name: pytest.approx(values) for name, values in expected.items()}


def answers_and_scores() -> tuple[dict[str, tuple[list[Any], list[Any]]], dict[str, dict[str, float]]]:
    """(drawn answers and official gold labels, the scores of these answers), by task."""
    draws, answers_by_task, expected = random.Random(0), {}, {}
    for name in ALL_TASKS:
        task = SPECS[name]
        examples = examples_of(task)
        answers = [draws.choice([None, *options_of(task, example)]) for example in examples]
        answers[0] = None
        pairs = zip(examples, answers, strict=True)
        predicted = [Prediction(e.id, gold_of(task, e), a, {}, groups=e.groups) for e, a in pairs]
        expected[name] = score(task, predicted)
        values = {label.name: label.value for label in task.classes} if name in ("boolq", "copa", "multirc") else {}
        official = [values.get(answer, answer) for answer in answers]
        if name == "multirc":
            question_idx = [dict(zip(("paragraph", "question"), example.groups, strict=True)) for example in examples]
            official = [{"idx": idx, "prediction": value} for idx, value in zip(question_idx, official, strict=True)]
        golds = [list(p.gold) if name == "record" else values.get(p.gold[0], p.gold[0]) for p in predicted]
        answers_by_task[name] = (official, golds)
    return answers_by_task, expected


def evaluate_metric(name: str, folder: Path) -> Any:
    from eval.superglue import SuperGlue

    return SuperGlue(config_name=name, cache_dir=str(folder))


def test_the_evaluate_metric_says_what_we_score(tmp_path: Path) -> None:
    answers, expected = answers_and_scores()
    for name, (official, golds) in answers.items():
        scores = evaluate_metric(name, tmp_path).compute(predictions=official, references=golds)
        assert scores == pytest.approx(expected[name]), name


def test_the_evaluate_metric_takes_batches_and_refuses_what_it_cannot_score(tmp_path: Path) -> None:
    import numpy as np

    metric = evaluate_metric("boolq", tmp_path)
    metric.add_batch(predictions=np.array([True, False]), references=["yes", "yes"])
    metric.add(prediction="maybe", reference=False)
    assert metric.compute() == {"accuracy": pytest.approx(1 / 3)}
    for name, answers, gold, message in (
        ("cb", ["neutral"], [1], r"references\[0\]: got 1, expected one of 'entailment', 'contradiction', 'neutral'"),
        ("cb", [2], ["neutral"], r"predictions\[0\]: got 2"),
        ("boolq", [True], [1], r"references\[0\]: got 1, expected one of 'yes', True, 'no', False"),
        ("record", ["Kenya"], ["Kenya"], r"references\[0\]: got 'Kenya', expected a list"),
        ("record", ["Kenya"], [[]], r"references\[0\]: got \[\]"),
        (
            "multirc",
            [1],
            [1],
            r"predictions\[0\]: got 1, expected an answer with its question: \{\"idx\": \{\"paragraph",
        ),
        ("copa", ["choice1"], ["choice1", "choice2"], "Mismatch in the number"),
    ):
        with pytest.raises(ValueError, match=message):
            evaluate_metric(name, tmp_path).compute(predictions=answers, references=gold)
    with pytest.raises(UserError, match="got 1 rows, expected an even number"):
        evaluate_metric("axg", tmp_path).compute(predictions=["entailment"], references=["entailment"])
    with pytest.raises(ValueError, match=r"got 'bolq', expected a task\. Did you mean 'boolq'"):
        evaluate_metric("bolq", tmp_path)


def test_hostile_texts_are_scored_as_they_are(tmp_path: Path) -> None:
    texts = ["a_b", "<b>x</b>", "\\input{/etc/passwd}", "=1+1", "|x|", "`rm`", "\x00", string.punctuation]
    scores = evaluate_metric("record", tmp_path).compute(predictions=texts, references=[[text] for text in texts])
    # nothing is left of the last one: equal, but without a word in common
    assert scores == {"record_f1": pytest.approx(7 / 8), "record_em": 1.0}


def test_metrics_of_ordered_labels_agree_with_scikit_learn() -> None:
    draws, labels = random.Random(0), ["bad", "fair", "good", "fine"]
    for _ in range(20):
        gold = draws.choices(range(4), k=30)
        answers = [min(3, max(0, label + draws.choice((-2, -1, 0, 0, 0, 1)))) for label in gold]
        predicted = predictions([labels[label] for label in gold], [labels[answer] for answer in answers])
        kappa = cohen_kappa_score(gold, answers, weights="quadratic")
        assert METRICS["quadratic_kappa"](predicted, labels) == pytest.approx(kappa)
        assert METRICS["mean_absolute_error"](predicted, labels) == pytest.approx(mean_absolute_error(gold, answers))


def test_an_unreadable_answer_is_as_far_off_as_an_answer_can_be() -> None:
    labels = ["1", "2", "3", "4", "5"]
    predicted = [Prediction(0, ("2",), None, {}), Prediction(1, ("5",), None, {}), Prediction(2, ("3",), "3", {})]
    assert METRICS["mean_absolute_error"](predicted, labels) == (3 + 4 + 0) / 3
    assert METRICS["quadratic_kappa"](predicted, labels) < 0
    constant = [Prediction(n, ("4",), "4", {}) for n in range(3)]
    assert METRICS["quadratic_kappa"](constant, labels) == 1
    assert METRICS["quadratic_kappa"]([Prediction(0, ("4",), None, {})], labels) == 0
