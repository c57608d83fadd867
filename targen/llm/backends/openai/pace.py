"""How many calls run at once, and how long a call waits before its next try."""

import asyncio
import random
from collections import deque
from collections.abc import Callable

RECENT = 50  # number of latest calls over which the share of refused ones is taken
TOO_MANY = 0.2  # share of refused calls above which the server is overloaded; a few per cent are normal
LONGEST_PAUSE = 60.0  # seconds
JITTER = (0.5, 1.0)  # bounds of the random factor on a pause


class Pace:
    """Places for calls: halved when the server is overloaded, and raised again up to `maximum` while calls succeed.

    They double up to the number at which the server was last overloaded; from there they grow by an eighth.
    """

    def __init__(self, maximum: int) -> None:
        self.places, self._maximum, self._in_use = maximum, maximum, 0
        self._queue: deque[asyncio.Future[None]] = deque()
        self._recent: deque[bool] = deque(maxlen=RECENT)  # True: refused
        self._changes = 0
        self._overloaded_at = 2 * maximum

    async def enter(self, again: bool = False) -> int:
        """Waits for a place; returns the value to pass to `leave`. A retried call goes first, since more steps wait for it."""
        if self._in_use >= self.places:
            await self._turn(again)
        else:
            self._in_use += 1
        return self._changes

    def leave(self, entered: int, refused: bool | None) -> None:
        """Frees the place. `refused`: whether the server was overloaded; None if the call does not show it."""
        if refused is not None and entered == self._changes:
            self._record(refused)  # a call from before the last change does not count for the present number
        self._in_use -= 1
        self._fill()

    async def _turn(self, again: bool) -> None:
        turn = asyncio.get_running_loop().create_future()
        (self._queue.appendleft if again else self._queue.append)(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # its turn had come
                self._in_use -= 1
                self._fill()
            raise

    def _fill(self) -> None:
        while self._in_use < self.places and self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                self._in_use += 1
                turn.set_result(None)

    def _record(self, refused: bool) -> None:
        self._recent.append(refused)
        count, refusals = len(self._recent), sum(self._recent) if refused or self.places < self._maximum else 0
        if refusals > TOO_MANY * RECENT:
            # refused even one at a time: it was down, which says nothing about its capacity
            self._overloaded_at = self.places if self.places > 1 else 2 * self._maximum
            self._change(max(1, self.places // 2))
        elif self.places < self._maximum and count >= min(RECENT, 2 * self.places) and refusals <= TOO_MANY * count:
            increase = self.places if 2 * self.places < self._overloaded_at else max(1, self.places // 8)
            self._change(min(self._maximum, self.places + increase))

    def _change(self, places: int) -> None:
        self.places, self._changes = places, self._changes + 1
        self._recent.clear()
        self._fill()


def pause(
    initial: float, attempt: int, requested: float | None, draw: Callable[[float, float], float] = random.uniform
) -> float:
    """Seconds to wait after failed try number `attempt` (from 0): doubled each time, with jitter so that calls spread out.

    `requested` is the pause that the server asks for. It lengthens the pause and never shortens it: a server that is down and
    asks for no pause would use up all tries.
    """
    backoff = min(initial * 2.0**attempt, LONGEST_PAUSE) * draw(*JITTER)
    return backoff if requested is None else max(backoff, min(max(requested, 0.0), LONGEST_PAUSE) * draw(1.0, 1.1))
