"""The parts that ask the generator, by a server and by batch files: what is asked, kept, measured and shown."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

import pytest

from eval.analysis.arguments import AnalyzeArguments
from eval.analysis.llm_measures.generator_calls import plan_line
from eval.analysis.planned_pairs import planned_pair
from eval.analysis.run import analyze
from eval.reporting.report import report
from eval.tables.subjectivity import rank_correlation
from targen.config.settings import Settings
from targen.runtime.jsonl import write_jsonl
from tests.support.commands import Server, command, files, lines, settings
from tests.support.fake_model import FakeModel, served_by
from tests.support.generation_runs import respond
from tests.support.scored_runs import FakeCell, write_run
from tests.support.small_data import small_overrides

PARTS = "analysis.parts=[clusters,subjectivity]"
SMALL = ["analysis.cluster_rows=5", "analysis.cluster_draws=4", "analysis.cluster_criteria=2", "analysis.sheet_rows=0"]
# criteria; clusters and check of each draw of two sets; the fixture's rows, in both sets the same
CALLS = 2 + 2 * 2 * 4 + 10


class Scripted(FakeModel):
    """Gives the scripted answers; other questions are answered by the fake model."""

    answers: Mapping[str, Any] = {}

    def _answer(self, body: Mapping[str, Any], rng: Random) -> dict[str, Any]:
        answer = self.answers.get(body["response_format"]["json_schema"]["name"])
        return super()._answer(body, rng) if answer is None else answer


def scripted(**answers: Any) -> FakeModel:
    model = Scripted()
    object.__setattr__(model, "answers", answers)
    return model


def overrides(folder: Path, *more: str, tasks: tuple[str, ...] = ("cb",)) -> list[str]:
    return [*small_overrides(folder, tasks=tasks), PARTS, *SMALL, *more]


def asking(folder: Path, server: Server, *more: str, tasks: tuple[str, ...] = ("cb",)) -> Settings:
    return settings(*overrides(folder, *served_by(server.url, folder / "run"), *more, tasks=tasks))


def analysis_of(run: Settings, task: str = "cb") -> dict[str, Any]:
    analysis: dict[str, Any] = json.loads((run.paths.analysis / f"{task}.json").read_text(encoding="utf-8"))
    return analysis


def measures_of(run: Settings, task: str = "cb") -> dict[str, dict[str, Any]]:
    return {measure["name"]: measure for measure in analysis_of(run, task)["measures"]}


def test_every_question_is_asked_once_and_more_draws_ask_only_for_these(
    tmp_path: Path, serve: Callable[[FakeModel], Server]
) -> None:
    server = serve(FakeModel())
    run = asking(tmp_path, server)
    text = analyze(run, AnalyzeArguments())
    assert len(server.bodies) == CALLS
    log = run.paths.calls / "cb.analysis.jsonl"
    assert sorted({record["step"] for record in lines(log)}) == [
        "cluster_check",
        "clusters",
        "criteria",
        "subjectivity",
    ]
    assert "| LLM cluster score (clusters / size) |" in text and "how far labels are a matter of opinion" in text
    first = files(run.paths.analysis)
    analyze(run, AnalyzeArguments())
    assert (len(server.bodies), files(run.paths.analysis)) == (CALLS, first)
    analyze(asking(tmp_path, server, "analysis.cluster_draws=6"), AnalyzeArguments())
    assert len(server.bodies) == CALLS + 2 * 2 * 2
    prompts = [body["messages"][-1]["content"] for body in server.bodies]
    rating_prompts = [prompt for prompt in prompts if "matter of opinion" in prompt]
    assert rating_prompts and not [prompt for prompt in rating_prompts if "that it was given" in prompt]


def test_scores_worked_by_hand(tmp_path: Path, serve: Callable[[FakeModel], Server]) -> None:
    """Text 5 is named twice, 99 does not exist, 3 does not belong: {1, 2} and {4, 5}, so 2 clusters of mean size 2."""
    clusters = [("A", [1, 2, 3, 3]), ("B", [5, 4]), ("C", [5, 99])]
    answers = {
        "clusters": {"clusters": [{"name": name, "reason": "So.", "texts": texts} for name, texts in clusters]},
        "cluster_check": {"explanation": "3 is another matter.", "wrong": [3, 42]},
        "subjectivity": {"reason": "Plain.", "rating": 2},
    }
    run = asking(tmp_path, serve(scripted(**answers)))
    analyze(run, AnalyzeArguments())
    measures = measures_of(run)
    score = measures["cluster_score"]
    assert score["b"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert (measures["clusters"]["a"]["value"], measures["clusters_kept"]["b"]["value"]) == (2, 4 / 5)
    assert (score["size"], score["difference"]["value"]) == ({"a": 4, "b": 4}, 0)
    draw = analysis_of(run)["details"]["clusters"]["b"][0]
    assert [len(cluster["idx"]) for cluster in draw["clusters"]] == [2, 2] and len(draw["left_out"]) == 1
    assert measures["subjectivity"]["a"] == {"value": 2.0, "low": 2.0, "high": 2.0}
    assert analysis_of(run)["details"]["subjectivity"]["b"]["counts"] == {"2": 10}


def test_answers_that_cannot_be_read_are_counted_and_the_rest_goes_on(
    tmp_path: Path, serve: Callable[[FakeModel], Server]
) -> None:
    run = asking(tmp_path / "none", serve(FakeModel(error_rate=1.0)), "analysis.parts=[clusters,subjectivity,lexical]")
    analyze(run, AnalyzeArguments())
    missing = {entry["part"]: entry["why"] for entry in analysis_of(run)["missing"]}
    assert missing["clusters"] == "no answer of the generator names criteria. Take a better model"
    assert missing["subjectivity.b"] == "10 of 10 ratings cannot be read"
    assert "mtld" in measures_of(run) and "subjectivity" not in measures_of(run)
    empty = asking(tmp_path / "empty", serve(scripted(clusters={"clusters": []})))
    analyze(empty, AnalyzeArguments())
    missing = {entry["part"]: entry["why"] for entry in analysis_of(empty)["missing"]}
    assert missing["clusters.a"] == "4 of 4 draws have no readable answer"


def test_batch_files_come_to_the_same_and_the_command_waits(
    tmp_path: Path, serve: Callable[[FakeModel], Server]
) -> None:
    by_server = asking(tmp_path / "server", serve(FakeModel()))
    analyze(by_server, AnalyzeArguments())
    folder = tmp_path / "batch"
    typed = overrides(folder, "generator=batch", "generator.model=fake", "synth.few_rounds=false")
    rounds = 0
    while (result := command("eval.analyze", *typed)).returncode == 75:
        assert "requests wait for answers in" in result.stderr
        assert rounds or "analyze: at most 38 calls to fake (clusters 18, subjectivity 20)" in result.stderr
        respond(folder / "run", FakeModel())
        rounds += 1
    # criteria and ratings, then clusters, then their checks
    assert (result.returncode, rounds) == (0, 3), result.stderr
    runs = [settings(*overrides(folder)), by_server]
    first, second = (analysis_of(run) for run in runs)
    assert (first["measures"], first["details"]) == (second["measures"], second["details"])


def test_a_plan_asks_nothing_and_what_is_not_recorded_is_one_line(tmp_path: Path) -> None:
    result = command("eval.analyze", *overrides(tmp_path), "plan=true", "price.prompt=1", "price.completion=2")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(
        "analyze: at most 38 calls to large-language-model (clusters 18, subjectivity 20), about "
    )
    assert " USD. Answers on record are not asked for again" in result.stdout
    assert not (tmp_path / "run" / "analysis").exists() and not (tmp_path / "run" / "calls").exists()
    result = command("eval.analyze", *overrides(tmp_path))
    assert (result.returncode, result.stderr.count("error: ")) == (2, 1), result.stderr
    assert "generator=recorded: got the request cb-criteria-" in result.stderr
    assert "It is a question of an analysis, which is recorded for other rows" in result.stderr
    result = command("eval.analyze", *overrides(tmp_path), "analysis.cluster_rows=1")
    assert (result.returncode, "analysis.cluster_rows: got 1" in result.stderr) == (2, True), result.stderr


def test_the_plan_of_a_run_counts_the_calls_before_there_are_rows(tmp_path: Path) -> None:
    typed = overrides(
        tmp_path, "synth.size=24", "phases=[generate,analyze]", "plan=true", "price.prompt=1", "price.completion=2"
    )
    (tmp_path / "run" / "synthetic" / "cb" / "train.jsonl").unlink()
    before = files(tmp_path)
    plan = command("targen.run", *typed).stdout
    line = plan.splitlines()[-1]
    # two calls for criteria and two for each of 4 draws of two sets; as many rows of both sets as the 10 original ones
    assert line.startswith("analyze: at most 38 calls to large-language-model (clusters 18, subjectivity 20), about ")
    assert "about 17,510 prompt tokens, at most 38,912 completion tokens, at most 0.10 USD" in line  # 1,024 each
    assert files(tmp_path) == before
    asks_nothing = command("targen.run", *typed, "phases=[analyze]", "analysis.parts=[lexical]")
    assert "has nothing to plan" in asks_nothing.stderr and not asks_nothing.stdout
    task_settings = settings(
        *typed, "task=[sst2]", "tasks.sst2.folder=Own", "data.source=none", "data.dir=null", "synth.holdout=4"
    )
    pair = planned_pair(task_settings, task_settings.tasks["sst2"])  # a task without rows anywhere
    assert (pair.a, len(pair.b.rows)) == (None, 20)
    line = plan_line(task_settings, [pair])
    assert " 4 calls" not in line and "(clusters 10, subjectivity 20)" in line


def test_votes_that_differ_are_counted(tmp_path: Path, serve: Callable[[FakeModel], Server]) -> None:
    run = asking(tmp_path, serve(FakeModel()), "analysis.parts=[subjectivity]")
    votes = [{"neutral": 3, "entailment": 2}, {"neutral": 5}, {"contradiction": 1, "entailment": 1, "neutral": 3}]
    stories = [{"idx": idx, "votes": counts} for idx, counts in enumerate(votes)] + [{"idx": 3}]
    write_jsonl(run.paths.synthetic("cb") / "provenance.jsonl", stories)
    analyze(run, AnalyzeArguments())
    spread = measures_of(run)["vote_spread"]
    assert (spread["a"], spread["b"]["value"]) == (None, pytest.approx((0.4 + 0 + 0.4) / 3, abs=1e-6))
    assert analysis_of(run)["details"]["subjectivity"]["votes"][0] == {"idx": 0, "spread": 0.4}


def test_the_tasks_stand_beside_what_their_rows_teach(tmp_path: Path, serve: Callable[[FakeModel], Server]) -> None:
    tasks = ("cb", "copa", "rte", "wic")
    run = asking(tmp_path, serve(FakeModel()), "analysis.subjectivity_rows=6", tasks=tasks)
    cells = [
        FakeCell(task, arm, right, model="minilm")
        for task, synthetic in zip(tasks, (0.9, 0.7, 0.5, 0.3), strict=True)
        for arm, right in (("original", 0.9), ("synthetic", synthetic))
    ]
    write_run(run.paths.root, cells)
    text = analyze(run, AnalyzeArguments())
    assert "## Subjectivity, and what synthetic rows teach" in text
    assert "rank correlation of the rating with synthetic - original over 4 tasks" in text
    page = report(run)
    html = page.read_text(encoding="utf-8")
    assert "Subjectivity, and what synthetic rows teach" in html and "The clusters of the first draw, synthetic" in html
    assert "Rows whose label is most a matter of opinion, original" in html
    table = (page.parent / "tables" / "subjectivity_gap.csv").read_text(encoding="utf-8").splitlines()
    assert len(table) == 5 and table[0].endswith("rating,vote_spread,original,synthetic,difference,seeds")
    few = asking(tmp_path, serve(FakeModel()), "analysis.subjectivity_rows=6", tasks=tasks[:2])
    assert "the rating: 2 tasks, expected at least 4 for a rank correlation." in analyze(few, AnalyzeArguments())


def test_rank_correlations_worked_by_hand() -> None:
    correlation = rank_correlation((1, 2, 3, 4), (1, 2, 4, 3))
    assert correlation is not None and correlation.bounds is not None
    assert correlation.value == pytest.approx(0.8)
    # of 24 orders four correlate as strongly: the same one, and three with neighbours exchanged
    assert correlation.p == pytest.approx(2 * 4 / 24)
    assert correlation.bounds == pytest.approx((-0.8188, 0.9975), abs=1e-3)  # atanh(0.8) -+ 1.96 * sqrt(1.32)
    perfect = rank_correlation((1, 2, 3, 4), (10, 20, 30, 40))
    assert perfect is not None and (perfect.value, perfect.bounds) == (pytest.approx(1), None)
    assert rank_correlation((1, 1, 1, 1), (1, 2, 3, 4)) is None
