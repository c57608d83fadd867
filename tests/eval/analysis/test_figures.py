"""The figures of the analyses: which are drawn, that equal numbers give equal bytes, that text in them is text."""

from copy import deepcopy
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from eval.analysis.figures.figures import NAMES, draw_analyses
from targen.runtime.jsonl import Json
from tests.support.commands import files

HOSTILE = "$\\frac{1}{x}$\n<script> $y"
VALUES = {"value": 0.4, "low": 0.3, "high": 0.5}


def measure_of(part: str, name: str, unit: str = "share", **changes: Any) -> Json:
    difference = {"value": 0.2, "low": 0.1, "high": 0.3}
    other = {"value": 0.6, "low": 0.5, "high": 0.7}
    measure = {"part": part, "name": name, "title": f"title of {name}", "unit": unit, "a": VALUES, "b": other}
    return measure | {"difference": difference, "size": {"a": 24, "b": 24}, "note": "", "theirs": False} | changes


def analysis(title: str = "CB") -> Json:
    """What analysis/<task>.json has of a task, with something for each figure."""
    countries = {
        "distinct": 30,
        "top": [{"name": name, "count": 9, "ambiguous": name == "Chad"} for name in ("Chad", "Peru")],
    }
    others = {"distinct": 1, "top": [{"name": "Peru", "count": 1234, "ambiguous": False}]}
    points = [[number, number % 5 / 9, number % 7 / 8] for number in range(24)]
    histogram = {"edges": [-1.0, 0.0, 0.5, 1.0], "a": [4, 8, 12], "b": [12, 8, 4]}
    cell = "minilm.v2-single-cb-original-s0"
    return {
        "title": title,
        "level": 0.95,
        "sets": {"a": {"name": "original", "labels": {}}, "b": {"name": "synthetic", "labels": {"neutral": 24}}},
        "measures": [
            measure_of("lexical", "words_per_row", "words"),
            measure_of("lexical", "authors_sum", "tokens", theirs=True),
            measure_of("semantic", "vendi", "rows"),
            measure_of("difficulty", "v_information", "bits"),
            measure_of("correctness", "flips", a=None, difference=None),
            measure_of("correctness", "flips.neutral", a=None, difference=None),
            measure_of("correctness", f"agreement.{cell}.neutral", a=None, difference=None),
            measure_of("bias", "feminine_share", difference={"value": 0.2, "low": -0.1, "high": 0.5}),
            measure_of("contamination", "train_runs", a=None, difference=None),
            measure_of("contamination", "val_runs"),
        ],
        "details": {
            "points": {"explained_variance": [0.2, 0.1], "a": points, "b": points[:7]},
            "pvi": {"histogram": histogram},
            "countries": {"a": countries, "b": others},
            f"agreement {cell}": {"score_on_original": 0.5},
            "human": VALUES,
        },
    }  # fmt: skip


def only_synthetic(result: Json) -> Json:
    result = deepcopy(result)
    del result["sets"]["a"]
    for measure in result["measures"]:
        measure["a"] = measure["difference"] = None
    for by_side in (result["details"]["points"], result["details"]["countries"], result["details"]["pvi"]["histogram"]):
        del by_side["a"]
    return result


@pytest.fixture
def figure_texts(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """What each figure says, by its name, as it is saved."""
    texts_by_name: dict[str, list[str]] = {}
    save = Figure.savefig

    def remember(figure: Figure, file: BytesIO, **keys: Any) -> None:
        save(figure, file, **keys)
        texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text()]
        assert not any(text.get_parse_math() for text in texts)
        texts_by_name[figure.get_label()] = [text.get_text() for text in texts]

    monkeypatch.setattr(Figure, "savefig", remember)
    return texts_by_name


def test_every_figure_as_pdf_and_png_with_equal_bytes(tmp_path: Path) -> None:
    with matplotlib.rc_context({"font.size": 20}):  # whatever others have set
        assert draw_analyses(tmp_path / "one", [analysis(), analysis("RTE")]) == list(NAMES)
    assert draw_analyses(tmp_path / "two", [analysis(), analysis("RTE")]) == list(NAMES)
    first = files(tmp_path / "one")
    assert set(first) == {f"{name}.{suffix}" for name in NAMES for suffix in ("pdf", "png")}
    assert first == files(tmp_path / "two")


def test_figures_without_numbers_go_and_other_files_stay(tmp_path: Path) -> None:
    draw_analyses(tmp_path, [analysis()])
    (tmp_path / "mine.png").write_text("mine")
    bare = analysis() | {"details": {}, "measures": [measure_of("lexical", "authors_sum", theirs=True)]}
    assert draw_analyses(tmp_path, [bare | {"measures": [*bare["measures"], measure_of("semantic", "vendi")]}]) == [
        "diversity"
    ]
    assert set(files(tmp_path)) == {"diversity.pdf", "diversity.png", "mine.png"}
    assert draw_analyses(tmp_path, [bare]) == []
    assert draw_analyses(tmp_path / "none", []) == []
    assert set(files(tmp_path)) == {"mine.png"} and not (tmp_path / "none").exists()


def test_what_the_figures_say(tmp_path: Path, figure_texts: dict[str, list[str]]) -> None:
    without = analysis("RTE")
    without["measures"] = [measure for measure in without["measures"] if measure["name"] != "vendi"]
    empty = analysis("WSC") | {"measures": [], "details": {}}  # of a set without rows
    draw_analyses(tmp_path, [analysis(), without, empty])
    assert {"CB", "RTE", "words"} <= set(figure_texts["diversity"])
    assert {"title of words_per_row", "title of vendi", "rows (more diverse →)", "--"} <= set(figure_texts["diversity"])
    assert "title of authors_sum" not in figure_texts["diversity"]
    assert "PC1 (20 % of variance)" in figure_texts["projection"]
    assert {"0.40", "0.60"} <= set(figure_texts["difficulty"])
    assert {"neutral", "people agree", "classifiers trained on original rows agree"} <= set(figure_texts["flips"])
    # of both tasks together; of one list not all is known
    assert {"Chad *", "Peru", " 18", " 0", " 2,468"} <= set(figure_texts["bias"])
    assert {"hollow: the two cannot be told apart"} <= set(figure_texts["bias"]) - set(figure_texts["diversity"])
    assert not any("WSC" in texts for texts in figure_texts.values())


def faces(folder: Path, analyses: list[Json], monkeypatch: pytest.MonkeyPatch) -> dict[str, set[tuple[str, bool]]]:
    """The markers of each figure's dots, each with whether it is filled."""
    markers: dict[str, set[tuple[str, bool]]] = {}
    save = Figure.savefig

    def remember(figure: Figure, file: BytesIO, **keys: Any) -> None:
        save(figure, file, **keys)
        dots = [
            line
            for ax in figure.findobj(Axes)
            for line in ax.get_lines()
            if line.get_marker() not in ("None", None, "")
        ]
        markers[figure.get_label()] = {(line.get_marker(), line.get_markerfacecolor() != "white") for line in dots}

    monkeypatch.setattr(Figure, "savefig", remember)
    draw_analyses(folder, analyses)
    return markers


def test_a_dot_means_what_the_legend_says(
    tmp_path: Path, figure_texts: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Filled: both sets have a value and they differ; hollow: they cannot be told apart; a cross: one set has no value."""
    dotted, texts = analysis(), figure_texts
    dotted["details"] = {name: dotted["details"][name] for name in ("points", "countries", "pvi")}
    parts = ("semantic", "bias", "contamination")
    dotted["measures"] = [measure for measure in dotted["measures"] if measure["part"] in parts]
    two = faces(tmp_path, [dotted | {"details": {}}], monkeypatch)
    filled, hollow, cross = (
        "filled: the two differ",
        "hollow: the two cannot be told apart",
        "no value of the other set",
    )
    assert two["bias"] == {("o", False), ("s", False)} and hollow in texts["bias"] and filled not in texts["bias"]
    assert two["diversity"] == {("o", True), ("s", True)} and filled in texts["diversity"]
    assert two["contamination"] == {("o", True), ("s", True), ("x", False)} and cross in texts["contamination"]
    single = faces(tmp_path, [only_synthetic(dotted) | {"details": {}}], monkeypatch)
    assert single["diversity"] == single["contamination"] == {("s", True)}
    assert not {filled, hollow, cross} & {*texts["diversity"], *texts["contamination"], *texts["bias"]}


def test_a_list_of_countries_that_ends_says_at_least(tmp_path: Path, figure_texts: dict[str, list[str]]) -> None:
    first, second = analysis(), analysis("RTE")
    second["details"]["countries"]["a"]["top"] = [{"name": "Fiji", "count": 7, "ambiguous": False}]
    draw_analyses(tmp_path, [first, second])
    assert {" ≥ 9", " ≥ 7", " 2,468"} <= set(figure_texts["bias"])


@pytest.mark.parametrize("tasks", [1, pytest.param(8, marks=pytest.mark.slow)])
def test_only_the_synthetic_set(tmp_path: Path, figure_texts: dict[str, list[str]], tasks: int) -> None:
    analyses = [only_synthetic(analysis(f"task {number}")) for number in range(tasks)]
    assert draw_analyses(tmp_path, analyses) == list(NAMES)
    for texts in figure_texts.values():
        assert "original" not in texts


def test_names_are_text(tmp_path: Path, figure_texts: dict[str, list[str]]) -> None:
    hostile = analysis(HOSTILE)
    for data_set in hostile["sets"].values():
        data_set["name"] = HOSTILE * 20
    hostile["sets"]["b"]["labels"] = {HOSTILE: 1}
    assert draw_analyses(tmp_path, [hostile]) == list(NAMES)
    texts = figure_texts["diversity"]
    assert any(text.startswith("$\\frac{1}{x}$ <script>") and len(text) == 40 for text in texts)
    assert not any("\n" in text for text in texts)
