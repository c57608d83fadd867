"""Whatever stops a generation, nothing that was answered is lost or asked again, and the bytes are the same in the end."""

import math
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from targen.generate import generate
from targen.runtime.cli import INTERRUPTED, REQUEUE
from tests.support.commands import LONGEST, command, files, lines, settings
from tests.support.fake_model import FakeModel, served_by

pytestmark = pytest.mark.slow
AGAIN = "again"  # the key of a second start, which tells its calls from those that the first start left in flight


def overrides(folder: Path, url: str, *more: str) -> list[str]:
    base = served_by(url, folder)
    base += ["task=[rte,copa]", "synth.size=40", "synth.contexts=4", "synth.seeds_per_context=2"]
    return [*base, "generator.concurrency=4", *more]


def start(arguments: list[str], module: str = "targen.generate") -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", module, "+experiment=quickstart", *arguments]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def asked_again(server, arguments: list[str], module: str = "targen.generate") -> int:
    """The number of calls of a second start, which runs to the end."""
    completed = command(module, *arguments, OPENAI_API_KEY=AGAIN)
    assert completed.returncode == 0, completed.stderr
    return server.callers.count(f"Bearer {AGAIN}")


def answered(folder: Path) -> int:
    return sum(len(lines(folder / "calls" / f"{task}.jsonl")) for task in ("rte", "copa"))


@pytest.fixture
def slow(serve):
    server = serve(FakeModel(error_rate=0.05, flip_rate=0.1))
    server.misbehave = lambda number, handler: bool(time.sleep(0.02))
    return server


@pytest.fixture(scope="module")
def intact(serve, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a run that nothing stopped."""
    folder = tmp_path_factory.mktemp("whole")
    generate(settings(*overrides(folder, serve(FakeModel(error_rate=0.05, flip_rate=0.1)).url)))
    return files(folder / "synthetic")


@pytest.mark.parametrize("module", ["targen.generate", "targen.run"])
def test_ctrl_c_is_one_line_and_loses_nothing(tmp_path: Path, slow, intact, module) -> None:
    arguments = overrides(tmp_path, slow.url, "phases=[generate]", "generator.concurrency=16")
    slow.hold_from = 80
    process = start(arguments, module)
    slow.wait_for(90, process)
    process.send_signal(signal.SIGINT)
    if module == "targen.run":  # a terminal interrupts the phase too
        for phase in psutil.Process(process.pid).children():
            phase.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=LONGEST)
    slow.hold_from = math.inf
    assert process.returncode == INTERRUPTED
    other_lines = [line for line in stderr.splitlines() if not line.startswith(("run: ", "generate: "))]
    assert other_lines == ["Interrupted. Progress is saved; rerun the command to resume."]
    assert asked_again(slow, arguments) < len(slow.bodies)
    assert files(tmp_path / "synthetic") == intact


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize("module", ["targen.generate", "targen.run"])
def test_a_schedulers_signal_ends_it_with_the_code_for_a_requeue(tmp_path: Path, slow, intact, number, module) -> None:
    arguments = overrides(tmp_path, slow.url, "phases=[generate]")
    slow.hold_from = 80  # of more than 160
    process = start(arguments, module)
    slow.wait_for(60, process)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=LONGEST)
    slow.hold_from = math.inf
    assert process.returncode == REQUEUE
    assert "stopped. Progress is saved; rerun the command to resume." in stderr and "Traceback" not in stderr
    assert not (tmp_path / "run.lock").exists()
    answers_before = answered(tmp_path)
    assert len(slow.bodies) - answers_before <= 4  # what was under way
    assert asked_again(slow, arguments, module) == answered(tmp_path) - answers_before
    assert files(tmp_path / "synthetic") == intact


def test_a_full_disk_is_one_line_and_the_run_goes_on_where_there_is_room(tmp_path: Path, slow, intact) -> None:
    arguments = overrides(tmp_path, slow.url)

    def at_most_40_kb() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))

    full = subprocess.run(
        [sys.executable, "-m", "targen.generate", "+experiment=quickstart", *arguments],
        capture_output=True, text=True, preexec_fn=at_most_40_kb, timeout=LONGEST,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},  # it would be cut at the limit, and read so by others
    )  # fmt: skip
    assert full.returncode == 2 and "Traceback" not in full.stderr
    (line,) = [line for line in full.stderr.splitlines() if line.startswith("error:")]
    assert "could not be written" in line and "free some space" in line.lower()
    answers_before = answered(tmp_path)
    assert answers_before > 20
    assert asked_again(slow, arguments) == answered(tmp_path) - answers_before
    assert files(tmp_path / "synthetic") == intact


def test_a_suspended_process_goes_on_and_nobody_takes_its_run_meanwhile(tmp_path: Path, slow, intact) -> None:
    arguments = overrides(tmp_path, slow.url)
    slow.hold_from = 60
    process = start(arguments)
    slow.wait_for(40, process)
    process.send_signal(signal.SIGSTOP)
    refused = command("targen.generate", *arguments)
    assert refused.returncode == 2 and f"in use by process {process.pid}" in refused.stderr
    slow.hold_from = math.inf
    slow.go_on.set()
    process.send_signal(signal.SIGCONT)
    _, stderr = process.communicate(timeout=LONGEST)
    assert process.returncode == 0, stderr
    assert len(slow.bodies) == answered(tmp_path)
    assert files(tmp_path / "synthetic") == intact


@pytest.mark.parametrize("after", [20, 90, 170])
def test_a_signal_is_heard_however_busy_the_run_is(tmp_path: Path, serve, after: int) -> None:
    server = serve(FakeModel())
    server.hold_from = after + 500  # of more than 1600
    process = start(overrides(tmp_path, server.url, "synth.size=400", "generator.concurrency=64"))
    server.wait_for(after, process)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=LONGEST)
    assert process.returncode == REQUEUE, stderr
    assert "Traceback" not in stderr
    assert len(server.bodies) - answered(tmp_path) <= 64
