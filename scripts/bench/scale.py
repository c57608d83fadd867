"""What 100,000 rows take: time of their near-duplicates, memory and bytes of a run, time of a merge of 64 shards."""

import json
import multiprocessing
import os
import random
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from targen.config.settings import Settings
from targen.generate import generate
from targen.llm.call_log import call_files
from targen.merge import merge
from targen.synthesis.slots.assignment import Shard
from targen.synthesis.slots.shards import shard_name, write_done
from targen.text.similarity import candidate_pairs, signature, similarity
from tests.support.fake_model import FakeModel

ROWS, SHARDS = 100_000, 64
WORDS_OF_A_ROW = 52  # mean of RTE's train split
VOCABULARY = [
    "".join(random.Random(number).choices("abcdefghijklmnopqrstuvwxyz", k=2 + number % 9)) for number in range(20_000)
]


class Varied(FakeModel):
    """Premises and hypotheses of RTE's usual length, no two alike."""

    def _answer(self, body: Any, rng: random.Random) -> dict[str, Any]:
        answer = super()._answer(body, rng)
        for seed in answer.get("instance_seeds", []):
            seed["premise"] = text_of(rng, WORDS_OF_A_ROW - 9) + "."
        if "hypothesis" in answer:
            answer["hypothesis"] = text_of(rng, 9) + "."
        return answer


def text_of(rng: random.Random, words: int) -> str:
    """A text of so many words."""
    return " ".join(rng.choices(VOCABULARY, k=words))


def measure_in_process(work: Callable[..., None], *arguments: Any) -> tuple[float, float]:
    """(seconds, peak MB) of some work in a process of its own."""
    queue: multiprocessing.Queue[tuple[float, float]] = multiprocessing.get_context("spawn").Queue()
    process = multiprocessing.get_context("spawn").Process(target=_timed, args=(queue, work, *arguments))
    process.start()
    figures = queue.get()
    process.join()
    return figures


def _timed(queue: "multiprocessing.Queue[tuple[float, float]]", work: Callable[..., None], *arguments: Any) -> None:
    start = time.monotonic()
    work(*arguments)
    queue.put((time.monotonic() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def find_near_duplicates() -> None:
    """One row in fifty repeats another but for one word; all of these are found."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    rng = random.Random(0)
    texts = [text_of(rng, WORDS_OF_A_ROW) for _ in range(ROWS)]
    copies = {}
    for later in range(1, ROWS, 50):
        words = texts[later - 1].split()
        words[later % len(words)] = "changed"
        texts[later], copies[later] = " ".join(words), later - 1
    pairs = candidate_pairs([signature(text) for text in texts], 0.8)
    repeats = {later: earlier for later, earlier in pairs if similarity(texts[later], texts[earlier]) >= 0.8}
    assert repeats == copies, (len(repeats), len(copies))


def make_rows(settings: Settings) -> None:
    generate(settings)


def bytes_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def into_shards(settings: Settings) -> None:
    """The calls of a whole run as those of so many shards."""
    paths, (task,) = settings.paths, settings.tasks
    (call_log,) = call_files(paths.calls, task)
    names = [shard_name(Shard(index, SHARDS)) for index in range(SHARDS)]
    files = [(paths.calls / f"{task}.{name}.jsonl").open("wb") for name in names]
    with call_log.open("rb") as lines:
        for number, line in enumerate(lines):
            files[number % SHARDS].write(line)
    for file in files:
        file.close()
    call_log.unlink()
    for index in range(SHARDS):
        write_done(paths, shard_name(Shard(index, SHARDS)), {task: ROWS})


def put_together(settings: Settings, before: str) -> None:
    """Merges the shards and compares the rows with those of the file `before`."""
    merge(settings)
    assert (settings.paths.synthetic("rte") / "train.jsonl").read_text() == Path(before).read_text()
    calls = json.loads((settings.paths.synthetic("rte") / "stats.json").read_text())["calls"]
    assert calls["generation"]["calls"] >= ROWS
