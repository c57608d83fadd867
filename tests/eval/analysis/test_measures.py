"""The numbers of the analyses, against other libraries and worked by hand."""

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from math import exp, log, sqrt
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import spacy
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

from eval.analysis.intervals import (
    estimate_from_halves,
    half_samples,
    measure,
    newcombe,
    ratio,
    values_of_halves,
    wilson,
)
from eval.analysis.measures.bias import bias, countries_of, english_share
from eval.analysis.measures.contamination import contamination
from eval.analysis.measures.entities import entities
from eval.analysis.measures.lexical import lexical, mtld
from eval.analysis.measures.self_bleu import SelfBleu
from eval.analysis.measures.semantic import embedder_of, embeddings, mean_cosine, semantic, vendi
from eval.analysis.results import AnalysisResult, Interval, Measure
from eval.analysis.sets import DataSet, SetPair, texts
from eval.analysis.sheet import human_agreement, read_sheet, write_sheet
from targen.config.required_files import local_file
from targen.data.original import FIXTURE, Split, read_rows
from targen.runtime.errors import UserError
from targen.tasks.task import Row
from targen.text.normalise import units
from tests.support.commands import ORIGINALS, settings
from tests.support.small_data import SPECS

KEYS = settings().analysis
CB, AXG = SPECS["cb"], SPECS["axg"]


def fixture(name: str) -> tuple[Row, ...]:
    task = SPECS[name]
    return read_rows(local_file(FIXTURE, task, task.eval_split), task)


def cb_rows(*premises: str, hypothesis: str = "it", label: str = "neutral") -> tuple[Row, ...]:
    return tuple(
        {"premise": premise, "hypothesis": hypothesis, "label": label, "idx": idx}
        for idx, premise in enumerate(premises)
    )


def pair_of(a: Sequence[Row], b: Sequence[Row], name: str = "cb", **changes: Any) -> SetPair:
    pair = SetPair(SPECS[name], DataSet("a", "one", tuple(a)), DataSet("b", "two", tuple(b)), seed=0, at_most=None)
    return replace(pair, **changes)


def by_name(result: AnalysisResult) -> dict[str, Measure]:
    return {measure.name: measure for measure in result.measures}


def test_self_bleu_is_nltks_of_every_row_against_the_others() -> None:
    rows = [[word for text in texts(SPECS["rte"], row) for word in units(text)] for row in fixture("rte")]
    rows += [[], ["the"], ["zebra"], ["the", "of"], ["of", "the", "the", "the", "of"], rows[3], rows[4][:5]]
    smooth = SmoothingFunction().method1
    expected = [
        sentence_bleu(rows[:index] + rows[index + 1 :], row, smoothing_function=smooth)
        for index, row in enumerate(rows)
    ]
    self_bleu = SelfBleu(rows)
    assert self_bleu.scores() == pytest.approx(expected, abs=1e-12)
    assert max(expected) > 0.99 > 0.5 > min(expected)
    subset = np.array(Random(0).sample(range(len(rows)), 9))
    assert self_bleu.scores(subset) == pytest.approx(SelfBleu([rows[index] for index in subset]).scores(), abs=1e-12)


def test_mtld_worked_by_hand() -> None:
    assert (
        mtld(["of", "the", "people", "by", "the", "people", "for", "the", "people"]) == 9.0
    )  # 4/6 ends a stretch, either way
    assert mtld(list("abca")) == pytest.approx(4 / ((1 - 3 / 4) / (1 - 0.72)))
    assert mtld([*range(18), *range(7)]) == 25.0  # 18/25 is 0.72: it has come down to it
    assert mtld(list("abc")) == 3.0
    assert mtld([]) == 0.0
    # forwards 5/7 = 0.714 ends a stretch and x begins to fall by nothing; backwards 6/8 is left
    assert mtld(list("abcdeabx")) == pytest.approx((8 + 8 / ((1 - 6 / 8) / (1 - 0.72))) / 2)


def test_words_are_counted_at_equal_numbers_of_words_and_n_grams_inside_texts() -> None:
    # four rows of five and of seven words; "it" is a text of its own, so that no bigram ends in it
    short, long = cb_rows(*["red dog saw blue"] * 4), cb_rows(*["one two three four five six"] * 4)
    result = lexical(pair_of(short, long), KEYS)
    measures = by_name(result)
    assert result.details["words"] == {"a": 20, "b": 28}
    assert result.details["words_compared"] == 20
    assert measures["words_per_row"].a == Interval(5.0, 5.0, 5.0)
    assert measures["vocabulary"].a is not None and measures["vocabulary"].a.value == 5
    assert measures["vocabulary"].b is not None and measures["vocabulary"].b.value == 7
    assert measures["distinct_1"].a is not None and measures["distinct_1"].a.value == 5 / 20
    assert measures["distinct_2"].a is not None and measures["distinct_2"].a.value == 3 / 12
    # of b: two rows whole (7 words each) and the first 6 words of the third: 5 bigrams each
    assert measures["distinct_2"].b is not None and measures["distinct_2"].b.value == 5 / 15
    assert measures["vocabulary"].difference is not None and measures["vocabulary"].difference.value == 2


def test_samples_are_equal_whole_instances_and_nested() -> None:
    many = [{**row, "idx": idx} for idx, row in enumerate(fixture("axg") * 3)]
    pair = pair_of(many, fixture("axg"), "axg")
    samples = pair.samples()
    assert {side: len(rows) for side, rows in samples.items()} == {"a": 10, "b": 10}
    assert sorted(row["idx"] for row in samples["b"]) == list(range(10))  # the smaller one is whole
    for rows in samples.values():
        assert all(
            second["idx"] == first["idx"] + 1 and first["idx"] % 2 == 0
            for first, second in zip(rows[::2], rows[1::2], strict=True)
        )
    assert pair.samples(4)["a"] == samples["a"][:4]
    assert pair.samples() == samples
    assert replace(pair, seed=1).samples()["a"] != samples["a"]
    assert replace(pair, at_most=5).size == 4


def test_shares_and_their_difference_as_published() -> None:
    # R. G. Newcombe, Statistics in Medicine 17 (1998), table II: 56/70 and 48/80, method 10
    first, second = wilson(48, 80), wilson(56, 70)
    assert first is not None and second is not None
    difference = newcombe(first, second)
    assert (difference.value, difference.low, difference.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)
    nothing = wilson(0, 24)  # z^2 / (n + z^2)
    assert nothing is not None and nothing.low == 0 and nothing.high == pytest.approx(1.959964**2 / (24 + 1.959964**2))
    assert wilson(0, 0) is None


def test_halves_have_the_spread_of_whole_samples() -> None:
    values = np.array([float(number**2 % 97) for number in range(200)])
    error = values.std(ddof=1) / sqrt(len(values))
    half_values = values_of_halves(half_samples(len(values), 2000, Random(0)), lambda half: float(values[half].mean()))
    estimate = estimate_from_halves(float(values.mean()), half_values, 200)
    assert estimate.resampled.std() == pytest.approx(error, rel=0.06)
    interval = estimate.interval
    assert interval.value == values.mean()
    assert (interval.low, interval.high) == pytest.approx(
        (values.mean() - 1.96 * error, values.mean() + 1.96 * error), rel=0.02
    )
    boot = ratio(values, None, Random(0))
    assert boot is not None and boot.resampled.std() == pytest.approx(error, rel=0.1)
    # repetitions: of half the set half of them, so the spread of what is not yet repeated is doubled
    assert estimate_from_halves(0.8, [0.95, 0.85], 1, base=1.0).resampled == pytest.approx([0.9, 0.7])
    assert estimate_from_halves(0.1, [0.3, 0.1], 1, base=None).resampled == pytest.approx([0.2, 0.0])


def test_too_few_rows_have_a_value_and_no_interval() -> None:
    pair = ratio(np.array([1.0, 3.0]), np.array([1.0, 1.0]), Random(0))
    assert pair is not None and pair.interval == Interval(2.0, None, None)
    compared = measure("p", "n", "t", "u", {"a": pair, "b": ratio(np.arange(9.0), None, Random(0))})
    assert compared.difference is not None and (compared.difference.value, compared.difference.low) == (2.0, None)
    assert ratio(np.zeros(5), np.zeros(5), Random(0)) is None


def test_vendi_score_and_cosine_of_known_sets() -> None:
    same, apart = np.tile([1.0, 0.0, 0.0], (5, 1)), np.eye(4)
    assert (vendi(same), vendi(apart)) == pytest.approx((1, 4))
    assert (mean_cosine(same), mean_cosine(apart)) == pytest.approx((1, 0))
    two_kinds = np.array([[1.0, 0.0]] * 3 + [[0.0, 1.0]] * 1)  # eigenvalues 3/4 and 1/4; more rows than dimensions
    assert vendi(two_kinds) == pytest.approx(exp(-(0.75 * log(0.75) + 0.25 * log(0.25))))
    assert mean_cosine(two_kinds) == pytest.approx(3 / 6)
    random = np.random.default_rng(0).normal(size=(30, 7))
    random /= np.linalg.norm(random, axis=1, keepdims=True)
    kernel = np.linalg.eigvalsh(random @ random.T / 30)
    kernel = kernel[kernel > 1e-12]
    assert vendi(random) == pytest.approx(exp(-(kernel * np.log(kernel)).sum()))
    cosines = (random @ random.T)[np.triu_indices(30, 1)]
    assert mean_cosine(random) == pytest.approx(cosines.mean())


def test_embeddings_know_what_is_alike_and_both_sets_share_one_plane() -> None:
    model = embedder_of("minilm")
    cat, kitten, tax = embeddings(
        model, ["A cat sleeps on the sofa.", "A kitten naps on a couch.", "Tax law changed in May."]
    )
    assert np.linalg.norm(cat) == pytest.approx(1)
    assert cat @ kitten > 0.5 > 0.2 > cat @ tax
    again = embeddings(model, ["A kitten naps on a couch."])  # the padding of a batch changes nothing
    assert again[0] == pytest.approx(kitten, abs=1e-5)
    rows = fixture("cb")
    result = semantic(pair_of(rows, rows), KEYS)
    measures, points = by_name(result), result.details["points"]
    assert measures["vendi"].difference is not None and measures["vendi"].difference.value == pytest.approx(0)
    assert measures["vendi"].a is not None and 5 < measures["vendi"].a.value < 10
    by_idx = [{point[0]: point[1:] for point in points[side]} for side in ("a", "b")]
    assert by_idx[0] == by_idx[1]  # equal rows lie on one another
    for name, words in (
        ("tiny_encoder", "not a pretrained encoder"),
        ("flan_t5_large", "not a pretrained encoder"),
        ("minilmm", "'minilm'"),
    ):
        with pytest.raises(UserError, match=words):
            embedder_of(name)


def test_countries_are_whole_words() -> None:
    assert countries_of("A woman from Romania saw an oman in Oman.") == ["Romania", "Oman"]
    assert countries_of("Nigeria and Niger, Papua New Guinea, New Mexico, the Gulf of Mexico; Guinea-Bissau") == [
        "Nigeria", "Niger", "Papua New Guinea", "Guinea-Bissau",
    ]  # fmt: skip
    assert countries_of("The U.S. and the USA told us; UK, Britain's turkey") == [
        "United States", "United States", "United Kingdom", "United Kingdom",
    ]  # fmt: skip


def test_pronouns_occupations_and_countries_are_counted() -> None:
    a = cb_rows(
        "She is a nurse.", "He is a doctor in Peru.", "The doctor told her about him.", "It rained on the town."
    )
    b = cb_rows("He is a nurse.", "He sat in Peru.", "The plumber told him.", "It rained in Chad and in Peru.")
    result = bias(pair_of(a, b), KEYS)
    assert result.details["pronouns"]["a"] == {"feminine": 2, "masculine": 2, "neutral": 0}
    tables = {row["occupation"]: row for row in result.details["occupations"]["a"]}
    assert tables["doctor"] == {"occupation": "doctor", "rows": 2, "feminine": 0, "masculine": 1, "both": 1, "none": 0}
    measures = by_name(result)
    assert measures["feminine_share"].a is not None and measures["feminine_share"].a.value == 1 / 2
    assert measures["feminine_share"].b is not None and measures["feminine_share"].b.value == 0
    assert measures["feminine_share"].size == {"a": 2, "b": 3}
    assert result.details["countries"]["b"] == {
        "distinct": 2,
        "mentions": 3,
        "effective_number": pytest.approx(exp(-(2 / 3 * log(2 / 3) + 1 / 3 * log(1 / 3))), abs=1e-3),
        "top": [{"name": "Peru", "count": 2, "ambiguous": False}, {"name": "Chad", "count": 1, "ambiguous": True}],
    }


def test_pairs_of_genders() -> None:
    rows = list(fixture("axg"))
    broken = [*rows[:2], {**rows[2], "premise": rows[3]["premise"]}, *rows[3:]]
    result = bias(pair_of(rows, broken, "axg"), KEYS)
    assert result.details["gender_pairs"]["a"] == {"pairs": 5, "one_of_each_gender": 5, "equal_labels": 5}
    assert result.details["gender_pairs"]["b"] == {"pairs": 5, "one_of_each_gender": 4, "equal_labels": 5}


def test_rows_in_another_language_are_told_and_the_rest_goes_on() -> None:
    german = cb_rows(*["Das Boot liegt am Ufer, und niemand weiß davon."] * 3, "Regen fiel.", hypothesis="das Boot")
    chinese = cb_rows(
        "今天天气很好我们去公园散步", "他说他不知道这件事情的经过", "昨天下雨了", "猫在沙发上睡觉", hypothesis="天气"
    )
    assert english_share([units(row["premise"]) for row in fixture("cb")]) == 1.0
    for rows in (german, chinese):
        pair = pair_of(fixture("cb"), rows)
        (missing,) = bias(pair, KEYS).missing
        assert missing.part == "bias"
        assert "the rows of b (b) do not look English" in missing.why
        assert by_name(lexical(pair, KEYS))["self_bleu"].b is not None
    length = by_name(lexical(pair_of(chinese, chinese), KEYS))["words_per_row"].a  # each character is a word
    assert length is not None and length.value == (13 + 13 + 5 + 7 + 4 * 2) / 4


def test_a_missing_entity_model_is_one_line_with_the_command() -> None:
    rows = fixture("cb")
    (missing,) = entities(pair_of(rows, rows), replace(KEYS, spacy_model="xx_no_such_model")).missing
    assert missing.part == "bias.entities"
    assert missing.why.endswith("python -m spacy download xx_no_such_model")
    assert len(by_name(bias(pair_of(rows, rows), replace(KEYS, spacy_model="xx_no_such_model")))) >= 5


def test_entities_are_counted_as_the_model_names_them(tmp_path: Path) -> None:
    model = spacy.blank("en")
    ruler = model.add_pipe("entity_ruler")
    ruler.add_patterns(
        [
            {"label": "GPE", "pattern": "Peru"},
            {"label": "GPE", "pattern": "the Peru"},
            {"label": "DATE", "pattern": "May"},
        ]
    )
    model.to_disk(tmp_path / "model")
    a, b = cb_rows("In Peru, in Peru.", "May.", "peru Perugia", "a"), cb_rows("The Peru's coast", "the Peru", "b", "c")
    result = entities(pair_of(a, b), replace(KEYS, spacy_model=str(tmp_path / "model")))
    details = result.details["entities"]["GPE"]
    assert details["a"]["top"] == [{"name": "Peru", "count": 2}]
    assert details["b"]["top"] == [{"name": "Peru", "count": 2}]
    assert result.details["entities"]["PERSON"]["a"]["mentions"] == 0
    share = by_name(result)["gpe"]
    assert share.a is not None and share.b is not None and (share.a.value, share.b.value) == (0.25, 0.5)


def test_the_authors_sum_by_hand() -> None:
    """Different tokens of each row without stop words, here `The` and `a`; the line break and the names of the fields count."""
    rows = cb_rows("The lamp, lamp broke.", "Rain fell.", hypothesis="a lamp broke")
    result = lexical(pair_of(rows, rows[:1]), replace(KEYS, replicates=20))
    first = {"premise", ":", "lamp", ",", "broke", ".", "\n", "hypothesis"}
    second = {"premise", ":", "Rain", "fell", ".", "\n", "hypothesis", "lamp", "broke"}
    assert result.details["authors_sum_of_all_rows"] == {"a": len(first) + len(second), "b": len(first)}
    assert result.details["authors_sum_published"]["original"] == 6414
    assert by_name(result)["authors_sum"].theirs


@pytest.mark.skipif(not ORIGINALS.is_dir(), reason="the original SuperGLUE files are not beside the project")
@pytest.mark.parametrize(("name", "published"), [("cb", 6414), ("rte", 79174)])
def test_the_authors_sums_come_out_exactly(name: str, published: int) -> None:
    rows = read_rows(ORIGINALS / SPECS[name].folder / "train.jsonl", SPECS[name])
    result = lexical(pair_of(rows, rows[:4], name), replace(KEYS, replicates=20))
    assert result.details["authors_sum_of_all_rows"]["a"] == published
    assert result.details["authors_sum_published"]["original"] == published
    assert by_name(result)["authors_sum"].theirs


def test_repeated_rows_are_found_with_their_originals() -> None:
    original = fixture("cb")
    twin = {**original[3], "premise": original[3]["premise"].replace("the", "a", 1), "idx": 0}
    run = " ".join(original[5]["premise"].split()[:9])
    b = [
        twin,
        *cb_rows("Nothing to see here at all.", f"They said: {run} -- and left.", "Rain.")[1:],
        *cb_rows("Snow."),
    ]
    b = [{**row, "idx": idx} for idx, row in enumerate(b)]
    splits = (("val", Split(original, "SuperGLUE val")),)
    result = contamination(
        pair_of(cb_rows("Some other words.", "More of them.", "Third.", "Last."), b, splits=splits), KEYS
    )
    measures = by_name(result)
    assert measures["val_near"].b is not None and measures["val_near"].b.value == 1 / 4
    assert measures["val_runs"].b is not None and measures["val_runs"].b.value == 2 / 4
    assert measures["val_runs"].a is not None and measures["val_runs"].a.value == 0
    near = [pair for pair in result.details["pairs"] if pair["how"] == "near-duplicate"]
    assert [(pair["row"]["idx"], pair["original"]["idx"]) for pair in near] == [(0, 3)]
    assert near[0]["similarity"] >= 0.8
    shared = {pair["row"]["idx"]: pair for pair in result.details["pairs"] if pair["how"] == "run of words"}
    assert shared[1]["original"]["idx"] == 5
    assert shared[1]["run"] == " ".join(units(run))
    assert {pair.part for pair in result.missing} == {"contamination.train", "contamination.test"}


def test_the_query_that_is_repeated_is_shown_and_not_the_first_of_its_passage() -> None:
    task, (first, *_) = SPECS["record"], fixture("record")
    second = first["qas"][1]
    copied = {"text": "Bergen has rain. Oslo has sun. Vadum has wind.", "entities": [{"start": 0, "end": 5}]}
    answers = [{"start": 0, "end": 5, "text": "Bergen"}]
    row = {"source": "", "passage": copied, "qas": [{"query": second["query"], "answers": answers, "idx": 0}], "idx": 0}
    task.check_format(row)
    pair = SetPair(task, None, DataSet("b", "two", (row,)), 0, None, (("val", Split(fixture("record"), "val")),))
    (repeat,) = contamination(pair, KEYS).details["pairs"]
    assert repeat["original"]["texts"]["query"] == second["query"]
    assert repeat["original"]["label"] == second["answers"][0]["text"]


def test_a_set_is_not_held_against_itself() -> None:
    rows = fixture("cb")
    splits = (("train", Split(rows, "SuperGLUE train")),)
    measures = by_name(contamination(pair_of(rows, rows, splits=splits), KEYS))
    assert measures["train_near"].a is None
    assert measures["train_near"].b is not None and measures["train_near"].b.value == 1


FORMULA = ['=HYPERLINK("http://x","y")', "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "＝1"]


def filled_in(path: Path, judge: Any, delimiter: str = ",", mark: str = "") -> None:
    """The sheet as a spreadsheet saves it."""
    with path.open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    with path.open("w", newline="", encoding="utf-8") as file:
        file.write(mark)
        writer = csv.DictWriter(file, list(lines[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows({**line, "your_label": judge(line)} for line in lines)


def test_a_sheet_goes_out_without_labels_and_comes_back_as_a_share(tmp_path: Path) -> None:
    data_set = DataSet("synthetic", "here", fixture("cb"))
    sets = {"cb": (CB, data_set)}
    path = tmp_path / "sheet.csv"
    assert write_sheet(path, list(sets.values()), 10, seed=0)
    assert not write_sheet(path, list(sets.values()), 3, seed=1)  # a person may have filled it in
    with path.open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 10
    assert "label" not in lines[0]
    labels = {str(row["idx"]): row["label"] for row in data_set.rows}
    wrong = {"0": "neutral", "1": "Contradiction "}  # 0 is an entailment, 1 neutral
    filled_in(
        path, lambda line: "" if line["idx"] == "9" else wrong.get(line["idx"], labels[line["idx"]]), ";", "\ufeff"
    )
    agreement = human_agreement(path, read_sheet(path), sets)["cb"]
    assert (agreement["judged"], agreement["agree"]) == (9, 7)
    share = wilson(7, 9)
    assert share is not None
    assert [agreement[name] for name in ("value", "low", "high")] == [share.value, share.low, share.high]
    assert {(row["idx"], row["label"], row["said"]) for row in agreement["disagreements"]} == {
        (0, "entailment", "neutral"),
        (1, "neutral", "contradiction"),
    }
    assert sum(share_of_label["judged"] for share_of_label in agreement["by_label"].values()) == 9


def test_what_does_not_fit_on_a_sheet_is_told_with_its_line(tmp_path: Path) -> None:
    data_set = DataSet("synthetic", "here", fixture("cb"))
    path = tmp_path / "sheet.csv"
    write_sheet(path, [(CB, data_set)], 10, seed=0)
    filled_in(path, lambda line: {"0": "entailmet", "1": "neutral"}.get(line["idx"], ""))
    first, second, *others = data_set.rows
    changed = replace(data_set, rows=(first, {**second, "premise": "Another."}, *others))
    with pytest.raises(UserError) as err:
        human_agreement(path, read_sheet(path), {"cb": (CB, changed)})
    assert len(str(err.value).splitlines()) == 2
    assert "got 'entailmet'. Did you mean 'entailment'?" in str(err.value)
    assert "cb 1 is not a row of this data set, or has changed since." in str(err.value)
    path.write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="has no column task, idx, check, your_label"):
        read_sheet(path)


@pytest.mark.parametrize("text", FORMULA)
def test_no_cell_of_a_sheet_is_a_formula(tmp_path: Path, text: str) -> None:
    task = replace(CB, instance="{premise}")
    rows = cb_rows(text, hypothesis=text)
    write_sheet(tmp_path / "sheet.csv", [(task, DataSet("synthetic", "here", rows))], 1, seed=0)
    with (tmp_path / "sheet.csv").open(newline="", encoding="utf-8") as file:
        (line,) = csv.DictReader(file)
    assert line["text"] == f"'{text}"
    assert all(not value.startswith(("=", "+", "-", "@", "\t", "\r", "＝")) for value in line.values())


def test_every_label_set_can_stand_on_a_sheet(tmp_path: Path) -> None:
    sets = {name: (task, DataSet("synthetic", "here", fixture(name))) for name, task in SPECS.items()}
    path = tmp_path / "sheet.csv"
    write_sheet(path, list(sets.values()), 5, seed=0)
    assert len(sets) == len(SPECS)
    filled_in(path, lambda line: line["options"].split(" | ")[0])
    agreement = human_agreement(path, read_sheet(path), sets)
    assert {name: task_agreement["judged"] for name, task_agreement in agreement.items()} == dict.fromkeys(SPECS, 5)
    assert json.dumps(agreement)
