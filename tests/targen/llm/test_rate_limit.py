"""Requests and tokens per minute."""

import asyncio
import time
from pathlib import Path

import pytest

from targen.generate import generate
from targen.llm.backends.openai.rate_limit import MINUTE, Quota, RateLimit
from targen.llm.messages import Answer
from tests.support.commands import reply, settings
from tests.support.fake_model import FakeModel, served_by


def test_a_quota_is_spent_evenly_and_corrected() -> None:
    second = MINUTE / 60
    quota = Quota(60)
    assert quota.wait(100.0) <= 0
    quota.spend(100.0, 1)
    assert quota.wait(100.0) == pytest.approx(second)
    quota.spend(100.0 + second, 90)  # more than a minute's
    assert quota.wait(100.0 + second) == pytest.approx(90 * second)
    quota.correct(-89)
    assert quota.wait(100.0 + second) == pytest.approx(second)
    assert quota.wait(500.0) <= 0
    quota.spend(500.0, 1)  # what was not spent in the meantime is not saved up
    assert quota.wait(500.0) == pytest.approx(second)
    assert Quota(None).wait(1.0) <= 0


def body(characters: int, **limits: int) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": "x" * characters}], **limits}


def test_tokens_are_expected_before_a_call_and_counted_after_it() -> None:
    async def sleep(seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def calls() -> list[int]:
        chosen = settings("generator=openai", "generator.model=m", "generator.tokens_per_minute=1000000").generator
        limit, spent = RateLimit(chosen, sleep), []
        for number, answer in enumerate(
            (
                Answer("a", "text", "stop", {"prompt_tokens": 10, "completion_tokens": 20}, "m"),
                Answer("b", "text " * 4, "stop", {}, "m"),
                None,
            )
        ):
            request_body = body(400, max_tokens=50) if number % 2 else body(400, max_completion_tokens=50)
            before = limit._tokens._free_at
            expected = await limit.enter(request_body, lambda: False)
            assert expected == 150
            before = max(before, limit._tokens._free_at - 150 * MINUTE / 1e6)
            limit.leave(expected, request_body, answer)
            spent.append(round((limit._tokens._free_at - before) * 1e6 / MINUTE))
        return spent

    assert asyncio.run(calls()) == [30, 105, 0]


def test_a_pool_with_refusals_keeps_the_limit(tmp_path: Path, serve) -> None:
    per_minute, times = 3000, []

    def misbehave(number: int, handler) -> bool:
        times.append(time.monotonic())
        if number % 7 == 3:
            reply(handler, 500, "")
        return number % 7 == 3

    servers = [serve(FakeModel()) for _ in range(2)]
    for server in servers:
        server.misbehave = misbehave
    base = [*served_by(f"[{','.join(server.url for server in servers)}]", tmp_path), "task=rte", "synth.size=30"]
    generate(
        settings(*base, "synth.contexts=4", "generator.retry_pause=0.01", f"generator.requests_per_minute={per_minute}")
    )
    assert min(len(server.bodies) for server in servers) > 0
    times.sort()
    assert len(times) > 60
    assert (len(times) - 1) * 60 / per_minute <= times[-1] - times[0]
    for earlier, later in zip(times, times[20:], strict=False):  # no twenty at once either; calls arrive unevenly
        assert later - earlier > 20 * 60 / per_minute - 0.3


def test_tokens_per_minute_slow_a_run_down_by_what_it_used(tmp_path: Path, serve) -> None:
    server, times = serve(FakeModel()), []
    server.misbehave = lambda number, handler: times.append(time.monotonic()) or False
    base = [*served_by(server.url, tmp_path), "task=rte", "synth.size=6", "synth.contexts=4"]
    generate(settings(*base, "generator.tokens_per_minute=300000"))
    tokens = sum(len(message["content"]) for request in server.bodies for message in request["messages"]) / 4
    assert times[-1] - times[0] >= 0.8 * tokens / 300_000 * 60
