"""Several servers that answer for one run: the work is shared, and one that goes away is done without."""

import json
import logging
import socket
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from targen.generate import generate
from targen.llm.backends.openai.pool import FIRST_ABSENCE, ServerPool
from targen.runtime.errors import UserError
from tests.support.commands import Server, files, lines, reply, settings
from tests.support.fake_model import FakeModel, served_by

NOWHERE = "http://127.0.0.1:9/v1"


def run(folder: Path, urls: list[str], *overrides: str) -> dict[str, bytes]:
    base = [*served_by(f"[{','.join(urls)}]", folder), "task=[rte]"]
    base += ["synth.contexts=4", "synth.seeds_per_context=2", "synth.size=30", "generator.retry_pause=0.01"]
    generate(settings(*base, "generator.concurrency=4", *overrides))
    return files(folder / "synthetic")


def check_asked_once(folder: Path) -> None:
    ids = [line["id"] for line in lines(folder / "calls" / "rte.jsonl")]
    assert len(ids) == len(set(ids)) > 60


def cut(number: int, handler: BaseHTTPRequestHandler) -> bool:
    handler.close_connection = True
    handler.connection.shutdown(socket.SHUT_RDWR)
    return True


@pytest.fixture
def servers(serve) -> list[Server]:
    return [serve(FakeModel(error_rate=0.05)) for _ in range(3)]


def test_a_pool_gives_the_bytes_of_one_server_and_all_of_it_work(tmp_path: Path, servers) -> None:
    alone = run(tmp_path / "one", [servers[0].url])
    request_count = len(servers[0].bodies)
    servers[0].bodies.clear()
    assert run(tmp_path / "pool", [server.url for server in servers]) == alone
    assert sum(len(server.bodies) for server in servers) == request_count
    assert min(len(server.bodies) for server in servers) > 0
    assert [len(server.probes) for server in servers] == [2, 1, 1]
    check_asked_once(tmp_path / "pool")
    run(tmp_path / "pool", [servers[2].url])  # another pool goes on with what is on record
    assert sum(len(server.bodies) for server in servers) == request_count


def test_a_server_that_was_never_there_or_goes_away_is_done_without(tmp_path: Path, servers, caplog) -> None:
    alone = run(tmp_path / "one", [servers[0].url])
    servers[1].misbehave = lambda number, handler: number > 5 and cut(number, handler)
    with caplog.at_level(logging.WARNING):
        assert run(tmp_path / "pool", [NOWHERE, servers[1].url, servers[2].url]) == alone
    check_asked_once(tmp_path / "pool")
    messages = [message for message in caplog.messages if "its calls go to the other servers" in message]
    urls = [NOWHERE, servers[1].url, servers[2].url]
    assert [url for url in urls if any(url in message for message in messages)] == urls[:2]
    assert len(servers[2].bodies) > 30


def test_a_pool_of_nobody_and_one_with_another_model_are_one_line(tmp_path: Path, servers) -> None:
    second_nowhere = "http://127.0.0.1:10/v1"
    with pytest.raises(UserError, match=f"got {NOWHERE}, {second_nowhere}, where no server answers") as caught:
        run(tmp_path / "none", [NOWHERE, second_nowhere])
    assert "\n" not in str(caught.value)
    run(tmp_path / "run", [servers[0].url])
    model = FakeModel()

    def as_another(number: int, handler: BaseHTTPRequestHandler) -> bool:
        answer = model.complete(servers[1].bodies[number - 1] if number else servers[1].probes[-1])
        reply(handler, 200, json.dumps(answer | {"model": "another"}))
        return True

    servers[1].misbehave = as_another
    with pytest.raises(UserError, match=f"generator.model: {servers[1].url} answers as 'another', expected 'fake'"):
        run(tmp_path / "run", [servers[1].url, NOWHERE], "synth.size=60")


@pytest.mark.parametrize(
    ("urls", "message"),
    [
        ("[http://a/v1,b/v1]", "generator.base_url: got 'b/v1', expected http"),
        ("[http://a/v1,http://a/v1/]", "generator.base_url: got .*, expected each exactly once"),
        ("[]", "generator.base_url: got "),
    ],
)
def test_a_pool_that_cannot_be_is_refused(urls: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        settings("generator=openai", "generator.model=m", f"generator.base_url={urls}")


def test_who_was_lost_is_left_alone_and_then_tried_by_one_call(tmp_path: Path) -> None:
    urls = ["http://a/v1", "http://b/v1"]
    generator = settings("generator=openai", "generator.model=m", f"generator.base_url=[{','.join(urls)}]").generator
    pool = ServerPool(generator, tmp_path / "canary.jsonl", None, {})
    first, second = pool.servers
    assert pool.choose(0.0) is first
    first.load = 1
    assert pool.choose(0.0) is second  # which has more room
    assert pool.choose(0.0, last_server=second) is first
    first.lose(100.0, "gone", alone=False)
    first.lose(101.0, "gone", alone=False)  # calls that were under way with the first
    assert first.away_until == 100.0 + FIRST_ABSENCE
    assert pool.choose(104.0) is second and pool.better(first, 104.0) is second
    first.load = 0
    second.load = 50
    assert pool.choose(104.9) is second and pool.choose(105.0) is first
    first.load = 1  # the one that tries
    assert pool.choose(105.0) is second
    first.lose(105.1, "gone", alone=False)
    assert first.away_until == pytest.approx(105.1 + 2 * FIRST_ABSENCE)
    second.lose(106.0, "gone", alone=False)
    assert pool.choose(107.0) is second and pool.better(second, 107.0) is None  # the first to come back
    second.answered()
    first.answered()
    assert pool.choose(107.0) is first
    pool.close()
