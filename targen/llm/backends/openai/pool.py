"""The servers that answer for one run: each with its own pace and probe; one that cannot be reached is left alone for a while."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from targen.config.groups.generation import Generator
from targen.llm.backends.openai.pace import LONGEST_PAUSE, Pace
from targen.llm.backends.openai.structured import StructuredOutputs

log = logging.getLogger(__name__)
FIRST_REST = 5.0  # seconds that a server which was lost is left alone; doubled while it stays away


class Server:
    """One address, and what is known of it."""

    def __init__(self, settings: Generator, base_url: str, canary: Path) -> None:
        self.settings = replace(settings, base_url=base_url)
        self.base_url = base_url
        self.url = base_url.rstrip("/") + "/chat/completions"
        self.pace = Pace(settings.concurrency)
        self.structured = StructuredOutputs(base_url, settings.model, canary)
        self.reached = False
        self.unprobed = 0  # calls let past the probe
        self.load = 0  # calls that were given to it and have not left it
        self.away_until = 0.0  # of the loop's clock
        self._lost = 0  # times, one after the other

    def answered(self) -> None:
        """Notes that the server answered: it is not down."""
        self.reached, self.away_until, self._lost = True, 0.0, 0

    def lose(self, now: float, why: str, alone: bool) -> None:
        """It cannot be reached: nothing goes there for a while."""
        if now < self.away_until:
            return  # calls that were under way together fail together
        self._lost += 1
        rest = min(FIRST_REST * 2.0 ** (self._lost - 1), LONGEST_PAUSE)
        self.away_until = now + rest
        if not alone and self._lost == 1:
            log.warning("generate: %s cannot be reached (%s); its calls go to the other servers", self.url, why)

    def is_ready(self, now: float) -> bool:
        """Whether calls may go there; after an absence one goes first."""
        return self._lost == 0 or (now >= self.away_until and self.load == 0)


class ServerPool:
    """The servers of `generator.base_url`."""

    def __init__(self, settings: Generator, canary: Path) -> None:
        records = [
            canary,
            *(canary.with_name(f"{canary.stem}-{n}.jsonl") for n in range(2, len(settings.base_urls) + 1)),
        ]
        self.servers: Sequence[Server] = tuple(
            Server(settings, url, record) for url, record in zip(settings.base_urls, records, strict=True)
        )

    @property
    def alone(self) -> bool:
        """Whether there is only one server, so that calls cannot move."""
        return len(self.servers) == 1

    @property
    def reached(self) -> bool:
        """Whether any has answered."""
        return any(server.reached for server in self.servers)

    def choose(self, now: float, last: Server | None = None) -> Server:
        """The one with the most room, another than `last` where one is ready; where none is, the first to come back."""
        ready = [server for server in self.servers if server.is_ready(now)]
        if not ready:
            return min(self.servers, key=lambda server: server.away_until)
        others = [server for server in ready if server is not last]
        return min(others or ready, key=lambda server: server.load / server.pace.places)

    def better(self, server: Server, now: float) -> Server | None:
        """One that is ready, for a call that waited at a server which has gone away meanwhile."""
        if now >= server.away_until:
            return None
        alternative = self.choose(now, server)
        return alternative if alternative is not server and alternative.is_ready(now) else None

    def close(self) -> None:
        """Ends the check of servers that are down."""
        for server in self.servers:
            server.structured.close()
