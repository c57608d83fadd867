"""What the log of a run tells its plan: the calls that are answered, and how long their answers were."""

import fileinput
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from targen.llm.call_log import call_files
from targen.runtime.jsonl import Json
from targen.runtime.paths import RunPaths

SLOT_CALL = re.compile(r"-(generation|instance_seed|self_correction)-(c\d+-\d+)-a(\d+)")
SHARED_CALL = re.compile(r"-instance_seed-(g\d+-\d+)-")


@dataclass
class Counted:
    """The calls of a step whose tokens the server counted, and the sums of these."""

    calls: int = 0
    prompt: int = 0
    completion: int = 0


@dataclass(frozen=True)
class OnRecord:
    """What the log of a run holds of a task: enough to tell which calls are left, and how long they will be."""

    calls: Counter[str] = field(default_factory=Counter)
    slots: dict[str, frozenset[str]] = field(default_factory=dict)  # per step, the slots with an answer
    shared: frozenset[str] = frozenset()  # answered calls for instance seeds that first attempts share
    attempts: float = 1.0  # per slot
    done: bool = False
    counted: dict[str, Counted] = field(default_factory=dict)  # per step


def on_record(run: RunPaths, task: str, size: int) -> OnRecord:
    """Reads the log without opening it for writing, and skips damaged lines."""
    calls: Counter[str] = Counter()
    slots: dict[str, set[str]] = defaultdict(set)
    shared: set[str] = set()
    attempts: Counter[str] = Counter()
    counted: dict[str, Counted] = defaultdict(Counted)
    for record in _records(run, task):
        id, step = str(record["id"]), str(record["step"])
        calls[step] += 1
        if (match := SLOT_CALL.search(id)) is not None:
            slots[match[1]].add(match[2])
            attempts[match[2]] = max(attempts[match[2]], int(match[3]) + 1)
        elif (match := SHARED_CALL.search(id)) is not None:
            shared.add(match[1])
        _count(counted[step], record.get("usage"))
    each = attempts.total() / len(attempts) if attempts else 1.0
    by_step = {step: frozenset(names) for step, names in slots.items()}
    return OnRecord(calls, by_step, frozenset(shared), each, bool(calls) and _done(run, task, size), dict(counted))


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


def _count(counted: Counted, usage: object) -> None:
    """Adds the tokens of a call, where the server counted them."""
    if not isinstance(usage, dict):
        return
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if isinstance(prompt, int) and isinstance(completion, int):
        counted.calls += 1
        counted.prompt += prompt
        counted.completion += completion


def _done(run: RunPaths, task: str, size: int) -> bool:
    folder = run.synthetic(task)
    try:
        rows = json.loads((folder / "stats.json").read_text(encoding="utf-8"))["rows"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False
    return bool(rows == size and (folder / "train.jsonl").is_file())
