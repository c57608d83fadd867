"""An existing run: changed settings, torn and damaged logs, locks, growth, kills."""

import json
import math
import multiprocessing
import platform
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

import pytest

from targen.generate import generate
from targen.runtime.errors import UserError
from targen.runtime.lock.run_lock import hold_lock
from tests.support.commands import LONGEST, command, files, lines, settings
from tests.support.fake_model import FakeModel
from tests.support.generation_runs import SMALL, batch_settings, by_batch, server_overrides


def test_growth_asks_only_for_what_is_new(tmp_path: Path) -> None:
    model = FakeModel(flip_rate=0.2)
    by_batch(tmp_path, model, "task=[rte,cb]")
    before = {call["id"] for name in ("rte", "cb") for call in lines(tmp_path / "calls" / f"{name}.jsonl")}
    by_batch(tmp_path, model, "task=[rte,cb]", "synth.size=24")
    calls = [call["id"] for name in ("rte", "cb") for call in lines(tmp_path / "calls" / f"{name}.jsonl")]
    assert len(calls) == len(set(calls)) and before < set(calls)
    by_batch(tmp_path / "fresh", model, "task=[rte,cb]", "synth.size=24")
    assert files(tmp_path / "synthetic") == files(tmp_path / "fresh" / "synthetic")


BEGUN = ("generator=batch", "generator.model=fake", *SMALL, "task=rte")


@pytest.fixture(scope="module")
def existing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that waits for answers; read only."""
    folder = tmp_path_factory.mktemp("existing")
    assert command("targen.generate", *BEGUN, f"run.dir={folder}").returncode == 75
    return folder


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed=7", "seed was 0 and is 7"),
        ("generator.model=other", "generator.model was 'fake' and is 'other'"),
        ("synth.sampling.generation.temperature=0.5", "synth.sampling.generation.temperature was 1.0 and is 0.5"),
        ("tasks.rte.generation.instruction='Now: {premise}'", "tasks.rte.generation.instruction was"),
        ("synth.contexts=5", "synth.contexts was 4 and is 5"),
    ],
)
def test_a_changed_setting_over_an_existing_run_is_refused_by_name(existing: Path, override: str, message: str) -> None:
    before = files(existing)
    refused = command("targen.generate", *BEGUN, f"run.dir={existing}", override)
    assert refused.returncode == 2
    assert message in refused.stderr and refused.stderr.count("\n") == 1
    assert files(existing) == before


def test_a_changed_prompt_is_found_also_by_the_calls_themselves(tmp_path: Path) -> None:
    by_batch(tmp_path, FakeModel(), "task=rte")
    with pytest.raises(
        UserError, match=r"rte-contexts-r0-.* the prompt, the model, the sampling or the schema has changed"
    ):
        generate(batch_settings(tmp_path, "task=rte", "seed=7"))


def test_a_torn_last_line_is_cut_off_and_redone(tmp_path: Path) -> None:
    generate(settings("task=[rte,wsc]", f"run.dir={tmp_path / 'whole'}"))
    whole_line = (tmp_path / "whole" / "calls" / "rte.jsonl").read_bytes().splitlines()[30]
    for tear in (b'{"id": "rte-contexts', whole_line, b'{"id": "rte-con\n', b"\x00\x00\x00"):
        torn = tmp_path / f"torn{len(tear)}"
        generate(settings("task=[rte,wsc]", f"run.dir={torn}"))
        path = torn / "calls" / "rte.jsonl"
        first_lines = b"".join(path.read_bytes().splitlines(keepends=True)[:30])
        path.write_bytes(first_lines + tear)
        generate(settings("task=[rte,wsc]", f"run.dir={torn}"))
        assert files(torn / "synthetic") == files(tmp_path / "whole" / "synthetic")
        assert sorted(path.read_bytes().splitlines()) == sorted(
            (tmp_path / "whole" / "calls" / "rte.jsonl").read_bytes().splitlines()
        )


def test_damage_inside_the_log_is_an_error_that_names_the_line(tmp_path: Path) -> None:
    generate(settings("task=rte", f"run.dir={tmp_path}"))
    path = tmp_path / "calls" / "rte.jsonl"
    content = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*content[:4], content[4][:25] + b"\n", *content[5:]]))
    with pytest.raises(UserError, match=rf"{path}:5: not a JSON object"):
        generate(settings("task=rte", f"run.dir={tmp_path}"))


def _hold(folder: Path, barrier, outcomes) -> None:
    barrier.wait(LONGEST)
    try:
        with hold_lock(folder):
            outcomes.put("held")
            barrier.wait(LONGEST)  # until all have tried
    except UserError:
        outcomes.put("refused")
        barrier.wait(LONGEST)


def test_of_many_that_find_a_dead_process_lock_one_takes_it(tmp_path: Path) -> None:
    for number in range(5):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "run.lock").write_text(json.dumps({"host": platform.node(), "pid": 2**22 + 1, "started": 1.0}))
        barrier, outcomes = multiprocessing.Barrier(6), multiprocessing.Queue()
        processes = [multiprocessing.Process(target=_hold, args=(folder, barrier, outcomes)) for _ in range(6)]
        for process in processes:
            process.start()
        assert Counter(outcomes.get() for _ in processes) == {"held": 1, "refused": 5}
        for process in processes:
            process.join()
        assert list(folder.iterdir()) == []


@pytest.mark.parametrize(("restart", "held"), [("1", True), ("0", False)])
def test_a_requeued_job_takes_over_what_it_held_on_another_node(
    tmp_path: Path, monkeypatch, restart: str, held: bool
) -> None:
    holder = {"host": "another-node", "pid": 1, "started": 1.0, "slurm_job": "77", "slurm_restart": 0}
    (tmp_path / "run.lock").write_text(json.dumps(holder))
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setenv("SLURM_RESTART_COUNT", restart)
    with nullcontext() if held else pytest.raises(UserError, match="process 1 on another-node"), hold_lock(tmp_path):
        assert json.loads((tmp_path / "run.lock").read_text())["slurm_restart"] == 1
    assert (tmp_path / "run.lock").exists() != held


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on_and_pays_nothing_twice(tmp_path: Path, serve) -> None:
    def slowly(number: int, handler) -> bool:
        time.sleep(0.02)
        return False

    model = FakeModel(error_rate=0.05, flip_rate=0.2)
    server = serve(model)
    server.misbehave = slowly
    overrides = server_overrides(tmp_path / "killed", server.url, "generator.concurrency=4")
    chance, kills = random.Random(1), 3
    for _ in range(kills):
        target = len(server.bodies) + chance.randrange(20, 120)
        server.hold_from, server.go_on = target + 30, threading.Event()
        process = subprocess.Popen(
            [sys.executable, "-m", "targen.generate", "+experiment=quickstart", *overrides], stderr=subprocess.DEVNULL
        )
        server.wait_for(target, process)
        process.send_signal(signal.SIGKILL)
        process.wait()
        server.go_on.set()
    server.hold_from = math.inf
    assert command("targen.generate", *overrides).returncode == 0
    generate(settings(*server_overrides(tmp_path / "whole", serve(model).url)))
    assert files(tmp_path / "killed" / "synthetic") == files(tmp_path / "whole" / "synthetic")
    calls = sum(len(lines(path)) for path in (tmp_path / "killed" / "calls").glob("*.jsonl"))
    assert len(server.bodies) <= calls + kills * 2 * 4  # what was under way at a kill


def test_a_second_process_on_one_run_is_refused_and_a_dead_ones_lock_is_taken_over(tmp_path: Path, serve) -> None:
    server = serve(FakeModel())
    server.hold_from = 3
    overrides = server_overrides(tmp_path, server.url, "task=rte", "generator.concurrency=1")
    first = subprocess.Popen(
        [sys.executable, "-m", "targen.generate", "+experiment=quickstart", *overrides], stderr=subprocess.DEVNULL
    )
    server.wait_for(3, first)
    second = command("targen.generate", *overrides)
    assert second.returncode == 2
    assert f"is in use by process {first.pid} on " in second.stderr
    first.kill()
    first.wait()
    server.hold_from = math.inf
    server.go_on.set()
    assert (tmp_path / "run.lock").exists()
    assert command("targen.generate", *overrides).returncode == 0
    assert not (tmp_path / "run.lock").exists()
    (tmp_path / "run.lock").write_text('{"host": "another-node", "pid": 1, "started": 0.0}')
    elsewhere = command("targen.generate", *overrides)
    assert elsewhere.returncode == 2
    assert "process 1 on another-node" in elsewhere.stderr
    assert "remove" in elsewhere.stderr
