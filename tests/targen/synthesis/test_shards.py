"""Shards of a generation: no coordination, one merge, the same bytes as one process."""

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest

from targen.generate import generate
from targen.merge import merge
from targen.runtime.errors import UserError
from tests.support.commands import LONGEST, command, files, lines, settings
from tests.support.fake_model import FakeModel, served_by

TASKS = "task=[axg,cb,copa,record,rte]"
MODEL = FakeModel(error_rate=0.15, flip_rate=0.3)
SIZE = ("synth.size=36", "synth.contexts=6", "synth.seeds_per_context=2")


def overrides(folder: Path, url: str, *more: str) -> list[str]:
    base = [*served_by(url, folder), *SIZE]
    return [*base, *([] if any(override.startswith("task=") for override in more) else [TASKS]), *more]


def run_shards(folder: Path, url: str, count: int, order: list[int], *more: str) -> None:
    for index in order:
        generate(settings(*overrides(folder, url, f"shard.count={count}", f"shard.index={index}", *more)))


@pytest.fixture(scope="module")
def one_process(tmp_path_factory: pytest.TempPathFactory, serve) -> tuple[dict[str, bytes], Counter[str]]:
    """The files and the requests of a run in one process."""
    server, folder = serve(MODEL), tmp_path_factory.mktemp("whole")
    generate(settings(*overrides(folder, server.url)))
    return files(folder / "synthetic"), Counter(json.dumps(body, sort_keys=True) for body in server.bodies)


@pytest.mark.parametrize("count", [2, 7])
def test_shards_in_any_order_give_the_bytes_of_one_process_and_ask_every_call_once(
    tmp_path: Path, serve, one_process, count: int
) -> None:
    expected_files, expected_requests = one_process
    server = serve(MODEL)
    run_shards(tmp_path / "shards", server.url, count, [*range(count)][::-1])
    asked_by_shards = len(server.bodies)
    merge(settings(*overrides(tmp_path / "shards", server.url, f"shard.count={count}")))
    assert files(tmp_path / "shards" / "synthetic") == expected_files
    texts = Counter(json.dumps(body, sort_keys=True) for body in server.bodies)
    assert texts == expected_requests
    assert asked_by_shards > 0.8 * expected_requests.total()
    shares = [len(lines(path)) for path in (tmp_path / "shards" / "calls").glob("cb.shard-*.jsonl")]
    assert len(shares) == count and min(shares) > 0
    merge(settings(*overrides(tmp_path / "shards", server.url)))  # the count is in the markers
    assert len(server.bodies) == expected_requests.total()


def test_a_merge_names_the_shards_that_are_not_done(tmp_path: Path, serve) -> None:
    url = serve(FakeModel()).url
    run_shards(tmp_path, url, 5, [0, 2, 3])
    with pytest.raises(
        UserError, match=r"got 5 shards of .*, of which 2 are missing or not done: 1, 4. Run each: .*shard.index=1"
    ):
        merge(settings(*overrides(tmp_path, url, "shard.count=5")))
    assert not (tmp_path / "synthetic").exists()
    run_shards(tmp_path, url, 5, [1, 4])
    with pytest.raises(UserError, match="of which 5 are missing or not done"):  # done, but for fewer rows
        merge(settings(*overrides(tmp_path, url, "shard.count=5", "synth.size=48")))
    with pytest.raises(UserError, match="no marker of a shard"):
        merge(settings(*overrides(tmp_path / "none", url)))


@pytest.mark.slow
def test_shards_run_at_once_and_may_be_killed(tmp_path: Path, serve) -> None:
    server = serve(FakeModel(error_rate=0.1))
    generate(settings(*overrides(tmp_path / "whole", server.url)))
    alone = len(server.bodies)
    server.bodies.clear()

    killed, answered = threading.Event(), itertools.count()

    def misbehave(number: int, handler) -> bool:
        """The second shard gets ten answers, which is not enough, before it is killed."""
        if handler.headers.get("Authorization") == "Bearer to-be-killed" and next(answered) >= 10:
            killed.wait(LONGEST)
        return False

    server.misbehave = misbehave

    def start(index: int, key: str = "") -> "subprocess.Popen[bytes]":
        arguments = overrides(tmp_path / "shards", server.url, f"shard.index={index}", "shard.count=3")
        environment = os.environ | {"OPENAI_API_KEY": key}
        return subprocess.Popen(
            [sys.executable, "-m", "targen.generate", "+experiment=quickstart", *arguments], env=environment
        )

    processes = [start(index, "to-be-killed" * (index == 1)) for index in range(3)]
    server.wait_for(alone // 3, processes[1])
    processes[1].kill()
    processes[1].wait()
    killed.set()
    assert [process.wait() for process in (processes[0], processes[2])] == [0, 0]
    refused = command("targen.merge", *overrides(tmp_path / "shards", server.url, "shard.count=3"))
    assert refused.returncode == 2
    assert re.search(r"got 3 shards of .*, of which 1 are missing or not done: 1\. Run each", refused.stderr)
    assert start(1).wait() == 0
    assert command("targen.merge", *overrides(tmp_path / "shards", server.url)).returncode == 0
    assert files(tmp_path / "shards" / "synthetic") == files(tmp_path / "whole" / "synthetic")
    contexts = [call for path in (tmp_path / "shards" / "calls").glob("*.contexts.jsonl") for call in lines(path)]
    assert len(contexts) == len({call["id"] for call in contexts})


def test_the_shards_of_one_run_share_it_and_nobody_else_does(tmp_path: Path, serve) -> None:
    url = serve(FakeModel()).url
    run_shards(tmp_path, url, 2, [0])
    holder = json.dumps({"host": "another-node", "pid": 1, "started": 0.0})
    (tmp_path / "shard-00000-of-00002.lock").write_text(holder)
    run_shards(tmp_path, url, 2, [1])
    with pytest.raises(UserError, match=r"in use by process 1 on another-node \(shard-00000-of-00002.lock\)"):
        run_shards(tmp_path, url, 2, [0])
    with pytest.raises(UserError, match=r"in use by process 1 on another-node \(shard-00000-of-00002.lock\)"):
        merge(settings(*overrides(tmp_path, url)))
    (tmp_path / "shard-00000-of-00002.lock").rename(tmp_path / "run.lock")
    with pytest.raises(UserError, match=r"in use by process 1 on another-node \(run.lock\)"):
        run_shards(tmp_path, url, 2, [0])


def test_a_run_goes_on_as_shards_and_back(tmp_path: Path, serve) -> None:
    server, tasks = serve(FakeModel()), "task=[axg,cb,record]"
    generate(settings(*overrides(tmp_path / "whole", server.url, tasks, "synth.size=72")))
    alone = len(server.bodies)
    server.bodies.clear()
    generate(settings(*overrides(tmp_path / "run", server.url, tasks)))
    run_shards(tmp_path / "run", server.url, 4, [0, 1, 2, 3], tasks, "synth.size=72")
    shutil.rmtree(tmp_path / "run" / "synthetic")
    generate(settings(*overrides(tmp_path / "run", server.url, tasks, "synth.size=72")))
    assert len(server.bodies) == alone
    assert files(tmp_path / "run" / "synthetic") == files(tmp_path / "whole" / "synthetic")


@pytest.mark.slow
def test_from_the_command_line(tmp_path: Path, serve) -> None:
    url = serve(FakeModel()).url
    base = overrides(tmp_path, url, "phases=[generate,train,evaluate,report]")
    for index in (0, 1):
        completed = command("targen.run", *base, f"shard.index={index}", "shard.count=2")
        assert completed.returncode == 0, completed.stderr
        assert f"shard {index} of 2 is done" in completed.stderr and "train: starts" not in completed.stderr
    merged = command("targen.run", *base, "phases=[merge]", "shard.count=2")
    assert merged.returncode == 0, merged.stderr
    assert len(lines(tmp_path / "synthetic" / "cb" / "train.jsonl")) == 36
    refused = command("targen.generate", *base, "shard.index=2", "shard.count=2")
    assert refused.returncode == 2 and "shard.index: got 2, expected 0 to 1" in refused.stderr
