"""The state of a grid on SLURM, read from its files and one call of squeue: `python -m slurm.status <run.dir>`.

Nobody watches a grid: what is done stands in the files of the run, what was submitted in `slurm/<number>/grid.json` and
`ids.json`, what became of each start in `slurm/<number>/<job>-<index>.json`. So any login node can tell, at any time.
"""

import shlex
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from slurm.jobs import Live, Todo
from slurm.worker import last_error
from targen.config.cluster import JOBS, JobName
from targen.runtime import scheduler
from targen.runtime.errors import UserError
from targen.runtime.jsonl import Json, read_json, read_jsonl
from targen.runtime.paths import RunPaths

State = Literal["done", "running", "queued", "failed", "missing"]
STATES: tuple[State, ...] = ("done", "running", "queued", "failed", "missing")
OVER = frozenset(
    [
        "COMPLETED",
        "CANCELLED",
        "FAILED",
        "TIMEOUT",
        "NODE_FAIL",
        "PREEMPTED",
        "BOOT_FAIL",
        "DEADLINE",
        "OUT_OF_MEMORY",
        "REVOKED",
    ]
)
SHOWN, LOG_LINES = 10, 5  # failed elements with their log, and lines of it
SILENT = "ended without a word: killed (memory, time limit, node) or cancelled"


@dataclass(frozen=True)
class Submission:
    """One run of slurm/submit.sh: what was asked for, and the ids of its jobs by their names."""

    folder: Path
    grid: Json
    ids: Mapping[str, str]


@dataclass(frozen=True)
class Element:
    """A shard, the merge, a cell to train or to score, or the report. `id` is of its last job, `log` that job's."""

    kind: JobName
    name: str
    state: State
    why: str = ""
    id: str | None = None
    log: Path | None = None


def submissions(paths: RunPaths) -> list[Submission]:
    """All of a run, oldest first; one that was never given to SLURM is none."""
    found = []
    for marker in sorted(paths.slurm.glob("*/ids.json")):
        found.append(Submission(marker.parent, read_json(marker.parent / "grid.json"), read_json(marker)))
    return found


def is_done(paths: RunPaths, grid: Json, kind: JobName, name: str) -> bool:
    """Whether the run's own files have what this element makes."""
    if kind == "train":
        return (paths.model(name) / "done.json").is_file()
    if kind == "evaluate":
        return _is_scored(paths, grid, name)
    if kind == "report":
        return _is_shown(paths)
    if _has_rows(paths, grid["sizes"]):
        return True
    return kind == "generate" and grid["shards"] > 1 and _is_shard_done(paths, grid, int(name))


def _is_scored(paths: RunPaths, grid: Json, cell: str) -> bool:
    path, model = paths.cell_scores(cell), paths.model(cell) / "done.json"
    if not path.is_file() or (model.is_file() and model.stat().st_mtime > path.stat().st_mtime):
        return False
    return set(grid["benchmarks"]) <= {row.get("benchmark") for _, row in read_jsonl(path)}


def _is_shown(paths: RunPaths) -> bool:
    """Whether the page is not older than any score."""
    page = paths.report / "index.html"
    if not page.is_file():
        return False
    own = [path.stat().st_mtime for path in paths.scores.with_suffix("").glob("*.jsonl")]
    return page.stat().st_mtime >= max(own, default=0.0)


def _has_rows(paths: RunPaths, sizes: Mapping[str, int]) -> bool:
    folders = {paths.synthetic(task): rows for task, rows in sizes.items()}
    complete = all((folder / name).is_file() for folder in folders for name in ("train.jsonl", "stats.json"))
    return complete and all(read_json(folder / "stats.json").get("rows") == rows for folder, rows in folders.items())


def _is_shard_done(paths: RunPaths, grid: Json, index: int) -> bool:
    path = paths.calls / f"shard-{index:05d}-of-{grid['shards']:05d}.json"
    rows = read_json(path).get("rows", {}) if path.is_file() else {}
    return all(rows.get(task, -1) >= size for task, size in grid["sizes"].items())


def whole_of(grid: Json) -> list[tuple[JobName, str]]:
    """Every element of the grid, submitted or not."""
    return [(kind, name) for kind in JOBS for name in grid["whole"][kind]]


def elements(paths: RunPaths, grid: Json, queue: Sequence[scheduler.Queued] | None) -> list[Element]:
    """The state of every element. `queue` None: SLURM cannot be asked, and the files alone tell."""
    known = {(one.job, one.index or 0): one for one in queue or ()}
    latest: dict[tuple[str, str], tuple[Submission, Json, int]] = {}
    for submission in submissions(paths):
        for job in submission.grid["jobs"]:
            if job["name"] in submission.ids:
                for index, name in enumerate(job["elements"]):
                    latest[job["kind"], name] = (submission, job, index)
    found = []
    for kind, name in whole_of(grid):
        if is_done(paths, grid, kind, name):
            found.append(Element(kind, name, "done"))
        elif (last := latest.get((kind, name))) is None:
            found.append(Element(kind, name, "missing", "never submitted"))
        else:
            found.append(_of_job(kind, name, *last, known, queue is not None))
    return found


def _of_job(
    kind: JobName,
    name: str,
    submission: Submission,
    job: Json,
    index: int,
    known: Mapping[tuple[str, int], scheduler.Queued],
    asked: bool,
) -> Element:
    """The state of an element that is not done and was submitted."""
    place, id = submission.folder / f"{job['name']}-{index}", submission.ids[job["name"]]
    log = place.with_suffix(".log")
    record = read_json(place.with_suffix(".json")) if place.with_suffix(".json").is_file() else {}
    own = id if job["kind"] in ("merge", "report") else f"{id}_{index}"
    queued = known.get((id, index))
    if queued is not None and queued.state not in OVER:
        if queued.state == "PENDING":
            return Element(kind, name, "queued", _again(record, queued.reason), own, log)
        return Element(kind, name, "running", queued.state.lower(), own, log)
    if record.get("outcome") == "failed":
        return Element(kind, name, "failed", str(record.get("error")), own, log)
    if not asked and record.get("outcome") not in (None, "done"):
        return Element(kind, name, "running", f"by its file ({record['outcome']})", own, log)
    ended = f"SLURM says {queued.state}" if queued is not None else None
    if record or (queued is not None and queued.state not in ("CANCELLED", "COMPLETED")):
        error = last_error(log)
        return Element(kind, name, "failed", "; ".join(filter(None, (ended or SILENT, error))), own, log)
    return Element(kind, name, "missing", ended or "not in the queue", own, log)


def _again(record: Json, reason: str) -> str:
    if record.get("failures"):
        return f"{reason}; starts again after failure {record['failures']}: {record.get('error')}"
    return reason


def todo_of(found: Iterable[Element], again: bool = True) -> Todo:
    """What is neither done nor in the queue; with `again` also what has failed."""
    states = ("missing", "failed") if again else ("missing",)
    lost = [one for one in found if one.state in states]
    live = [one for one in found if one.state in ("running", "queued")]

    def of(kind: JobName) -> tuple[str, ...]:
        return tuple(one.name for one in lost if one.kind == kind)

    more = bool(of("generate") or of("merge") or of("train") or of("evaluate"))
    wants_report = any(one.kind == "report" for one in found)
    shows = any(one.kind == "report" for one in live)  # it waits in the queue, for what was submitted with it
    report = wants_report and (bool(of("report")) or (more and not shows))
    return Todo(of("generate"), bool(of("merge")), of("train"), of("evaluate"), report)


def live_of(found: Sequence[Element]) -> Live:
    """What later jobs have to wait for."""

    def of(kind: JobName) -> tuple[str, ...]:
        return tuple(one.id for one in found if one.kind == kind and one.id and one.state in ("running", "queued"))

    return Live(of("generate"), of("merge"), tuple(dict.fromkeys(id.partition("_")[0] for id in of("evaluate"))))


def status(root: Path) -> str:
    """The state of a grid as text. Raises: UserError where none was submitted."""
    paths = RunPaths(root)
    made = submissions(paths)
    if not made:
        raise UserError(
            f"run.dir: nothing was submitted from {root}, expected a folder {paths.slurm}. Submit the grid: slurm/submit.sh ... run.dir={root}"
        )
    queue = scheduler.queue()
    found = elements(paths, made[-1].grid, queue)
    lines = [f"{root}: {made[-1].grid['run']}, {len(made)} submission{'s' * (len(made) > 1)}"]
    if queue is None:
        lines.append("SLURM cannot be asked here: what runs or waits is told by the files of the run alone.")
    lines += _table(found)
    failed = [one for one in found if one.state == "failed"]
    for number, one in enumerate(failed):
        lines.append(f"failed: {one.kind} {one.name} ({one.id}): {_line(one.why)}")
        lines += [f"    {line}" for line in _tail(one.log)] if number < SHOWN else []
        lines += [f"    {one.log}"] if number < SHOWN else []
    todo = todo_of(found)
    if todo:
        lost = sum(one.state in ("missing", "failed") for one in found)
        lines.append(f"To submit the {lost} that are missing or failed: slurm/resubmit.sh {shlex.quote(str(root))}")
    return "\n".join(lines) + "\n"


def _table(found: Sequence[Element]) -> list[str]:
    rows = [f"{'':10}" + "".join(f"{state:>9}" for state in STATES) + f"{'of':>9}"]
    for kind in JOBS:
        own = [one for one in found if one.kind == kind]
        counts = Counter(one.state for one in own)
        if own:
            row = f"{kind:10}" + "".join(f"{counts[state]:>9}" for state in STATES) + f"{len(own):>9}"
            reasons = Counter(one.why for one in own if one.state == "queued")
            rows.append(row + (f"   ({_line(reasons.most_common(1)[0][0])})" if reasons else ""))
    return rows


def _tail(log: Path | None) -> list[str]:
    try:
        text = log.read_bytes()[-20_000:].decode("utf-8", errors="replace") if log is not None else ""
    except OSError:
        return []
    return [_line(line) for line in text.splitlines() if line.strip()][-LOG_LINES:]


def _line(text: str) -> str:
    """One line without what a terminal would obey."""
    return "".join(char if char.isprintable() else "?" for char in " ".join(text.split()))[:300]


if __name__ == "__main__":
    try:
        if len(sys.argv) != 2:
            raise UserError(f"status: got {len(sys.argv) - 1} arguments, expected one: slurm/status.sh <run.dir>")
        sys.stdout.write(status(Path(sys.argv[1].removeprefix("run.dir="))))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(2)
