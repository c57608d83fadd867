"""What the SuperGLUE leaderboard takes: a zip of one file a task, a JSON object a row, and what is wrong with one.

Source of names and spellings: jiant, the benchmark's own toolkit (nyu-mll/jiant, `super_glue_format_preds` of each task and,
before, jiant v1's evaluate.py); of sizes: SuperGLUE, arXiv 1905.00537, table 1, and the splits of the Hub's mirror.
"""

import json
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from targen.config.group_files import task_from_file
from targen.runtime.jsonl import Json
from targen.runtime.paths import CONF
from targen.tasks.task import Label, Task

MAX_BYTES = 100_000_000  # of a file in an archive: twenty times the largest that is right
RECORD_QUERIES = 10_000  # of the 7484 passages of ReCoRD's test split, as conf/task counts them
MULTIRC = "MultiRC.jsonl"
MULTIRC_PASSAGES, MULTIRC_QUESTIONS, MULTIRC_ANSWERS = 166, 1800, 9693
CAPITAL = ("WSC",)  # whose booleans are spelled True and False; those of BoolQ and WiC are true and false
Spelled = str | int


@dataclass(frozen=True)
class Wanted:
    """A file of flat lines, `{"idx": 0, "label": "true"}`, with idx from 0 to `lines` - 1."""

    name: str
    lines: int
    labels: tuple[Spelled, ...]  # none: any text


@dataclass(frozen=True)
class Slip:
    """A line that is not as it should be. Lines that are expected to be the same are told once."""

    line: int
    got: str
    expected: str


def spelled(task: Task, label: Label) -> Spelled:
    """The label as the leaderboard has it: a text, or COPA's number."""
    if isinstance(label.value, bool):
        text = str(label.value)
        return text if task.folder in CAPITAL else text.lower()
    return label.value


def file_name(task: Task) -> str:
    return f"{task.folder}.jsonl"


@cache
def wanted_files() -> dict[str, Wanted]:
    """The flat files by name: those of this project's tasks, and AX-b's."""
    tasks = [task_from_file(path.stem) for path in sorted((CONF / "task").glob("*.yaml"))]
    found = [
        Wanted(
            file_name(task),
            task.sizes["test"] if task.labels else RECORD_QUERIES,
            tuple(spelled(task, label) for label in task.labels),
        )
        for task in tasks
    ]
    found.append(Wanted("AX-b.jsonl", 1104, ("entailment", "not_entailment")))
    return {one.name: one for one in found}


def wanted_names() -> list[str]:
    return sorted([*wanted_files(), MULTIRC])


def problems(path: Path) -> list[str]:
    """Why the leaderboard would refuse the archive or score it wrongly, a line each; none: it is whole."""
    try:
        with zipfile.ZipFile(path) as archive:
            return _archive_problems(archive)
    except OSError as err:
        return [f"cannot be read ({err.strerror}), expected a zip archive. Check the path."]
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as err:
        # damaged; the last two: encrypted, packed in an unknown way
        return [f"is no zip archive that can be read ({err}). Pack the files anew."]


def _archive_problems(archive: zipfile.ZipFile) -> list[str]:
    known, names = wanted_names(), [info.filename for info in archive.infolist()]
    found = []
    for name in dict.fromkeys(names):
        if name not in known:
            found.append(f"{name!a}: got a file of this name, expected only {', '.join(known)}. Leave it out.")
        elif names.count(name) > 1:
            found.append(f"{name}: got it {names.count(name)} times, expected once. Leave one.")
    for name in known:
        if name not in names:
            found.append(f"{name}: got none, expected it in the archive. Put it in.")
        elif (size := archive.getinfo(name).file_size) > MAX_BYTES:
            found.append(f"{name}: got {size} bytes, expected at most {MAX_BYTES}. Make it anew.")
        else:
            found += file_problems(name, archive.read(name))
    return found


def file_problems(name: str, data: bytes) -> list[str]:
    """What is wrong with a file of an archive, one line a kind."""
    lines = data.splitlines()
    return _multirc_problems(lines) if name == MULTIRC else _flat_problems(wanted_files()[name], lines)


def _flat_problems(wanted: Wanted, lines: Sequence[bytes]) -> list[str]:
    seen: set[int] = set()
    slips = list(_flat_slips(wanted, lines, seen))
    found = _told(wanted.name, slips)
    if missing := sorted(set(range(wanted.lines)) - seen):
        found.append(_missing(wanted.name, "idx", len(seen), wanted.lines, missing[0]))
    return found


def _flat_slips(wanted: Wanted, lines: Sequence[bytes], seen: set[int]) -> Iterator[Slip]:
    """The slips of the lines; each idx is noted in `seen`."""
    for number, line in enumerate(lines, start=1):
        row = _object(line)
        if row is None or set(row) != {"idx", "label"}:
            yield Slip(number, _short(line), 'an object with the keys "idx" and "label"')
            continue
        yield from _place(number, row["idx"], wanted.lines, seen)
        label = row["label"]
        if wanted.labels:
            if not any(type(label) is type(one) and label == one for one in wanted.labels):
                yield Slip(number, json.dumps(label)[:60], f"the label {' or '.join(map(json.dumps, wanted.labels))}")
        elif not isinstance(label, str):
            yield Slip(number, json.dumps(label)[:60], "a text as label")


def _multirc_problems(lines: Sequence[bytes]) -> list[str]:
    """What is wrong with MultiRC's file: `{"idx": 0, "passage": {"questions": [{"idx": 0, "answers": [{"idx": 0, "label": 1}]}]}}`.

    Passages, questions and answers are each numbered through the whole file.
    """
    counted = {"passage": MULTIRC_PASSAGES, "question": MULTIRC_QUESTIONS, "answer": MULTIRC_ANSWERS}
    seen: dict[str, set[int]] = {kind: set() for kind in counted}
    slips: list[Slip] = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            places = [("passage", row["idx"])]
            for question in row["passage"]["questions"]:
                places.append(("question", question["idx"]))
                for answer in question["answers"]:
                    places.append(("answer", answer["idx"]))
                    if type(answer["label"]) is not int or answer["label"] not in (0, 1):
                        slips.append(Slip(number, json.dumps(answer["label"])[:60], "the label 0 or 1"))
        except (ValueError, KeyError, TypeError, RecursionError):
            slips.append(Slip(number, _short(line), "a passage with its questions and their answers"))
            continue
        for kind, idx in places:
            slips += _place(number, idx, counted[kind], seen[kind], f"{kind} idx")
    found = _told(MULTIRC, slips)
    for kind, count in counted.items():
        if missing := sorted(set(range(count)) - seen[kind]):
            found.append(_missing(MULTIRC, f"{kind} idx", len(seen[kind]), count, missing[0]))
    return found


def _place(number: int, idx: object, count: int, seen: set[int], what: str = "idx") -> Iterator[Slip]:
    if type(idx) is not int or not 0 <= idx < count:
        yield Slip(number, json.dumps(idx)[:60], f"a whole number from 0 to {count - 1} as {what}")
    elif idx in seen:
        yield Slip(number, f"{what} {idx} again", f"each {what} only once")
    else:
        seen.add(idx)


def _object(line: bytes) -> Json | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _told(name: str, slips: Iterable[Slip]) -> list[str]:
    """The first slip of each kind, with how many there are."""
    kinds: dict[str, list[Slip]] = {}
    for slip in slips:
        kinds.setdefault(slip.expected, []).append(slip)
    return [
        f"{name}:{same[0].line}: got {same[0].got}, expected {expected}."
        + (f" {len(same)} lines are like this." if len(same) > 1 else "")
        for expected, same in kinds.items()
    ]


def _missing(name: str, what: str, got: int, count: int, first: int) -> str:
    return f"{name}: got {got} of {count} {what}, expected all; the first that is missing is {first}."


def _short(line: bytes) -> str:
    return repr(line[:60].decode("utf-8", errors="replace"))
