"""The servers of one run. Each has its own pace and probe; one that cannot be reached gets no calls for a while."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from aiohttp import BasicAuth

from targen.config.groups.generation import Generator
from targen.llm.backends.openai.connection import Route, route_to
from targen.llm.backends.openai.pace import LONGEST_PAUSE, Pace
from targen.llm.backends.openai.structured import StructuredOutputs
from targen.llm.provider_body import body_changes

log = logging.getLogger(__name__)
FIRST_ABSENCE = 5.0  # seconds without calls for a server that was lost; doubled while it stays unreachable


class Server:
    """One address and the state of its server."""

    def __init__(self, settings: Generator, base_url: str, canary: Path, route: Route) -> None:
        self.settings = replace(settings, base_url=base_url)
        self.base_url = base_url
        self.url, self.headers = route.url, route.headers
        proxy = route.proxy
        self.proxy_url = proxy.url if proxy is not None else None
        self.proxy_auth = BasicAuth(proxy.user, proxy.password, "utf-8") if proxy is not None and proxy.user else None
        self.pace = Pace(settings.concurrency)
        self.structured = StructuredOutputs(base_url, settings.model, canary, body_changes(settings))
        self.reached = False
        self.answers = 0  # to requests of the run
        self.unprobed = 0  # calls sent before the probe was answered
        self.load = 0  # calls assigned to it that have not ended
        self.away_until = 0.0  # on the loop's clock
        self._lost = 0  # how often in a row it was lost

    def answered(self) -> None:
        """Records that the server answered: it is up."""
        self.reached, self.away_until, self._lost = True, 0.0, 0

    def lose(self, now: float, reason: str, alone: bool) -> None:
        """Records that the server cannot be reached: it gets no calls for a while."""
        if now < self.away_until:
            return  # calls under way at the same time fail together
        self._lost += 1
        seconds = min(FIRST_ABSENCE * 2.0 ** (self._lost - 1), LONGEST_PAUSE)
        self.away_until = now + seconds
        if not alone and self._lost == 1:
            log.warning("generate: %s cannot be reached (%s); its calls go to the other servers", self.url, reason)

    def is_ready(self, now: float) -> bool:
        """Whether calls may go there. After an absence, one call goes alone first."""
        return self._lost == 0 or (now >= self.away_until and self.load == 0)


class ServerPool:
    """The servers of `generator.base_url`, reached with this key and as the environment says.

    Raises: UserError if the environment names a proxy that cannot be used.
    """

    def __init__(self, settings: Generator, canary: Path, key: str | None, environment: Mapping[str, str]) -> None:
        records = [
            canary,
            *(canary.with_name(f"{canary.stem}-{n}.jsonl") for n in range(2, len(settings.base_urls) + 1)),
        ]
        self.servers: Sequence[Server] = tuple(
            Server(settings, url, record, route_to(url, key, environment))
            for url, record in zip(settings.base_urls, records, strict=True)
        )
        for server in self.servers:
            if server.proxy_url is not None:
                log.info("generate: %s is asked through the proxy %s of the environment", server.url, server.proxy_url)

    @property
    def alone(self) -> bool:
        """Whether there is only one server, so that calls cannot move."""
        return len(self.servers) == 1

    @property
    def reached(self) -> bool:
        """Whether any server has answered."""
        return any(server.reached for server in self.servers)

    def choose(self, now: float, last_server: Server | None = None) -> Server:
        """The ready server with the most room, if possible not `last_server`; if none is ready, the first to be tried again."""
        if self.alone:
            return self.servers[0]
        ready = [server for server in self.servers if server.is_ready(now)]
        if not ready:
            return min(self.servers, key=lambda server: server.away_until)
        others = [server for server in ready if server is not last_server]
        return min(others or ready, key=lambda server: server.load / server.pace.places)

    def better(self, server: Server, now: float) -> Server | None:
        """A ready server for a call whose own server was lost while the call waited; None if it should stay."""
        if now >= server.away_until:
            return None
        alternative = self.choose(now, server)
        return alternative if alternative is not server and alternative.is_ready(now) else None

    def close(self) -> None:
        """Closes the logs of the probes."""
        for server in self.servers:
            server.structured.close()
