"""Runs and scores from Python."""

import json
from pathlib import Path

import pytest

from eval import Run, score
from targen import UserError, generate_rows
from targen.quality import available
from targen.quality.encoder import NoEncoder
from tests.support.commands import files, lines, settings
from tests.support.scored_runs import FakeCell, write_run


def without_encoder(*_: object) -> None:
    raise NoEncoder("left out")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Rows of CB with learnability, and made-up cells that were evaluated."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:  # its process takes seconds
        patch.setattr(available, "embed_in_subprocess", without_encoder)
        generate_rows("cb", "recorded", size=60, run_dir=folder, settings={"synth.seeds_per_context": 2})
    write_run(folder, [FakeCell("cb", "synthetic", 0.9), FakeCell("cb", "original", 0.2)])
    return Run(str(folder))


def test_rows_rejects_and_counts_are_those_of_the_files(run: Run) -> None:
    before = files(run.folder)
    folder = run.folder / "synthetic" / "cb"
    assert list(run.tasks) == ["cb"] and repr(run) == f"Run({str(run.folder)!r}): cb"
    assert [row.row for row in run.rows("cb")] == lines(folder / "train.jsonl")
    rejects = run.rejects()
    assert [reject.record for reject in rejects] == lines(folder / "rejects.jsonl") and len(rejects) > 0
    assert list(rejects.to_pandas())[:3] == ["step", "reason", "text"]
    assert run.stats() == json.loads((folder / "stats.json").read_text())
    assert files(run.folder) == before


def test_learnability_is_a_table(run: Run) -> None:
    stats = run.stats()["learnability"]
    table = run.learnability("cb")
    assert {score.student for score in table} == set(stats["students"]) and "bag_of_words" in stats["students"]
    first = next(score for score in table if (score.student, score.metric) == ("bag_of_words", "f1_macro"))
    assert stats["students"]["bag_of_words"]["f1_macro"] == {"value": first.value, "low": first.low, "high": first.high}
    assert first.chance == stats["chance"]["f1_macro"] and first.majority == stats["majority"]["f1_macro"]


def test_scores_and_predictions(run: Run) -> None:
    scores = run.scores()
    assert {(score.arm, score.metric) for score in scores} == {
        (arm, metric) for arm in ("synthetic", "original") for metric in ("accuracy", "f1_macro")
    }
    frame = scores.to_pandas()
    assert list(frame.value) == [score.value for score in scores]
    assert run.cells == sorted({score.cell for score in scores})
    for cell in run.cells:
        predictions = run.predictions(cell)
        answers = [prediction.prediction for prediction in predictions]
        computed = score("cb", answers, [prediction.gold[0] for prediction in predictions])
        assert computed == {score.metric: score.value for score in scores if score.cell == cell}
        assert list(predictions.to_pandas().prediction) == answers


def test_mistakes_are_one_line(run: Run, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"^run: got .*nowhere, expected the folder of a run, with a config.yaml in it. Correct"
    ):
        Run(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"^task: got 'rte', expected a task of the run. Known: cb.$"):
        run.rows("rte")
    with pytest.raises(UserError, match=r"^cell: got 'minilm', expected a cell of the run. "):
        run.predictions("minilm")
    two = write_run(tmp_path / "two", [FakeCell("cb", "synthetic", 0.9), FakeCell("rte", "synthetic", 0.9)])
    with pytest.raises(UserError, match=r"^task: got no name, expected one of cb, rte. Name it.$"):
        Run(two).stats()
    with pytest.raises(
        UserError, match=r"synthetic/cb: got no train.jsonl, expected a finished data set of cb. Generate it"
    ):
        Run(two).rows("cb")
    broken = Run(two)
    path = two / "predictions" / f"{broken.cells[0]}.jsonl"
    path.write_text(path.read_text() + '{"idx": "x", "gold": [], "prediction": null, "scores": {}}\n')
    with pytest.raises(UserError, match=rf"{path.name}:57: idx: .*Evaluate again.$"):
        broken.predictions(broken.cells[0])


def test_a_set_that_was_not_measured_says_why(tmp_path: Path) -> None:
    generate_rows("cb", "recorded", size=6, run_dir=tmp_path, settings={"synth.seeds_per_context": 2})
    with pytest.raises(
        UserError, match=r"^learnability: cb was not measured: 6 questions, expected at least 40. Make more rows"
    ):
        Run(tmp_path).learnability()
    assert len(Run(tmp_path).scores()) == 0 and Run(tmp_path).cells == []
    assert {"cell", "metric", "value"} <= set(Run(tmp_path).scores().to_pandas())


def test_scores_of_lists() -> None:
    scores = score("cb", ["entailment", "neutral", "none of these"], ["entailment", "contradiction", "neutral"])
    assert scores == {"accuracy": pytest.approx(1 / 3), "f1_macro": pytest.approx(1 / 3)}
    assert score(settings().tasks["boolq"], [True, "no"], ["yes", True])["accuracy"] == 0.5
    assert score("record", ["the Red Cross"], [["Red Cross", "Ada"]]) == {"record_f1": 1.0, "record_em": 1.0}
    with pytest.raises(UserError, match=r"^score: references\[0\]: got 0, expected one of 'entailment', "):
        score("cb", ["entailment"], [0])
    with pytest.raises(UserError, match=r"^score: predictions: got 1 for 2 references, expected one for each.$"):
        score("cb", ["entailment"], ["entailment", "neutral"])
    with pytest.raises(UserError, match=r"got no row, expected at least one"):
        score("cb", [], [])
