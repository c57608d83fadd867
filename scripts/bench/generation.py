"""How fast generation is: ratios measured in one run, on this machine, against a local server.

    python scripts/bench/generation.py                    # all measurements
    python scripts/bench/generation.py throughput faults  # some

Prints one line a measurement: what, the ratio or number, the bound it is held against. Times of different machines or of
different runs cannot be compared; the ratios can.
"""

import asyncio
import json
import multiprocessing
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from aiohttp import web

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from fake_model import FakeModel  # noqa: E402

from targen.calls import CallLog  # noqa: E402
from targen.cli import compose  # noqa: E402
from targen.config import settings_from  # noqa: E402
from targen.generate import generate  # noqa: E402
from targen.jsonl import dumps  # noqa: E402


@dataclass(frozen=True)
class Behaviour:
    """What the server does beside answering: seconds a call takes, share of 429, the file its requests go to."""

    latency: float
    refused: float = 0.0
    bodies: str | None = None


def _server(port: "multiprocessing.Value[int]", behaviour: Behaviour) -> None:
    chance, model = random.Random(0), FakeModel()
    log = Path(behaviour.bodies).open("wb") if behaviour.bodies else None  # noqa: SIM115  (open as long as the server)

    async def answer(request: web.Request) -> web.Response:
        raw = await request.read()
        if log is not None:
            log.write(raw + b"\n")
            log.flush()
        await asyncio.sleep(behaviour.latency)
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


class Server:
    """A server in a process of its own."""

    def __init__(self, behaviour: Behaviour) -> None:
        port = multiprocessing.Value("i", 0)
        self._process = multiprocessing.Process(target=_server, args=(port, behaviour), daemon=True)
        self._process.start()
        while port.value == 0:
            time.sleep(0.01)
        self.url = f"http://127.0.0.1:{port.value}/v1"

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *error: object) -> None:
        self._process.terminate()
        self._process.join()


def run(folder: Path, url: str, concurrency: int, size: int, *overrides: str) -> tuple[int, float]:
    """(calls, seconds) of a generate phase over four tasks."""
    base = ["+experiment=quickstart", "generator=openai", "generator.model=fake", f"generator.base_url={url}"]
    base += [f"generator.concurrency={concurrency}", f"run.dir={folder}", "task=[boolq,cb,copa,rte]"]
    base += [f"synth.size={size}", "synth.contexts=40", "synth.seeds_per_context=5"]
    settings = settings_from(compose([*base, *overrides]))
    start = time.monotonic()
    generate(settings)
    seconds = time.monotonic() - start
    return sum(1 for path in (folder / "calls").glob("*.jsonl") for _ in path.open()), seconds


async def bare(url: str, bodies: list[bytes], concurrency: int) -> float:
    """Seconds that a bare aiohttp loop takes for the same calls: post, read, parse, nothing else."""
    waiting = iter(bodies)

    async def worker(session: aiohttp.ClientSession) -> None:
        for body in waiting:
            async with session.post(f"{url}/chat/completions", data=body, headers=headers) as response:
                await response.json()

    headers = {"Content-Type": "application/json"}
    start = time.monotonic()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=concurrency)) as session:
        await asyncio.gather(*(worker(session) for _ in range(concurrency)))
    return time.monotonic() - start


def throughput(folder: Path) -> None:
    log = folder / "bodies.jsonl"
    with Server(Behaviour(0.05, bodies=str(log))) as server:
        calls, ours = run(folder / "run", server.url, 128, 1440)
    bodies = log.read_bytes().splitlines()
    with Server(Behaviour(0.05)) as server:
        theirs = asyncio.run(bare(server.url, bodies, 128))
    say(
        "calls/s at 50 ms, 128 at once, versus a bare aiohttp loop",
        (calls / ours) / (len(bodies) / theirs),
        ">= 0.8",
        f"{calls} calls",
    )


def slow_server(folder: Path) -> None:
    """Steps 3 and 4, from instance seeds on file: steps 1 and 2 have few calls and could not fill 256 places."""
    seeds = folder / "seeds"
    seeds.mkdir()
    lines = (dumps({"premise": f"On day {number} the mill by the river burned down."}) + "\n" for number in range(1000))
    (seeds / "rte.jsonl").write_text("".join(lines))
    overrides = ["task=rte", "synth.seed_source=file", f"synth.seed_dir={seeds}"]
    log = folder / "bodies.jsonl"
    with Server(Behaviour(1.0, bodies=str(log))) as server:
        calls, seconds = run(folder / "run", server.url, 256, 1000, *overrides)
    with Server(Behaviour(1.0)) as server:
        theirs = asyncio.run(bare(server.url, log.read_bytes().splitlines(), 256))
    ideal = calls / 256
    say("time at 1 s, 256 at once, versus calls / concurrency x latency", seconds / ideal, "<= 1.1", f"{calls} calls")
    say("the same of a bare aiohttp loop, for comparison", theirs / ideal, "", "")


def faults(folder: Path) -> None:
    times = []
    for refused in (0.0, 0.03):
        with Server(Behaviour(0.05, refused)) as server:
            times.append(run(folder / f"run{refused}", server.url, 128, 480)[1])
    say("time with 3 % of answers 429, versus none", times[1] / times[0], "<= 1.5", "")


def resume(folder: Path) -> None:
    path, count = folder / "calls.jsonl", 1_000_000
    with path.open("w") as file:
        for number in range(count):
            record = {"id": f"rte-generation-c{number % 2}-{number:07d}-a0-{number:012x}", "step": "generation"}
            record |= {
                "prompt_hash": f"{number:064x}",
                "text": '{"hypothesis": "A sentence of usual length, as models write them."}',
            }
            file.write(dumps(record | {"finish_reason": "stop", "usage": {"prompt_tokens": 200}, "model": "m"}) + "\n")
    process = multiprocessing.Process(target=_scan, args=(path, folder / "scan.json"))
    process.start()
    process.join()
    found = json.loads((folder / "scan.json").read_text())
    say("seconds to read 1,000,000 recorded calls", found["seconds"], "< 15", "")
    say("memory for it, MB", found["mb"], "< 600", "")


def _scan(path: Path, result: Path) -> None:
    start = time.monotonic()
    calls = CallLog([("rte", path)])
    seconds, used = time.monotonic() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    assert len(calls) == 1_000_000
    result.write_text(json.dumps({"seconds": seconds, "mb": used}))


def first_request(folder: Path) -> None:
    log = folder / "bodies.jsonl"
    with Server(Behaviour(0.0, bodies=str(log))) as server:
        start = time.time()
        overrides = [
            "generator=openai",
            "generator.model=fake",
            f"generator.base_url={server.url}",
            f"run.dir={folder / 'run'}",
        ]
        process = subprocess.Popen(
            [sys.executable, "-m", "targen.generate", *overrides], cwd=ROOT, stderr=subprocess.DEVNULL
        )
        while not log.exists() or log.stat().st_size == 0:
            time.sleep(0.005)
        seconds = time.time() - start
        process.terminate()
        process.wait()
    say("seconds from start to the first request", seconds, "< 2", "")


def say(what: str, value: float, bound: str, detail: str) -> None:
    print(f"{what:64} {value:8.2f}   {bound:8} {detail}", flush=True)


MEASUREMENTS: dict[str, Callable[[Path], None]] = {
    "throughput": throughput,
    "slow_server": slow_server,
    "faults": faults,
    "resume": resume,
    "first_request": first_request,
}


if __name__ == "__main__":
    os.environ.setdefault("PYTHONHASHSEED", "0")
    for name in sys.argv[1:] or MEASUREMENTS:
        with tempfile.TemporaryDirectory() as directory:
            MEASUREMENTS[name](Path(directory))
