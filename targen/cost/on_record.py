"""The log of a run, as its plan uses it: the calls that are answered, and how long their answers were."""

import fileinput
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from targen.llm.call_log import call_files
from targen.runtime.jsonl import Json
from targen.runtime.paths import RunPaths

ROUND = r"(h\d+-)?(?:[0-9a-f]+-)?"  # the mark of a later round
SLOT_CALL = re.compile(rf"-(generation|instance_seed|self_correction)-{ROUND}(c\d+-\d+)-a(\d+)")
SHARED_CALL = re.compile(rf"-instance_seed-{ROUND}(g\d+-\d+)-")


@dataclass
class TokenSums:
    """The calls of a step whose tokens the server counted, and the sums of these."""

    calls: int = 0
    prompt: int = 0
    completion: int = 0


@dataclass
class Attempt:
    """The latest attempt of a slot: its number, from 0, and the steps that are answered."""

    number: int = 0
    steps: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class OnRecord:
    """What the log of a run holds of a task: enough to know which calls are left, and how long they will be."""

    calls: Counter[str] = field(default_factory=Counter)  # per step
    latest: dict[str, Attempt] = field(default_factory=dict)  # per slot
    shared: set[str] = field(default_factory=set)  # answered calls for instance seeds that first attempts share
    token_sums: dict[str, TokenSums] = field(default_factory=dict)  # per step
    is_complete: bool = False

    @property
    def attempts(self) -> float:
        """Attempts of a slot so far."""
        return sum(attempt.number + 1 for attempt in self.latest.values()) / len(self.latest) if self.latest else 1.0


def on_record(run: RunPaths, task: str, size: int) -> OnRecord:
    """Reads the log without opening it for writing, and skips damaged lines."""
    calls: Counter[str] = Counter()
    latest: dict[str, Attempt] = defaultdict(Attempt)
    shared: set[str] = set()
    token_sums: dict[str, TokenSums] = defaultdict(TokenSums)
    for record in _records(run, task):
        id, step = str(record["id"]), str(record["step"])
        calls[step] += 1
        if (match := SLOT_CALL.search(id)) is not None:
            slot, attempt = match[3], int(match[4])
            if attempt > latest[slot].number:
                latest[slot] = Attempt(attempt)
            if attempt == latest[slot].number:
                latest[slot].steps.add(match[1])
        elif (match := SHARED_CALL.search(id)) is not None:
            shared.add((match[1] or "") + match[2])
        _count(token_sums[step], record.get("usage"))
    return OnRecord(calls, dict(latest), shared, dict(token_sums), bool(calls) and _is_complete(run, task, size))


def _records(run: RunPaths, task: str) -> Iterator[Json]:
    paths = call_files(run.calls, task)
    if not paths:
        return  # with no paths fileinput would read the standard input
    with fileinput.input(paths, mode="rb") as lines:
        for line in lines:
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(record, dict) and {"id", "step"} <= set(record):
                yield record


def _count(sums: TokenSums, usage: object) -> None:
    """Adds the tokens of a call, where the server counted them."""
    if not isinstance(usage, dict):
        return
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if isinstance(prompt, int) and isinstance(completion, int):
        sums.calls += 1
        sums.prompt += prompt
        sums.completion += completion


def _is_complete(run: RunPaths, task: str, size: int) -> bool:
    folder = run.synthetic(task)
    try:
        rows = json.loads((folder / "stats.json").read_text(encoding="utf-8"))["rows"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False
    return bool(rows == size and (folder / "train.jsonl").is_file())
