"""Rows from Python: every kind of generator, inside an event loop, interrupted, resumed, beside the command line."""

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import targen
from targen import AwaitingAnswers, Failure, Request, UserError, generate_rows, load_task
from targen.generate import generate, phase_of
from targen.runtime.cli import compose
from targen.runtime.lock.run_lock import hold_lock
from tests.support.commands import LONGEST, PROJECT, files, lines, settings
from tests.support.fake_model import FakeModel
from tests.support.generation_runs import SMALL, server_overrides

FEW: dict[str, object] = {"synth.contexts": 4, "synth.seeds_per_context": 2, "synth.learnability_rows": 0}
OVERRIDES = ("task=[rte]", *SMALL, "synth.learnability_rows=0")


def answer(body: dict[str, Any]) -> str:
    """What the fake model writes."""
    text: str = FakeModel().complete(body)["choices"][0]["message"]["content"]
    return text


def test_import_costs_nothing_and_names_everything() -> None:
    script = (
        "import sys, time; start = time.perf_counter(); import targen, eval; seconds = time.perf_counter() - start; "
        "heavy = {'pydantic', 'omegaconf', 'hydra', 'datasets', 'pandas', 'torch', 'aiohttp', 'yaml'} & set(sys.modules); "
        "assert not heavy, heavy; assert seconds < 0.5, seconds; "  # it takes 2 ms; the machine may be loaded
        "assert all(getattr(package, name) for package in (targen, eval) for name in package.__all__); "
        "assert {'generate_rows', '__version__'} <= set(dir(targen)) and 'Run' in dir(eval)"
    )
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    subprocess.run([sys.executable, "-c", script], check=True, timeout=LONGEST, env=environment)
    with pytest.raises(AttributeError, match="module 'targen' has no attribute 'generate_row'"):
        targen.generate_row  # noqa: B018


def test_a_function_makes_the_rows_that_a_server_makes(tmp_path: Path, serve) -> None:
    rows = generate_rows("rte", answer, size=12, run_dir=tmp_path / "local", settings=FEW | {"generator.model": "fake"})
    generate(settings(*server_overrides(tmp_path / "served", serve(FakeModel()).url, "task=[rte]")))
    local, served = (files(tmp_path / name / "synthetic" / "rte") for name in ("local", "served"))
    assert local["train.jsonl"] == served["train.jsonl"]
    assert local["provenance.jsonl"] == served["provenance.jsonl"]
    assert [row.row for row in rows] == lines(tmp_path / "local" / "synthetic" / "rte" / "train.jsonl")
    assert [row.idx for row in rows] == list(range(12))
    assert rows[3].provenance == lines(tmp_path / "local" / "synthetic" / "rte" / "provenance.jsonl")[3]
    assert {row.label for row in rows} == {"entailment", "not_entailment"}


def test_the_name_of_the_function_stands_for_the_model(tmp_path: Path) -> None:
    rows = generate_rows("rte", answer, size=4, run_dir=tmp_path, settings=FEW)
    assert {line["model"] for line in lines(tmp_path / "calls" / "rte.jsonl")} == {"answer"}
    other = {**FEW, "generator.model": "other"}
    with pytest.raises(
        UserError, match=r"holds answers made with other settings: generator.model was 'answer' and is 'other'"
    ):
        generate_rows("rte", answer, size=4, run_dir=tmp_path, settings=other)
    assert len(rows) == 4


def test_it_works_inside_a_running_event_loop_with_a_server(tmp_path: Path, serve) -> None:
    server = serve(FakeModel())
    keys = {**FEW, "generator.model": "fake", "generator.base_url": server.url}

    async def cell() -> tuple[int, int]:
        rows = generate_rows("rte", "openai", size=4, run_dir=tmp_path / "a", settings=keys)
        threaded = asyncio.to_thread(generate_rows, "cb", "openai", size=6, run_dir=tmp_path / "b", settings=keys)
        beside = asyncio.to_thread(generate_rows, "rte", "openai", size=4, run_dir=tmp_path / "c", settings=keys)
        return len(rows), sum(map(len, await asyncio.gather(threaded, beside)))

    assert asyncio.run(cell()) == (4, 10)
    assert (
        files(tmp_path / "a" / "synthetic")["rte/train.jsonl"] == files(tmp_path / "c" / "synthetic")["rte/train.jsonl"]
    )


def test_an_interrupt_keeps_what_was_answered_and_the_same_call_goes_on(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    bodies: list[dict[str, Any]] = []

    def interrupting(body: dict[str, Any]) -> str:
        bodies.append(body)
        if len(bodies) == 20:
            os.kill(os.getpid(), signal.SIGINT)
        return answer(body)

    def call() -> targen.Rows:
        return generate_rows("rte", interrupting, size=12, run_dir=tmp_path, settings=FEW)

    at_start = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, at_start))
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt, match="Progress is saved"):
        call()
    saved = len(lines(tmp_path / "calls" / "rte.jsonl"))
    assert 15 <= saved <= len(bodies) < 40
    assert not list(tmp_path.glob("*.lock"))
    assert len(call()) == 12
    assert len(bodies) - saved <= len(lines(tmp_path / "calls" / "rte.jsonl"))
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_what_a_function_raises_comes_out_and_nothing_is_lost(tmp_path: Path) -> None:
    calls: list[str] = []

    def failing(body: dict[str, Any]) -> str:
        calls.append("")
        if len(calls) == 20:
            raise ZeroDivisionError("mine")
        return answer(body)

    for _ in range(2):  # the second call goes on
        if len(calls) < 20:
            with pytest.raises(ZeroDivisionError, match="mine"):
                generate_rows("rte", failing, size=12, run_dir=tmp_path, settings=FEW)
            assert len(lines(tmp_path / "calls" / "rte.jsonl")) >= 19
    assert len(generate_rows("rte", failing, size=12, run_dir=tmp_path, settings=FEW)) == 12
    with pytest.raises(
        UserError, match=r"^generator: got int from <lambda>\(\), expected the text of the answer as str. "
    ):
        generate_rows("rte", lambda body: 3, size=4, run_dir=tmp_path / "int", settings=FEW)  # type: ignore[arg-type,return-value]


def test_calls_of_a_function_run_side_by_side(tmp_path: Path) -> None:
    together = threading.Barrier(3, timeout=LONGEST)

    def waiting(body: dict[str, Any]) -> str:
        if body["response_format"]["json_schema"]["name"] == "generation":
            together.wait()  # three calls meet, or none returns
        return answer(body)

    keys = {**FEW, "generator.concurrency": 3, "synth.self_correct": "off", "synth.near_duplicates": None}
    assert len(generate_rows("rte", waiting, size=12, run_dir=tmp_path, settings=keys)) == 12


class OwnModel:
    """A language model of the user's own, with the methods of LLM."""

    window = 5
    closed = False

    def __init__(self) -> None:
        self._requests: list[Request] = []

    def submit(self, request: Request) -> None:
        self._requests.append(request)

    def collect(self):
        requests, self._requests = self._requests, []
        for request in requests:
            yield targen.Answer(request.id, answer(request.body), "stop", {"completion_tokens": 7}, "mine")

    def close(self) -> None:
        self.closed = True


def test_an_object_of_ones_own_is_asked_and_stays_open(tmp_path: Path) -> None:
    model = OwnModel()
    assert len(generate_rows("rte", model, size=4, run_dir=tmp_path, settings=FEW)) == 4
    assert len(generate_rows("cb", model, size=3, run_dir=tmp_path, settings=FEW)) == 3  # a second task of the same run
    assert not model.closed
    assert json.loads((tmp_path / "synthetic" / "rte" / "stats.json").read_text())["calls"]["generation"][
        "completion_tokens"
    ]

    class Refusing(OwnModel):
        def collect(self):
            yield from (Failure(request.id, "mine: no") for request in self._requests)
            self._requests = []

    with pytest.raises(UserError, match=r"^generator: \d+ calls got no answer \(mine x \d+\).*answers are saved"):
        generate_rows("rte", Refusing(), size=4, run_dir=tmp_path / "no", settings=FEW)


def test_a_run_goes_on_from_python_and_from_the_command_line(tmp_path: Path) -> None:
    """Tasks from a file leave out what is a default; those from Python have all of it. Neither is a change."""
    keys: dict[str, object] = {"synth.seeds_per_context": 2, "synth.learnability_rows": 0}
    overrides = ["generator=recorded", "task=[rte]", "synth.size=8", *(f"{key}={value}" for key, value in keys.items())]

    def run_command(folder: Path) -> None:
        assert phase_of(generate)(compose([*overrides, f"run.dir={folder}"]), overrides) == 0

    rows = generate_rows("rte", "recorded", size=8, run_dir=tmp_path / "a", settings=keys)
    first_files = files(tmp_path / "a" / "synthetic" / "rte")
    run_command(tmp_path / "a")
    run_command(tmp_path / "b")
    assert files(tmp_path / "a" / "synthetic" / "rte") == files(tmp_path / "b" / "synthetic" / "rte") == first_files
    rows_again = generate_rows(load_task("rte"), "recorded", size=8, run_dir=tmp_path / "b", settings=keys)
    assert list(rows_again) == list(rows)
    changed = replace(load_task("rte"), contexts="villages ${of} old")
    with pytest.raises(UserError, match=r"tasks.rte.contexts was 'topics .* and is 'villages \$\{of\} old'"):
        generate_rows(changed, "recorded", size=8, run_dir=tmp_path / "b", settings=keys)


def test_an_experiment_is_a_setting(tmp_path: Path) -> None:
    rows = generate_rows(
        "cb", "recorded", size=6, run_dir=tmp_path, settings={"experiment": "quickstart", "synth.learnability_rows": 0}
    )
    assert len(rows) == 6  # the quickstart makes 24, with another setting for the instance seeds than the default


def test_mistakes_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for keys, message in {
        ("synth.sise",): r"^synth.sise: no such key. Did you mean 'synth.size'\?$",
        ("run.dir",): r"^settings: got run.dir, expected another key. Use the argument `run_dir` for it.$",
        ("tasks.rte.contexts",): "^settings: got tasks.rte.contexts, .* Use dataclasses.replace on the task for it.$",
        ("generator.function",): "^generator.function: got here, expected FILE.py:NAME, the function that answers",
    }.items():
        with pytest.raises(UserError, match=message):
            generate_rows("rte", answer, settings=dict.fromkeys(keys, "here"))
    with pytest.raises(UserError, match=r"^generator: got 'opneai', .* Did you mean 'openai'\?$"):
        generate_rows("rte", "opneai")
    with pytest.raises(UserError, match=r"^synth.size: got 0, expected"):
        generate_rows("rte", answer, size=0)
    assert not list(tmp_path.iterdir())
    with hold_lock(tmp_path / "outputs" / "rte"), pytest.raises(UserError, match=f"in use by process {os.getpid()}"):
        generate_rows("rte", answer, size=2, settings=FEW)
    with pytest.raises(AwaitingAnswers, match=r"requests\.jsonl"):
        generate_rows("rte", "batch", size=2, settings={**FEW, "generator.model": "m"})


def test_nothing_of_the_process_is_changed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import hydra
    from hydra.core.global_hydra import GlobalHydra

    def state() -> tuple[Any, ...]:
        root = logging.getLogger()
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
        return (
            list(root.handlers),
            root.level,
            handlers,
            dict(os.environ),
            os.getcwd(),
            sys.stdout,
            sys.stderr,
            sys.path[:],
        )

    before = state()
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(PROJECT / "conf")):
        outer_hydra = GlobalHydra.instance().hydra
        generate_rows("rte", answer, size=4, run_dir=tmp_path, settings=FEW)
        assert GlobalHydra.instance().hydra is outer_hydra is not None
        assert hydra.compose("config").seed == 0
    assert state() == before
    assert capfd.readouterr().out == ""


MINE = """
def answer(body):
    from tests.support.fake_model import FakeModel
    return FakeModel().complete(body)["choices"][0]["message"]["content"]
"""


def test_a_function_in_a_file_answers_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    overrides = [*OVERRIDES, "generator=python", "generator.model=fake", "run.dir=run"]

    def run_command(name: str) -> int:
        return phase_of(generate)(compose([*overrides, f"generator.function={name}"]), overrides)

    for name, message in {
        "none.py:answer": "^generator.function: got none.py:answer, expected FILE.py:NAME",
        "mine.py:other": "^generator.function: got other, expected a function of mine.py. Correct the name.$",
    }.items():
        with pytest.raises(UserError, match=message):
            run_command(name)
    assert run_command("'mine.py:answer'") == 0
    rows = generate_rows("rte", answer, size=12, run_dir="run", settings={**FEW, "generator.model": "fake"})
    assert [row.row for row in rows] == lines(tmp_path / "run" / "synthetic" / "rte" / "train.jsonl")
    with pytest.raises(
        UserError, match=r"^generator.function: got null, expected FILE.py:NAME"
    ):  # after a notebook's run
        phase_of(generate)(compose([*overrides, "synth.size=20"]), overrides)
