"""Locks between processes that cannot see each other, holders that were suspended, and locks that a crash left."""

import json
import multiprocessing
import os
import platform
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from targen.generate import generate
from targen.runtime import heartbeat
from targen.runtime.errors import UserError
from targen.runtime.heartbeat import raise_if_lost
from targen.runtime.jsonl import AppendLog, write_text
from targen.runtime.lock import holder
from targen.runtime.lock.run_lock import hold_lock, refuse_if_locked
from tests.support.commands import LONGEST, Server, command, files, lines, settings
from tests.support.fake_model import FakeModel
from tests.support.generation_runs import server_overrides

ELSEWHERE = {
    "host": platform.node(), "pid": os.getpid(), "started": 1.0, "boot": "another", "pid_namespace": "pid:[1]",
    "beats": 5.0, "id": "0123",
}  # fmt: skip
CONTAINER = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
HOLDER = """
import sys
from pathlib import Path
from targen.runtime import heartbeat
from targen.runtime.errors import UserError
from targen.runtime.jsonl import write_text
from targen.runtime.lock.run_lock import hold_lock
heartbeat.SECONDS_BETWEEN_BEATS = 0.1
folder = Path(sys.argv[1])
try:
    with hold_lock(folder):
        print("held", flush=True)
        sys.stdin.readline()
        write_text(folder / "written", "")
except UserError as err:
    sys.exit(str(err))
"""


@pytest.fixture(autouse=True)
def _short_times(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "slow" not in request.keywords:
        monkeypatch.setattr(heartbeat, "SECONDS_BETWEEN_BEATS", 0.05)
        monkeypatch.setattr(holder, "SECONDS_OF_SILENCE", 0.8)
        monkeypatch.setattr(holder, "SECONDS_TO_SIGN", 0.4)


@pytest.fixture(scope="module")
def container() -> tuple[str, ...]:
    """What starts a command in a PID namespace of its own, with the same host name: a second container, for the lock."""
    if shutil.which("unshare") is None or subprocess.run([*CONTAINER, "true"], capture_output=True).returncode:
        pytest.skip("this machine lets us make no PID namespace")
    return CONTAINER


def left_lock(folder: Path, content: str) -> Path:
    path = folder / "run.lock"
    path.write_text(content)
    return path


@contextmanager
def holding(folder: Path, *prefix: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock of the folder; it writes a file once it gets a line."""
    process = subprocess.Popen(
        [*prefix, sys.executable, "-c", HOLDER, str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    try:
        yield process
    finally:
        kill(process)
        process.communicate()


def kill(process: subprocess.Popen[str]) -> None:
    for member in (*psutil.Process(process.pid).children(), process) if process.poll() is None else ():
        member.kill()


@pytest.mark.parametrize("modified", [0, 2**33])  # by a clock that is wrong
def test_a_lock_from_elsewhere_is_taken_over_once_it_was_silent_for_long_enough(
    tmp_path: Path, caplog, modified
) -> None:
    caplog.set_level("INFO")
    os.utime(left_lock(tmp_path, json.dumps(ELSEWHERE)), (modified, modified))
    start = time.monotonic()
    with hold_lock(tmp_path):
        assert time.monotonic() - start >= 0.8
        assert json.loads((tmp_path / "run.lock").read_text())["id"] != ELSEWHERE["id"]
    waiting, removed = (record.getMessage() for record in caplog.records)
    assert f"held by process {os.getpid()} on {platform.node()}, which cannot be seen from here" in waiting
    assert "waiting for a sign of life, and for 1 s at most" in waiting
    assert "is gone: its lock is removed" in removed
    assert list(tmp_path.iterdir()) == []


def test_a_lock_from_elsewhere_with_a_heartbeat_is_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(holder, "SECONDS_OF_SILENCE", 60.0)
    path, ended = left_lock(tmp_path, json.dumps(ELSEWHERE)), threading.Event()

    def beat() -> None:
        while not ended.wait(0.05):
            path.touch()

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with (
            pytest.raises(UserError, match=r"in use by process .* \(run.lock\). Wait for it, end it, or"),
            hold_lock(tmp_path),
        ):
            pass
        with pytest.raises(UserError, match=r"\(run.lock\)"):
            refuse_if_locked(tmp_path)
        with pytest.raises(UserError, match=r"\(run.lock\)"), hold_lock(tmp_path, "cell-x"):
            pass
    finally:
        ended.set()
        thread.join()
    assert json.loads(path.read_text()) == ELSEWHERE
    assert list(tmp_path.iterdir()) == [path]


def test_the_dead_locks_of_a_run_s_parts_are_waited_for_together_and_removed(tmp_path: Path) -> None:
    for index in range(8):
        left_lock(tmp_path, json.dumps(ELSEWHERE | {"id": str(index)})).rename(tmp_path / f"shard-{index}-of-8.lock")
    start = time.monotonic()
    with hold_lock(tmp_path):
        assert time.monotonic() - start < 8 * 0.8
        assert [path.name for path in tmp_path.iterdir()] == ["run.lock"]


@pytest.mark.parametrize("content", ["", '{"host": "no', "[]"])
def test_a_lock_without_a_name_stops_the_next_start_only_for_a_moment(tmp_path: Path, content) -> None:
    left_lock(tmp_path, content)
    left_lock(tmp_path, "").rename(tmp_path / "run.takeover")
    left_lock(tmp_path, content)
    with hold_lock(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_cannot_be_written_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))"
    full = subprocess.run(
        [sys.executable, "-c", limited + HOLDER, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert full.returncode == 1 and full.stderr.count("\n") == 1
    assert f"{tmp_path}/run.lock cannot be written (File too large). Free some space" in full.stderr
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/run.lock cannot be written"), hold_lock(tmp_path / "file"):
        pass


def test_the_lock_of_a_killed_process_that_nobody_has_waited_for_is_taken_at_once(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(holder, "SECONDS_OF_SILENCE", 60.0)
    if not Path("/proc/self/stat").exists():
        pytest.skip("without /proc, only silence tells that a process is gone")
    with holding(tmp_path) as process:
        with pytest.raises(UserError, match=f"in use by process {process.pid} on"), hold_lock(tmp_path):
            pass
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it ended, and stays a zombie
        with hold_lock(tmp_path):
            pass


def test_a_holder_whose_lock_was_taken_over_writes_nothing_more(tmp_path: Path) -> None:
    log = AppendLog(tmp_path / "calls.jsonl")
    with hold_lock(tmp_path):
        write_text(tmp_path / "before", "")
        log.append({})
        path = left_lock(tmp_path, json.dumps(ELSEWHERE))
        wait_until_lost()
        with pytest.raises(UserError, match=rf"run.dir: {tmp_path} .* another one took run.lock over"):
            log.append({})
        with pytest.raises(UserError, match=r"another one took run.lock over"):
            write_text(tmp_path / "after", "")
    raise_if_lost()  # holds no lock any more
    log.close()
    assert {path.name for path in tmp_path.iterdir()} == {"before", "calls.jsonl", "run.lock"}
    assert json.loads(path.read_text()) == ELSEWHERE
    assert (tmp_path / "calls.jsonl").read_text() == "{}\n"


def test_a_fork_of_the_holder_does_not_hold_the_lock(tmp_path: Path) -> None:
    with hold_lock(tmp_path):
        (tmp_path / "run.lock").unlink()
        wait_until_lost()
        fork = multiprocessing.get_context("fork").Process(target=write_text, args=(tmp_path / "of-the-fork", ""))
        fork.start()
        fork.join()
        assert fork.exitcode == 0


def wait_until_lost() -> None:
    with suppress(UserError):
        for _ in range(LONGEST * 100):
            raise_if_lost()
            time.sleep(0.01)
        raise AssertionError("the holder has not noticed that its lock is lost")


def test_a_process_of_another_container_is_refused_and_its_lock_recovered_after_a_kill(
    tmp_path: Path, container
) -> None:
    with holding(tmp_path, *container) as process:
        name = json.loads((tmp_path / "run.lock").read_text())
        assert name["host"] == platform.node() and name["pid"] != process.pid
        for prefix in ((), container):
            second = subprocess.run(
                [*prefix, sys.executable, "-c", HOLDER, str(tmp_path)],
                capture_output=True,
                text=True,
                input="",
                check=False,
            )
            assert "is in use by process" in second.stderr
        kill(process)
        with hold_lock(tmp_path):
            pass
    assert list(tmp_path.iterdir()) == []


def test_a_holder_that_wakes_after_its_lock_was_taken_ends_with_one_line(tmp_path: Path, container) -> None:
    with holding(tmp_path, *container) as process:
        (suspended,) = psutil.Process(process.pid).children()
        suspended.suspend()
        with hold_lock(tmp_path):
            suspended.resume()
            _, log = process.communicate("\n", timeout=LONGEST)
            raise_if_lost()  # this one is not told
    assert process.returncode == 1
    assert log.count("\n") == 1 and "another one took run.lock over" in log
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_run_whose_container_is_suspended_is_finished_by_another_and_not_paid_for_twice(
    tmp_path: Path, serve, container
) -> None:
    server: Server = serve(FakeModel())
    overrides = server_overrides(tmp_path / "run", server.url, "task=rte", "generator.concurrency=2")
    server.hold_from = 20
    first = subprocess.Popen(
        [*container, sys.executable, "-m", "targen.generate", "+experiment=quickstart", *overrides],
        stderr=subprocess.PIPE,
        text=True,
    )
    server.wait_for(21, first)
    second = command("targen.generate", *overrides)
    assert second.returncode == 2 and "is in use by process" in second.stderr
    (suspended,) = psutil.Process(first.pid).children()
    suspended.suspend()
    server.hold_from = float("inf")
    server.go_on.set()
    started = time.monotonic()
    third = command("targen.generate", *overrides)
    assert third.returncode == 0, third.stderr
    assert "for 60 s at most" in third.stderr and time.monotonic() - started > 60
    request_count, data = len(server.bodies), files(tmp_path / "run")
    suspended.send_signal(signal.SIGCONT)
    _, log = first.communicate(timeout=LONGEST)
    assert first.returncode == 2
    assert [line for line in log.splitlines() if line.startswith("error: ")] == [log.splitlines()[-1]]
    assert "Traceback" not in log and "is no longer held by this process" in log
    assert len(server.bodies) == request_count and files(tmp_path / "run") == data
    ids = [call["id"] for call in lines(tmp_path / "run" / "calls" / "rte.jsonl")]
    assert len(ids) == len(set(ids)) and request_count <= len(ids) + 2  # the two that were under way
    generate(settings(*server_overrides(tmp_path / "whole", serve(FakeModel()).url, "task=rte")))
    assert files(tmp_path / "run" / "synthetic") == files(tmp_path / "whole" / "synthetic")
