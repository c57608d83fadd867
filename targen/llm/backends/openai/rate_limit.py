"""Requests and tokens per minute, as providers limit them: one limit for all servers and all calls of this process."""

import asyncio
from collections.abc import Awaitable, Callable

from targen.config.groups.generation import Generator
from targen.llm.messages import Answer
from targen.runtime.jsonl import Json

MINUTE = 60.3  # seconds; a little more, since calls take unequally long to arrive
RECHECK = 0.2  # seconds after which a call that waits looks again: answers correct what was expected
CHARACTERS_PER_TOKEN = 4


class Quota:
    """An amount per minute, spent evenly: whenever a minute begins, no more than the amount is spent in it."""

    def __init__(self, per_minute: int | None) -> None:
        self._seconds = MINUTE / per_minute if per_minute else 0.0  # of one unit
        self._free_at = 0.0

    def wait(self, now: float) -> float:
        """Seconds until more may be spent."""
        return self._free_at - now

    def spend(self, now: float, amount: float) -> None:
        """Spends an amount, which may be larger than that of a minute."""
        self._free_at = max(self._free_at, now) + amount * self._seconds

    def correct(self, amount: float) -> None:
        """Adds to what was spent; a negative amount gives it back."""
        self._free_at += amount * self._seconds


class RateLimit:
    """The limits of `generator.requests_per_minute` and `generator.tokens_per_minute`; each may be missing.

    `sleep` waits for some seconds, or less if the run is ending.
    """

    def __init__(self, settings: Generator, sleep: Callable[[float], Awaitable[None]]) -> None:
        self._is_off = settings.requests_per_minute is None and settings.tokens_per_minute is None
        self._requests, self._tokens = Quota(settings.requests_per_minute), Quota(settings.tokens_per_minute)
        self._sleep = sleep
        self._turn = asyncio.Lock()  # calls go in the order in which they came

    async def enter(self, body: Json, is_ending: Callable[[], bool]) -> int:
        """Waits until a request may be sent, or the run is ending; the most tokens that are expected of it."""
        if self._is_off:
            return 0
        expected = _prompt_tokens(body) + int(body.get("max_tokens") or body.get("max_completion_tokens") or 0)
        loop = asyncio.get_running_loop()
        async with self._turn:
            while not is_ending():
                seconds = max(self._requests.wait(loop.time()), self._tokens.wait(loop.time()))
                if seconds <= 0:
                    break
                await self._sleep(min(seconds, RECHECK))
            self._requests.spend(loop.time(), 1)
            self._tokens.spend(loop.time(), expected)
        return expected

    def leave(self, expected: int, body: Json, answer: Answer | None) -> None:
        """Corrects the expected tokens to those of the answer, as the server counted them; None: there was none."""
        if self._is_off:
            return
        used_tokens = 0
        if answer is not None:
            used_tokens = sum(answer.usage.values()) or _prompt_tokens(body) + len(answer.text) // CHARACTERS_PER_TOKEN
        self._tokens.correct(used_tokens - expected)


def _prompt_tokens(body: Json) -> int:
    """The tokens of the prompt, estimated from its length."""
    return sum(len(str(message["content"])) for message in body["messages"]) // CHARACTERS_PER_TOKEN
