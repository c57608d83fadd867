"""Forks of the warm start behave as interpreters do, so that a test of a command tests the command."""

import math
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from targen.runtime.cli import INTERRUPTED, REQUEUE
from tests.support.commands import LONGEST, WARM_START, command
from tests.support.fake_model import FakeModel, served_by

SMALL = ["+experiment=quickstart", "task=[rte]", "synth.size=8", "synth.contexts=2", "synth.seeds_per_context=2"]


@pytest.mark.parametrize(
    "arguments", [["-m", "targen.run", "bad.key=3"], ["-m", "targen", "--help"], ["-c", "print(1/0)"]]
)
def test_output_and_exit_code_are_those_of_an_interpreter(arguments: list[str], tmp_path: Path) -> None:
    warm, cold = (
        subprocess.run([python, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=LONGEST)
        for python in (WARM_START.python(), sys.executable)
    )
    assert (warm.returncode, warm.stdout, warm.stderr) == (cold.returncode, cold.stdout, cold.stderr)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, REQUEUE), (signal.SIGUSR1, REQUEUE), (signal.SIGINT, INTERRUPTED)]
)
def test_signals_reach_a_command_and_the_phase_that_it_has_started(tmp_path: Path, serve, number, code) -> None:
    server = serve(FakeModel())
    server.hold_from = 3
    process = _start(tmp_path, server.url, "targen.run", "phases=[generate]")
    server.wait_for(3, process)
    process.send_signal(number)
    if number == signal.SIGINT:  # a terminal interrupts the phase too; here nothing does, so it has to end by itself
        server.hold_from = math.inf
        server.go_on.set()
    process.communicate(timeout=LONGEST)
    assert process.returncode == code
    assert not (tmp_path / "run.lock").exists()


def test_a_command_ends_with_its_client(tmp_path: Path, serve) -> None:
    server = serve(FakeModel())
    server.hold_from = 3
    process = _start(tmp_path, server.url, "targen.generate")
    server.wait_for(3, process)
    process.kill()
    assert process.wait(LONGEST) == -signal.SIGKILL
    server.hold_from = math.inf
    again = command("targen.generate", *SMALL, *served_by(server.url, tmp_path))  # no other process holds the run
    assert again.returncode == 0, again.stderr
    server.go_on.set()


def _start(folder: Path, url: str, module: str, *more: str) -> "subprocess.Popen[str]":
    arguments = [*SMALL, *served_by(url, folder), "generator.concurrency=2", *more]
    return subprocess.Popen(
        [WARM_START.python(), "-m", module, *arguments], cwd=folder, stderr=subprocess.PIPE, text=True
    )
