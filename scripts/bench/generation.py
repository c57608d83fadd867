"""How fast generation is: ratios measured in one run, on this machine, against a local server.

    python scripts/bench/generation.py                    # all measurements
    python scripts/bench/generation.py throughput faults  # some
    .venv-vllm/bin/python scripts/bench/generation.py vllm  # where vLLM is (bash scripts/test_vllm.sh sets it up)

Prints one line a measurement: what, the ratio or number, the bound it is held against. Times of different machines or of
different runs cannot be compared; the ratios can.
"""

import asyncio
import hashlib
import heapq
import importlib.util
import json
import math
import multiprocessing
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts" / "bench")]

from scale import (
    ROWS,
    SHARDS,
    Varied,
    bytes_of,
    find_near_duplicates,
    into_shards,
    make_rows,
    measured,
    put_together,
    text_of,
)

from targen.config.groups.generation import Generator, Sampling
from targen.config.loading import settings_from
from targen.config.settings import Settings
from targen.generate import generate, recipes
from targen.llm.call_log import CallLog
from targen.llm.messages import LLM as LanguageModel
from targen.llm.messages import Answer, Request, make_request
from targen.runtime.cli import compose
from targen.runtime.jsonl import dumps
from targen.synthesis.prompts import generation_prompt
from tests.support.fake_model import FakeModel


@dataclass(frozen=True)
class Behaviour:
    """What the server does beside answering: seconds a call takes, share of 429, the file its requests go to.

    `spread`: seconds are drawn per request, and `latency` is their median. `errors`: share of unusable answers.
    `varied`: texts of usual length, no two alike.
    """

    latency: float
    refused: float = 0.0
    bodies: str | None = None
    spread: bool = False
    errors: float = 0.0
    varied: bool = False


def drawn_latency(median: float, prompt_hash: str) -> float:
    """Lognormal with sigma 1, and one call in twenty takes ten times as long; equal for equal requests."""
    chance = random.Random(prompt_hash)
    return median * math.exp(chance.gauss(0, 1)) * (10 if chance.random() < 0.05 else 1)


def _server(port: "multiprocessing.Value[int]", behaviour: Behaviour) -> None:
    chance, model = random.Random(0), (Varied if behaviour.varied else FakeModel)(error_rate=behaviour.errors)
    log = Path(behaviour.bodies).open("wb") if behaviour.bodies else None  # noqa: SIM115  (open as long as the server)

    async def answer(request: web.Request) -> web.Response:
        raw = await request.read()
        if log is not None:
            log.write(raw + b"\n")
            log.flush()
        drawn = drawn_latency(behaviour.latency, hashlib.sha256(raw).hexdigest()) if behaviour.spread else None
        await asyncio.sleep(behaviour.latency if drawn is None else drawn)
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
    return len(calls_of(folder)), seconds


def calls_of(folder: Path) -> dict[str, str]:
    """Prompt hash of every call of a run, by id; the probe is none of them."""
    paths = [path for path in (folder / "calls").glob("*.jsonl") if path.stem != "canary"]
    return {call["id"]: call["prompt_hash"] for path in paths for call in map(json.loads, path.open())}


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
        calls, ours = run(folder / "run", server.url, 128, 2880)
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
    lines = (dumps({"premise": text_of(random.Random(number), 20)}) + "\n" for number in range(1000))
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


def stream(folder: Path) -> None:
    median = 0.1
    for places in (512, 32):
        made = folder / str(places)
        with Server(Behaviour(median, spread=True, errors=0.05)) as server:
            calls, seconds = run(made, server.url, places, 240)
        ideal = simulated(made, median, places)
        what = f"four steps as a stream, {places} at once, versus a simulation of the calls"
        say(what, seconds / ideal, "<= 1.15", f"{calls} calls, {ideal:.2f} s simulated")


def simulated(folder: Path, median: float, places: int) -> float:
    """Seconds that the calls of a run take when each begins as soon as what it needs is there and a place is free."""
    seconds = {id: drawn_latency(median, digest) for id, digest in calls_of(folder).items()}
    needs = needs_of(folder, seconds)
    followers: dict[str | None, list[str]] = {}
    for id, needed in needs.items():
        followers.setdefault(needed, []).append(id)
    waiting, running, now = deque(followers.get(None, [])), [], 0.0
    while waiting or running:
        while waiting and len(running) < places:
            id = waiting.popleft()
            heapq.heappush(running, (now + seconds[id], id))
        now, id = heapq.heappop(running)
        waiting.extend(followers.get(id, []))
    return now


def needs_of(folder: Path, ids: Iterable[str]) -> dict[str, str | None]:
    """The call that each call waits for: contexts in rounds, then the calls of each attempt of a slot one after the other."""
    needs: dict[str, str | None] = {}
    for path in filter(Path.is_dir, (folder / "synthetic").iterdir()):
        rounds = sorted(id for id in ids if id.startswith(f"{path.name}-contexts-"))
        needs |= dict(zip(rounds, [None, *rounds], strict=False))
        chains = [json.loads(line) for name in ("provenance", "rejects") for line in (path / f"{name}.jsonl").open()]
        last: dict[str, str] = {}
        for chain in sorted(chains, key=lambda chain: (chain["slot"], chain["attempt"])):
            before = last.get(chain["slot"], rounds[-1])
            for id in chain["call_ids"]:
                needs.setdefault(id, before)
                before = id
            last[chain["slot"]] = before
    return needs


def resume(folder: Path) -> None:
    path, count = folder / "rte.jsonl", 1_000_000
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
    calls = CallLog(path.parent, ["rte"])
    seconds, used = time.monotonic() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    assert len(calls) == 1_000_000
    result.write_text(json.dumps({"seconds": seconds, "mb": used}))


def near_duplicates(folder: Path) -> None:
    seconds, _ = measured(find_near_duplicates)
    say(f"seconds for the near-duplicates of {ROWS:,} rows, one core", seconds, "< 60", "")


def rows(folder: Path) -> None:
    """A run of 100,000 rows, without self-correction, and the merge of its calls from 64 shards."""
    per_row = {}
    with Server(Behaviour(0.0, varied=True)) as server:
        for size in (ROWS // 10, ROWS):
            settings = _rows_of(folder / str(size), server.url, size)
            seconds, used = measured(make_rows, settings)
            per_row[size] = bytes_of(settings.paths.root) / size
    say(f"peak memory of a run of {ROWS:,} rows, MB", used, "< 400", f"{seconds:.0f} s")
    say(
        "bytes written per row, versus a tenth of the rows",
        per_row[ROWS] / per_row[ROWS // 10],
        "~ 1",
        f"{per_row[ROWS]:.0f} bytes",
    )
    before = (settings.paths.synthetic("rte") / "train.jsonl").rename(folder / "before.jsonl")
    into_shards(settings)
    seconds, used = measured(put_together, settings, str(before))
    say(f"seconds for the merge of {SHARDS} shards, {ROWS:,} rows in all", seconds, "< 60", f"{used:.0f} MB")


def _rows_of(folder: Path, url: str, size: int) -> Settings:
    base = ["+experiment=quickstart", "generator=openai", "generator.model=fake", f"generator.base_url={url}"]
    base += [f"run.dir={folder}", "task=rte", f"synth.size={size}", "synth.contexts=40", "synth.seeds_per_context=5"]
    return settings_from(compose([*base, "synth.self_correct=off", "generator.concurrency=64"]))


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


def vllm(folder: Path) -> None:
    """Our backend, fed as the engine feeds it, against LLM.chat with everything in one batch; the median of five rounds."""
    if importlib.util.find_spec("vllm") is None:
        print("vllm: skipped, the package vllm is not installed; run this with .venv-vllm/bin/python", flush=True)
        return
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    from tiny_llama import write_tiny_llama
    from vllm import LLM

    from targen.llm.backends.vllm import NO_BLANKS, VLLM, WHOLE_PROMPTS

    model = str(write_tiny_llama(folder / "model"))
    engine: dict[str, Any] = {"dtype": "float32", "max_model_len": 2048, "max_num_seqs": 64, "enforce_eager": True}
    engine |= WHOLE_PROMPTS
    requests = _rte_requests(200)
    with closing(VLLM(Generator(backend="vllm", model="tiny", path=model, engine=engine), [])) as ours:
        theirs = LLM(model, structured_outputs_config=NO_BLANKS, **engine)
        _streamed(ours, requests)  # warms up, as the next line does
        _in_one_batch(theirs, requests)
        rounds = [(_streamed(ours, requests), _in_one_batch(theirs, requests)) for _ in range(5)]
    ratio = statistics.median(one / other for one, other in rounds)
    detail = "; ".join(f"{one:.0f} against {other:.0f}" for one, other in rounds)
    say("tokens/s of vLLM in the process, versus LLM.chat in one batch", ratio, ">= 0.95", detail)


def _rte_requests(count: int) -> list[Request]:
    (recipe,) = recipes(settings_from(compose(["+experiment=quickstart", "task=rte"])))
    sampling, made = Sampling(1.0, 1.0, 128), []
    for number in range(count):
        values = {"premise": f"On day {number} the mill by the river burned down.", "context": ""}
        label = recipe.task.labels[number % 2].name
        messages, schema = generation_prompt(recipe.method, recipe.task, label, values)
        place = f"c0-{number:04d}-a0"
        made.append(make_request(place, "rte", "generation", "tiny", messages, sampling, schema, number))
    return made


def _streamed(llm: LanguageModel, requests: list[Request]) -> float:
    """Tokens per second when the backend is kept at its window."""
    waiting, under_way, tokens, start = iter(requests), 0, 0, time.monotonic()
    while True:
        while under_way < llm.window and (request := next(waiting, None)) is not None:
            llm.submit(request)
            under_way += 1
        if under_way == 0:
            return tokens / (time.monotonic() - start)
        for answer in llm.collect():
            assert isinstance(answer, Answer)
            under_way, tokens = under_way - 1, tokens + answer.usage["completion_tokens"]


def _in_one_batch(llm: Any, requests: list[Request]) -> float:
    from vllm import SamplingParams
    from vllm.sampling_params import StructuredOutputsParams

    bodies, start = [request.body for request in requests], time.monotonic()
    keys = ("temperature", "top_p", "max_tokens", "seed")
    params = [
        SamplingParams(
            **{key: body[key] for key in keys}, structured_outputs=StructuredOutputsParams(json=request.schema)
        )
        for request, body in zip(requests, bodies, strict=True)
    ]
    outputs = llm.chat([body["messages"] for body in bodies], params, use_tqdm=False)
    return sum(len(output.outputs[0].token_ids) for output in outputs) / (time.monotonic() - start)


def say(what: str, value: float, bound: str, detail: str) -> None:
    print(f"{what:64} {value:8.2f}   {bound:8} {detail}", flush=True)


MEASUREMENTS: dict[str, Callable[[Path], None]] = {
    "throughput": throughput,
    "slow_server": slow_server,
    "faults": faults,
    "stream": stream,
    "near_duplicates": near_duplicates,
    "rows": rows,
    "resume": resume,
    "first_request": first_request,
    "vllm": vllm,
}


if __name__ == "__main__":
    os.environ.setdefault("PYTHONHASHSEED", "0")
    for name in sys.argv[1:] or MEASUREMENTS:
        with tempfile.TemporaryDirectory() as directory:
            MEASUREMENTS[name](Path(directory))
