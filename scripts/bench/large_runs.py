"""What large runs take: a log of a million calls, 100,000 rows, their near-duplicates, the merge of 64 shards."""

import json
import multiprocessing
import resource
import time
from pathlib import Path

from fake_server import Behaviour, FakeServer
from measurement import print_measurement
from scale import ROWS, SHARDS, bytes_of, find_near_duplicates, into_shards, make_rows, measure_in_process, put_together

from targen.config.loading import settings_from
from targen.config.settings import Settings
from targen.llm.call_log import CallLog
from targen.runtime.cli import compose
from targen.runtime.jsonl import dumps


def resume(folder: Path) -> None:
    """Time and memory to read a log of a million calls."""
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
    scan = json.loads((folder / "scan.json").read_text())
    print_measurement("seconds to read 1,000,000 recorded calls", scan["seconds"], "< 15", "")
    print_measurement("memory for it, MB", scan["mb"], "< 600", "")


def _scan(path: Path, result: Path) -> None:
    start = time.monotonic()
    calls = CallLog(path.parent, ["rte"])
    seconds, used = time.monotonic() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    assert len(calls) == 1_000_000
    result.write_text(json.dumps({"seconds": seconds, "mb": used}))


def near_duplicates(folder: Path) -> None:
    """Time to find all near-duplicates of a large set."""
    seconds, _ = measure_in_process(find_near_duplicates)
    print_measurement(f"seconds for the near-duplicates of {ROWS:,} rows, one core", seconds, "< 60", "")


def rows(folder: Path) -> None:
    """A run of 100,000 rows without self-correction, and the merge of the same calls from 64 shards."""
    per_row = {}
    with FakeServer(Behaviour(0.0, varied=True)) as server:
        for size in (ROWS // 10, ROWS):
            settings = _rows_of(folder / str(size), server.url, size)
            seconds, used = measure_in_process(make_rows, settings)
            per_row[size] = bytes_of(settings.paths.root) / size
    print_measurement(f"peak memory of a run of {ROWS:,} rows, MB", used, "< 400", f"{seconds:.0f} s")
    print_measurement(
        "bytes written per row, versus a tenth of the rows",
        per_row[ROWS] / per_row[ROWS // 10],
        "~ 1",
        f"{per_row[ROWS]:.0f} bytes",
    )
    before = (settings.paths.synthetic("rte") / "train.jsonl").rename(folder / "before.jsonl")
    into_shards(settings)
    seconds, used = measure_in_process(put_together, settings, str(before))
    print_measurement(
        f"seconds for the merge of {SHARDS} shards, {ROWS:,} rows in all", seconds, "< 60", f"{used:.0f} MB"
    )


def _rows_of(folder: Path, url: str, size: int) -> Settings:
    base = ["+experiment=quickstart", "generator=openai", "generator.model=fake", f"generator.base_url={url}"]
    base += [f"run.dir={folder}", "task=rte", f"synth.size={size}", "synth.contexts=40", "synth.seeds_per_context=5"]
    base += ["synth.self_correct=off", "generator.concurrency=64", "synth.learnability_rows=0"]  # measured elsewhere
    return settings_from(compose(base))
