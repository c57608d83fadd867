"""A pilot makes a few rows, shows what students learn from them, and the same command goes on; stats.json has learnability."""

import shutil
from pathlib import Path

import pytest

from targen.generate import generate
from targen.runtime.jsonl import read_json
from targen.tasks.task import Task
from tests.support.commands import files, settings
from tests.support.fake_model import FakeModel


def run(folder: Path, url: str, *more: str) -> dict:
    base = ["generator=openai", "generator.model=fake", f"generator.base_url={url}", f"run.dir={folder}", "task=cb"]
    generate(settings(*base, "synth.contexts=6", "synth.seeds_per_context=2", *more))
    return read_json(folder / "synthetic" / "cb" / "stats.json")


@pytest.mark.slow
def test_a_pilot_shows_the_hardest_rows_and_the_run_goes_on_from_it(
    tmp_path: Path, serve, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    server = serve(FakeModel())
    pilot = run(tmp_path / "a", server.url, "synth.size=60", "synth.pilot=42")
    output, calls_of_pilot = capsys.readouterr().out, len(server.bodies)
    assert pilot["rows"] == 42 and set(pilot["learnability"]["students"]) == {"bag_of_words", "encoder"}
    assert "CB, entailment: the rows whose label" in output and "    premise: " in output
    assert output.endswith("This was a pilot of 42 rows. To go on: the same command without synth.pilot.\n")
    assert "learnability: cb: macro-F1 in percent of bag of words " in caplog.text

    full = run(tmp_path / "a", server.url, "synth.size=60")
    assert full["rows"] == 60 and full["learnability"]["questions"] == 60
    assert "pilot" not in capsys.readouterr().out
    all_calls = len(server.bodies)
    assert all_calls > calls_of_pilot
    shutil.copytree(tmp_path / "a" / "embeddings", tmp_path / "b" / "embeddings")
    run(tmp_path / "b", server.url, "synth.size=60")
    assert len(server.bodies) == 2 * all_calls
    assert files(tmp_path / "a" / "synthetic") == files(tmp_path / "b" / "synthetic")


def test_few_rows_say_so_and_none_is_measured_on_request(tmp_path: Path, serve) -> None:
    url = serve(FakeModel()).url
    few = run(tmp_path / "few", url, "synth.size=12")["learnability"]
    assert few == {"questions": 12, "not_measured": "12 questions, expected at least 40"}
    assert "learnability" not in run(tmp_path / "off", url, "synth.size=12", "synth.learnability_rows=0")


def test_a_pilot_has_whole_instances_and_no_more_rows_than_the_run() -> None:
    def sizes(*overrides: str) -> dict[str, int]:
        composed = settings("task=[cb,axg]", *overrides)
        tasks: dict[str, Task] = dict(composed.tasks)
        return {name: composed.synth.size_of(task) for name, task in tasks.items()}

    assert sizes("synth.size=60", "synth.pilot=47") == {"cb": 47, "axg": 46}
    assert sizes("synth.size=24", "synth.pilot=48") == {"cb": 24, "axg": 24}
