"""The archive that the SuperGLUE leaderboard accepts, a zip with one JSON Lines file per task, and checks of one.

Source of names and spellings: jiant, the benchmark's own toolkit (nyu-mll/jiant, `super_glue_format_preds` of each task and,
before, jiant v1's evaluate.py); of sizes: SuperGLUE, arXiv 1905.00537, table 1, and the splits of the Hub's mirror.
"""

import json
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from targen.config.group_files import task_from_file
from targen.runtime.jsonl import Json
from targen.tasks.registry import SUPERGLUE_TASKS
from targen.tasks.specification import Label
from targen.tasks.task import Task, same_value

MAX_BYTES = 100_000_000  # of a file in an archive: twenty times the largest correct one
QUESTIONS = 1_820  # of the 166 passages of MultiRC's test split, as conf/task counts them
CAPITAL = ("WSC",)  # its booleans are spelled True and False; those of BoolQ and WiC true and false
LeaderboardLabel = str | int


@dataclass(frozen=True)
class FlatFile:
    """A file of lines `{"idx": 0, "label": "true"}`, with idx from 0 to `lines` - 1."""

    name: str
    lines: int
    labels: tuple[LeaderboardLabel, ...]  # empty: any text


@dataclass(frozen=True)
class NestedFile:
    """A file of passages, `{"idx": 0, "passage": {"questions": [{"idx": 0, "answers": [{"idx": 0, "label": 1}]}]}}`.

    Passages, questions and answers are each numbered through the whole file, in its order; `counts` says to how many.
    """

    name: str
    counts: Mapping[str, int]
    labels: tuple[LeaderboardLabel, ...]


@dataclass(frozen=True)
class LineProblem:
    """A line that is not as expected. Lines with the same expectation are reported once."""

    line: int
    got: str
    expected: str


def leaderboard_label(task: Task, label: Label) -> LeaderboardLabel:
    """The label as the leaderboard spells it: a text, or COPA's number."""
    if isinstance(label.value, bool):
        text = str(label.value)
        return text if task.folder in CAPITAL else text.lower()
    return label.value


def file_name(task: Task) -> str:
    """The name of a task's file in an archive."""
    return f"{task.folder}.jsonl"


@cache
def files() -> dict[str, FlatFile | NestedFile]:
    """The files of a complete archive by name."""
    archive_files: list[FlatFile | NestedFile] = []
    for task in map(task_from_file, SUPERGLUE_TASKS):
        name, labels = file_name(task), tuple(leaderboard_label(task, label) for label in task.classes)
        examples = task.example_sizes.get("test", task.sizes["test"])
        if task.answer_labels:
            counts = {"passage": task.sizes["test"], "question": QUESTIONS, "answer": examples}
            archive_files.append(NestedFile(name, counts, tuple(sorted(labels))))
        else:
            archive_files.append(FlatFile(name, examples, labels))
    return {file.name: file for file in archive_files}


def file_names() -> list[str]:
    """The names of all files of a complete archive."""
    return sorted(files())


def archive_problems(path: Path) -> list[str]:
    """Why the leaderboard would refuse the archive or score it wrongly, one line each; empty if it is complete."""
    try:
        with zipfile.ZipFile(path) as archive:
            return _content_problems(archive)
    except OSError as err:
        return [f"cannot be read ({err.strerror}), expected a zip archive. Check the path."]
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as err:
        # damaged; the last two: encrypted, or compressed in an unknown way
        return [f"is not a readable zip archive ({err}). Pack the files again."]


def _content_problems(archive: zipfile.ZipFile) -> list[str]:
    expected, names = file_names(), [info.filename for info in archive.infolist()]
    problems = []
    for name in dict.fromkeys(names):
        if name not in expected:
            problems.append(f"{name!a}: got a file of this name, expected only {', '.join(expected)}. Leave it out.")
        elif names.count(name) > 1:
            problems.append(f"{name}: got it {names.count(name)} times, expected once. Keep one.")
    for name in expected:
        if name not in names:
            problems.append(f"{name}: got none, expected it in the archive. Add it.")
        elif (size := archive.getinfo(name).file_size) > MAX_BYTES:
            problems.append(f"{name}: got {size} bytes, expected at most {MAX_BYTES}. Make it again.")
        else:
            problems += file_problems(name, archive.read(name))
    return problems


def file_problems(name: str, data: bytes) -> list[str]:
    """What is wrong with a file of an archive, one line per kind of problem."""
    lines, file = data.splitlines(), files().get(name)
    if file is None:
        return [f"{name}: got a file of this name, expected only {', '.join(file_names())}. Leave its task out."]
    return _flat_problems(file, lines) if isinstance(file, FlatFile) else _nested_problems(file, lines)


def _flat_problems(file: FlatFile, lines: Sequence[bytes]) -> list[str]:
    seen: set[int] = set()
    problems = _one_per_kind(file.name, _flat_line_problems(file, lines, seen))
    if missing := sorted(set(range(file.lines)) - seen):
        problems.append(_incomplete(file.name, "idx", len(seen), file.lines, missing[0]))
    return problems


def _flat_line_problems(file: FlatFile, lines: Sequence[bytes], seen: set[int]) -> Iterator[LineProblem]:
    """The problems of the lines; every valid idx is added to `seen`."""
    for number, line in enumerate(lines, start=1):
        row = _object(line)
        if row is None or set(row) != {"idx", "label"}:
            yield LineProblem(number, _excerpt(line), 'an object with the keys "idx" and "label"')
            continue
        yield from _index_problems(number, row["idx"], file.lines, seen)
        if file.labels:
            yield from _label_problems(number, row["label"], file.labels)
        elif not isinstance(row["label"], str):
            yield LineProblem(number, json.dumps(row["label"])[:60], "a text as label")


def _nested_problems(file: NestedFile, lines: Sequence[bytes]) -> list[str]:
    seen: dict[str, set[int]] = {level: set() for level in file.counts}
    last_idx = dict.fromkeys(file.counts, -1)
    line_problems: list[LineProblem] = []
    out_of_order: list[LineProblem] = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            indices = [("passage", row["idx"])]
            for question in row["passage"]["questions"]:
                indices.append(("question", question["idx"]))
                for answer in question["answers"]:
                    indices.append(("answer", answer["idx"]))
                    line_problems += _label_problems(number, answer["label"], file.labels)
        except (ValueError, KeyError, TypeError, RecursionError):
            expected = "a passage with its questions and their answers"
            line_problems.append(LineProblem(number, _excerpt(line), expected))
            continue
        for level, idx in indices:
            index_problems = list(_index_problems(number, idx, file.counts[level], seen[level], f"{level} idx"))
            line_problems += index_problems
            if not index_problems:
                if idx < last_idx[level]:
                    got = f"{level} idx {idx} after {last_idx[level]}"
                    out_of_order.append(LineProblem(number, got, f"{level} idx that ascend through the file"))
                last_idx[level] = idx
    # only the first idx out of order, since those behind it are so, too
    problems = _one_per_kind(file.name, [*line_problems, *out_of_order[:1]])
    for level, count in file.counts.items():
        if missing := sorted(set(range(count)) - seen[level]):
            problems.append(_incomplete(file.name, f"{level} idx", len(seen[level]), count, missing[0]))
    return problems


def _label_problems(number: int, label: object, allowed: Sequence[LeaderboardLabel]) -> Iterator[LineProblem]:
    if not any(same_value(label, option) for option in allowed):
        yield LineProblem(number, json.dumps(label)[:60], f"the label {' or '.join(map(json.dumps, allowed))}")


def _index_problems(number: int, idx: object, count: int, seen: set[int], name: str = "idx") -> Iterator[LineProblem]:
    if type(idx) is not int or not 0 <= idx < count:
        yield LineProblem(number, json.dumps(idx)[:60], f"an integer from 0 to {count - 1} as {name}")
    elif idx in seen:
        yield LineProblem(number, f"{name} {idx} again", f"each {name} exactly once")
    else:
        seen.add(idx)


def _object(line: bytes) -> Json | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _one_per_kind(name: str, line_problems: Iterable[LineProblem]) -> list[str]:
    """The first problem of each kind, with the number of lines that have it."""
    kinds: dict[str, list[LineProblem]] = {}
    for problem in line_problems:
        kinds.setdefault(problem.expected, []).append(problem)
    return [
        f"{name}:{problems[0].line}: got {problems[0].got}, expected {expected}."
        + (f" {len(problems)} lines are like this." if len(problems) > 1 else "")
        for expected, problems in kinds.items()
    ]


def _incomplete(file: str, name: str, seen: int, count: int, first_missing: int) -> str:
    return f"{file}: got {seen} of {count} {name}, expected all; the first missing one is {first_missing}."


def _excerpt(line: bytes) -> str:
    return repr(line[:60].decode("utf-8", errors="replace"))
