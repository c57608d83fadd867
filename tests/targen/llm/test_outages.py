"""Servers that are overloaded or away, and replies without an end."""

import json
import socket
import threading
import time
from pathlib import Path

import pytest

from targen.llm.backends.openai import replies
from targen.llm.backends.openai.limits import Limits
from targen.llm.backends.openai.pace import Pace, pause
from targen.runtime.errors import UserError
from tests.support.commands import LONGEST, Server, command, lines, reply, settings
from tests.support.fake_model import FakeModel
from tests.support.faulty_server import overrides, run


def test_the_number_of_calls_at_once_falls_and_rises_with_the_server() -> None:
    import asyncio

    pace = Pace(64)

    async def calls(*ends: bool) -> None:
        for refused in ends:
            pace.leave(await pace.enter(), refused)

    asyncio.run(calls(*[number % 33 == 0 for number in range(2000)]))
    assert pace.places == 64  # single refusals, 3 %
    asyncio.run(calls(*[True] * 11))
    assert pace.places == 32
    asyncio.run(calls(*[True] * 200))
    assert pace.places == 1
    asyncio.run(calls(*[False] * 200))
    assert pace.places == 64


def test_no_more_calls_at_once_than_an_overloaded_server_takes(tmp_path: Path, serve) -> None:
    lock, running, refusals = threading.Lock(), [0], []

    def misbehave(number: int, handler) -> bool:
        with lock:
            running[0] += 1
            busy = running[0] > 4
            refusals.append(busy)
        time.sleep(0.01)
        with lock:
            running[0] -= 1
        if busy:
            reply(handler, 429, "", Retry_After="0")
        return busy

    server = serve(FakeModel())
    server.misbehave = misbehave
    sizes = ("generator.concurrency=64", "synth.size=100", "synth.contexts=40")
    run(tmp_path, server, *sizes)
    assert len(lines(tmp_path / "synthetic" / "rte" / "train.jsonl")) == 100
    assert sum(refusals[150:]) < 0.4 * len(refusals[150:])


def test_retries_outlive_an_outage_of_half_a_minute_whatever_is_drawn() -> None:
    def lowest(low: float, high: float) -> float:
        return low

    server = settings("generator=openai", "generator.model=m").generator
    shortest = [pause(server.retry_pause, attempt, 0.0, lowest) for attempt in range(server.max_retries)]
    assert sum(shortest) > 60 and shortest == sorted(shortest)
    assert pause(0.5, 0, 7.0, lowest) == 7.0 and pause(0.5, 0, 3600.0, lowest) == 60.0


def test_retry_after_is_a_number_or_a_date() -> None:
    from email.utils import formatdate

    assert replies.retry_after({"Retry-After": "2.5"}) == 2.5
    date = formatdate(time.time() + 5000, usegmt=True)
    assert replies.retry_after({"Retry-After": date}) == pytest.approx(5000, abs=500)
    assert replies.retry_after({}) is None
    assert [replies.retry_after({"Retry-After": text}) for text in ("soon", "nan", "inf")] == [None] * 3


def away(server: Server, seconds: float) -> None:
    """From its tenth call on, the server is away for some time: connections are cut."""
    back = [0.0]

    def misbehave(number: int, handler) -> bool:
        if number >= 10 and not back[0]:
            back[0] = time.monotonic() + seconds
        if time.monotonic() < back[0]:
            handler.close_connection = True
            handler.connection.shutdown(socket.SHUT_RDWR)
            return True
        return False

    server.misbehave = misbehave


def test_an_outage_of_sixty_first_pauses_is_outlived(tmp_path: Path, serve, good) -> None:
    server = serve(FakeModel())  # 60 x 0.01 s here, as 60 x 0.5 s by default
    away(server, 0.6)
    assert run(tmp_path, server) == good


@pytest.mark.slow
def test_a_real_outage_of_five_seconds_is_outlived(tmp_path: Path, serve, good) -> None:
    server = serve(FakeModel())
    away(server, 5.0)
    assert run(tmp_path, server, "generator.retry_pause=0.5") == good


def head(handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(10**9))
    handler.end_headers()
    handler.wfile.flush()


@pytest.mark.parametrize("kind", ["silent", "head", "drip"])
def test_an_endless_answer_is_ended_by_the_timeout(tmp_path: Path, serve, kind: str) -> None:
    stop, nameless = threading.Event(), serve(FakeModel())  # which model it is does not matter here
    nameless.misbehave = lambda number, handler: (
        number
        and (
            reply(handler, 200, json.dumps(FakeModel().complete(nameless.bodies[number - 1]) | {"model": None})) or True
        )
    )
    run(tmp_path, nameless)
    saved = len(nameless.bodies)

    def misbehave(number: int, handler) -> bool:
        if number == 0:
            return False
        if kind != "silent":
            head(handler)
        while not stop.wait(0.05):
            if kind == "drip":
                try:
                    handler.wfile.write(b" ")
                    handler.wfile.flush()
                except OSError:
                    break
        return True

    server = serve(FakeModel())
    server.misbehave = misbehave
    begin = time.monotonic()
    with pytest.raises(UserError, match=rf"calls got no answer \(.*timeout x \d+.* {saved} answers are saved") as error:
        run(tmp_path, server, "synth.size=24", "generator.timeout=0.3")
    stop.set()
    assert time.monotonic() - begin < 100
    assert "no complete answer in 0.3 s (generator.timeout), after 2 retries" in str(error.value)


def test_a_reply_without_end_is_cut_off(tmp_path: Path, serve) -> None:
    def misbehave(number: int, handler) -> bool:
        if number <= 3:
            return False
        head(handler)
        try:
            while True:
                handler.wfile.write(b" " * 65536)
        except OSError:
            handler.close_connection = True
            return True

    server = serve(FakeModel())
    server.misbehave = misbehave
    with pytest.raises(UserError, match=r"reply too long x \d+.*more than 1048576 bytes, after 2 retries"):
        run(tmp_path, server, "generator.concurrency=2", limits=Limits(reply_bytes=2**20))


def test_a_fatal_end_does_not_wait_for_calls_that_hang(tmp_path: Path, serve) -> None:
    stop = threading.Event()

    def misbehave(number: int, handler) -> bool:
        if number == 6:
            time.sleep(0.2)
            reply(handler, 401, "no")
        elif number > 3:
            stop.wait(LONGEST)
        return number > 3

    server = serve(FakeModel())
    server.misbehave = misbehave
    begin = time.monotonic()
    with pytest.raises(UserError, match="answers status 401: no; no key is set"):
        run(tmp_path, server, "synth.size=24", limits=Limits(drain=0.5))
    stop.set()
    assert time.monotonic() - begin < 100


@pytest.mark.slow
def test_the_end_says_what_happened_how_often_and_what_is_kept(tmp_path: Path, serve) -> None:
    def misbehave(number: int, handler) -> bool:
        if number > 3:
            reply(handler, 500 if number % 2 else 503, '{"error": {"message": "out of\\nmemory \\u001b[31m"}}')
        return number > 3

    server = serve(FakeModel())
    server.misbehave = misbehave
    process = command("targen.generate", *overrides(tmp_path, server, "generator.max_retries=2"))
    assert process.returncode == 2
    (line,) = [line for line in process.stderr.splitlines() if line.startswith("error:")]
    assert "calls got no answer (" in line and "status 50" in line and " x " in line
    assert "out of memory ?[31m, after 2 retries. 3 answers are saved. Fix the cause and rerun the command" in line


def test_a_redirect_is_not_followed(tmp_path: Path, serve) -> None:
    server, other = serve(FakeModel()), serve(FakeModel())
    server.misbehave = lambda number, handler: reply(handler, 307, "", Location=other.url + "/chat/completions") or True
    with pytest.raises(UserError, match=rf"answers status 307 and points to {other.url}/chat/completions"):
        run(tmp_path, server)
    assert other.bodies == []
