"""An OpenAI-compatible server for measurements, in a process of its own, with latency and errors as in practice."""

import asyncio
import hashlib
import json
import math
import multiprocessing
import random
import time
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web
from scale import Varied

from tests.support.fake_model import FakeModel


@dataclass(frozen=True)
class Behaviour:
    """How the server behaves: `latency` in seconds per call, `refused`, the share of replies with status 429.

    `bodies`: a file for the bodies of all requests. `spread`: latencies are drawn per request, with `latency` as median.
    `errors`: the share of unusable answers. `varied`: distinct texts of usual length.
    """

    latency: float
    refused: float = 0.0
    bodies: str | None = None
    spread: bool = False
    errors: float = 0.0
    varied: bool = False


def drawn_latency(median: float, prompt_hash: str) -> float:
    """Seconds: lognormal with sigma 1, and one call in twenty takes ten times as long; equal for equal requests."""
    chance = random.Random(prompt_hash)
    return median * math.exp(chance.gauss(0, 1)) * (10 if chance.random() < 0.05 else 1)


def prompt_hash(raw: bytes) -> str:
    """The hash that a call on record has for this request."""
    return hashlib.sha256(json.dumps(json.loads(raw), sort_keys=True).encode()).hexdigest()


def _server(port: "multiprocessing.Value[int]", behaviour: Behaviour) -> None:
    chance, model = random.Random(0), (Varied if behaviour.varied else FakeModel)(error_rate=behaviour.errors)
    log = Path(behaviour.bodies).open("wb") if behaviour.bodies else None  # noqa: SIM115  (open as long as the server)

    async def answer(request: web.Request) -> web.Response:
        raw = await request.read()
        if log is not None:
            log.write(raw + b"\n")
            log.flush()
        await asyncio.sleep(
            drawn_latency(behaviour.latency, prompt_hash(raw)) if behaviour.spread else behaviour.latency
        )
        if chance.random() < behaviour.refused:
            return web.Response(status=429, headers={"Retry-After": "0.2"})
        return web.json_response(model.complete(json.loads(raw)))

    async def start() -> None:
        app = web.Application(client_max_size=2**24)
        app.router.add_post("/v1/chat/completions", answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, backlog=1024)
        await site.start()
        port.value = site._server.sockets[0].getsockname()[1]
        await asyncio.Event().wait()

    asyncio.run(start())


class FakeServer:
    """The server, which runs in a subprocess until the `with` block ends."""

    def __init__(self, behaviour: Behaviour) -> None:
        port = multiprocessing.Value("i", 0)
        self._process = multiprocessing.Process(target=_server, args=(port, behaviour), daemon=True)
        self._process.start()
        while port.value == 0:
            time.sleep(0.01)
        self.url = f"http://127.0.0.1:{port.value}/v1"

    def __enter__(self) -> "FakeServer":
        return self

    def __exit__(self, *error: object) -> None:
        self._process.terminate()
        self._process.join()
