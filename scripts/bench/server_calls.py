"""How fast generation asks a server: throughput, slow and faulty servers, the stream of steps, the first request."""

import asyncio
import heapq
import json
import random
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path

import aiohttp
from fake_server import Behaviour, FakeServer, drawn_latency
from measurement import print_measurement
from scale import text_of

from targen.config.loading import settings_from
from targen.generate import generate
from targen.runtime.cli import compose
from targen.runtime.jsonl import dumps
from targen.runtime.paths import PROJECT


def run(folder: Path, url: str, concurrency: int, size: int, *overrides: str) -> tuple[int, float]:
    """(number of calls, seconds) of a generate phase over four tasks."""
    base = ["+experiment=quickstart", "generator=openai", "generator.model=fake", f"generator.base_url={url}"]
    base += [f"generator.concurrency={concurrency}", f"run.dir={folder}", "task=[boolq,cb,copa,rte]"]
    base += [f"synth.size={size}", "synth.contexts=40", "synth.seeds_per_context=5"]
    base += ["synth.learnability_rows=0"]  # it comes after the calls
    settings = settings_from(compose([*base, *overrides]))
    start = time.monotonic()
    generate(settings)
    seconds = time.monotonic() - start
    return len(calls_of(folder)), seconds


def calls_of(folder: Path) -> dict[str, str]:
    """The prompt hash of every call of a run, by id, without the probe."""
    paths = [path for path in (folder / "calls").glob("*.jsonl") if path.stem != "canary"]
    return {call["id"]: call["prompt_hash"] for path in paths for call in map(json.loads, path.open())}


async def plain_seconds(url: str, bodies: list[bytes], concurrency: int) -> float:
    """Seconds that a plain aiohttp loop takes for the same calls: post, read, parse, nothing else."""
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
    """Calls per second, against a plain aiohttp loop that sends the same requests."""
    calls, ratio = measured_throughput(folder, 2880)
    print_measurement("calls/s at 50 ms, 128 at once, versus a bare aiohttp loop", ratio, ">= 0.8", f"{calls} calls")


def measured_throughput(folder: Path, size: int) -> tuple[int, float]:
    """(calls, calls per second in units of those of the plain loop) of a run of so many rows per task."""
    log = folder / "bodies.jsonl"
    with FakeServer(Behaviour(0.05, bodies=str(log))) as server:
        calls, ours = run(folder / "run", server.url, 128, size)
    bodies = log.read_bytes().splitlines()
    with FakeServer(Behaviour(0.05)) as server:
        theirs = asyncio.run(plain_seconds(server.url, bodies, 128))
    return calls, (calls / ours) / (len(bodies) / theirs)


def slow_server(folder: Path) -> None:
    """Time of steps 3 and 4 at 1 s per call. Instance seeds come from a file: steps 1 and 2 have too few calls for 256 at once."""
    seeds = folder / "seeds"
    seeds.mkdir()
    lines = (dumps({"premise": text_of(random.Random(number), 20)}) + "\n" for number in range(1000))
    (seeds / "rte.jsonl").write_text("".join(lines))
    overrides = ["task=rte", "synth.seed_source=file", f"synth.seed_dir={seeds}"]
    log = folder / "bodies.jsonl"
    with FakeServer(Behaviour(1.0, bodies=str(log))) as server:
        calls, seconds = run(folder / "run", server.url, 256, 1000, *overrides)
    with FakeServer(Behaviour(1.0)) as server:
        theirs = asyncio.run(plain_seconds(server.url, log.read_bytes().splitlines(), 256))
    ideal = calls / 256
    bound = 1.1 * theirs / ideal if theirs / ideal > 1.05 else 1.1  # no more than the machine itself can do is required
    print_measurement(
        "time at 1 s, 256 at once, versus calls / concurrency x latency",
        seconds / ideal,
        f"<= {bound:.2f}",
        f"{calls} calls",
    )
    print_measurement("the same of a bare aiohttp loop, for comparison", theirs / ideal, "", "")


def faults(folder: Path) -> None:
    """How much longer a run takes if the server refuses 3 % of all calls."""
    times = []
    for refused in (0.0, 0.03):
        with FakeServer(Behaviour(0.05, refused)) as server:
            times.append(run(folder / f"run{refused}", server.url, 128, 480)[1])
    print_measurement("time with 3 % of answers 429, versus none", times[1] / times[0], "<= 1.5", "")


def stream(folder: Path) -> None:
    """Time of all four steps with varying latency, against a simulation of the same calls."""
    median = 0.1
    for concurrency in (512, 32):
        run_folder = folder / str(concurrency)
        with FakeServer(Behaviour(median, spread=True, errors=0.05)) as server:
            calls, seconds = run(run_folder, server.url, concurrency, 240)
        ideal = simulated(run_folder, median, concurrency)
        what = f"four steps as a stream, {concurrency} at once, versus a simulation of the calls"
        print_measurement(what, seconds / ideal, "<= 1.15", f"{calls} calls, {ideal:.2f} s simulated")


def simulated(folder: Path, median: float, concurrency: int) -> float:
    """Seconds that the calls of a run take if each starts as soon as its inputs exist and fewer than `concurrency` run."""
    seconds = {id: drawn_latency(median, digest) for id, digest in calls_of(folder).items()}
    followers: dict[str | None, list[str]] = {}
    for id, awaited in awaited_calls(folder, seconds).items():
        followers.setdefault(awaited, []).append(id)
    waiting, running, now = deque(followers.get(None, [])), [], 0.0
    while waiting or running:
        while waiting and len(running) < concurrency:
            id = waiting.popleft()
            heapq.heappush(running, (now + seconds[id], id))
        now, id = heapq.heappop(running)
        waiting.extend(followers.get(id, []))
    return now


def awaited_calls(folder: Path, ids: Iterable[str]) -> dict[str, str | None]:
    """The call that each call waits for: first rounds of contexts, then the calls of each slot, attempt after attempt."""
    awaited: dict[str, str | None] = {}
    for path in filter(Path.is_dir, (folder / "synthetic").iterdir()):
        rounds = sorted(id for id in ids if id.startswith(f"{path.name}-contexts-"))
        awaited |= dict(zip(rounds, [None, *rounds], strict=False))
        chains = [json.loads(line) for name in ("provenance", "rejects") for line in (path / f"{name}.jsonl").open()]
        last: dict[str, str] = {}
        for chain in sorted(chains, key=lambda chain: (chain["slot"], chain["attempt"])):
            before = last.get(chain["slot"], rounds[-1])
            for id in chain["call_ids"]:
                awaited.setdefault(id, before)
                before = id
            last[chain["slot"]] = before
    return awaited


def first_request(folder: Path) -> None:
    """Seconds from the start of the command to the first request at the server."""
    log = folder / "bodies.jsonl"
    with FakeServer(Behaviour(0.0, bodies=str(log))) as server:
        start = time.time()
        overrides = ["generator=openai", "generator.model=fake", f"generator.base_url={server.url}"]
        overrides += [f"run.dir={folder / 'run'}"]
        process = subprocess.Popen(
            [sys.executable, "-m", "targen.generate", *overrides], cwd=PROJECT, stderr=subprocess.DEVNULL
        )
        while not log.exists() or log.stat().st_size == 0:
            time.sleep(0.005)
        seconds = time.time() - start
        process.terminate()
        process.wait()
    print_measurement("seconds from start to the first request", seconds, "< 2", "")
