"""The state of a grid on SLURM, read from its files and one call of squeue: `python -m slurm.status <run.dir>`.

No process watches a grid. The files of the run show what is done, `slurm/<number>/grid.json` and `ids.json` what was
submitted, and `slurm/<number>/<job>-<index>.json` how each array task ended. So any login node can report the state.
"""

import argparse
import shlex
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from slurm.jobs import SINGLE, Parts
from targen.config.groups.cluster import JOBS, JobName
from targen.runtime import scheduler
from targen.runtime.cli import exit_code_of, program
from targen.runtime.errors import UserError, one_line
from targen.runtime.jsonl import Json, read_json, read_jsonl
from targen.runtime.paths import RunPaths, visible_paths
from targen.runtime.subprocesses import last_error
from targen.synthesis.slots.assignment import Shard
from targen.synthesis.slots.shards import done_marker, shard_name

State = Literal["done", "running", "queued", "failed", "missing"]
STATES: tuple[State, ...] = ("done", "running", "queued", "failed", "missing")
ENDED_STATES = frozenset(
    ("COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "DEADLINE", "OUT_OF_MEMORY", "REVOKED")
)  # fmt: skip
MAX_LOGS, LOG_LINES = 10, 5  # failed array tasks that are shown with their log, and its last lines
SILENT_END = "ended without a message: killed (memory, time limit, node) or cancelled"


@dataclass(frozen=True)
class Submission:
    """One run of slurm/submit.sh: what it submitted, and the ids of its jobs by name."""

    folder: Path
    grid: Json
    ids: Mapping[str, str]


@dataclass(frozen=True)
class ArrayTask:
    """The contexts, a shard, the merge, a cell to train or to score, or the report; `id` and `log` are those of its latest job."""

    job_name: JobName
    name: str
    state: State
    reason: str = ""
    id: str | None = None
    log: Path | None = None


@dataclass(frozen=True)
class _LatestJob:
    """The latest job that was submitted for an array task."""

    submission: Submission
    name: str
    is_single: bool
    index: int
    slot: int | None  # among the parts that the array task runs side by side

    @property
    def array_id(self) -> str:
        return self.submission.ids[self.name]

    @property
    def id(self) -> str:
        return self.array_id if self.is_single else f"{self.array_id}_{self.index}"

    @property
    def log(self) -> Path:
        slot = "" if self.slot is None else f"-{self.slot}"
        return self.submission.folder / f"{self.name}-{self.index}{slot}.log"

    def record(self) -> Json:
        path = self.log.with_suffix(".json")
        return read_json(path) if path.is_file() else {}


def submissions(paths: RunPaths) -> list[Submission]:
    """The submissions of a run that SLURM accepted, oldest first."""
    return [
        Submission(ids.parent, read_json(ids.parent / "grid.json"), read_json(ids))
        for ids in visible_paths(paths.slurm, "*/ids.json")
    ]


def is_done(paths: RunPaths, grid: Json, job_name: JobName, name: str) -> bool:
    """Whether the files that this array task writes exist and are complete."""
    if job_name == "train":
        return (paths.model(name) / "done.json").is_file()
    if job_name == "evaluate":
        return _is_scored(paths, grid, name)
    if job_name == "report":
        return _is_page_current(paths)
    if _has_rows(paths, grid["sizes"]):
        return True
    if job_name == "contexts":
        return _is_marked(paths, grid, "contexts") or all(
            _is_marked(paths, grid, shard_name(Shard(index, grid["shards"]))) for index in range(grid["shards"])
        )
    if job_name == "generate" and grid["shards"] > 1:
        return _is_marked(paths, grid, shard_name(Shard(int(name), grid["shards"])))
    return False


def _is_scored(paths: RunPaths, grid: Json, cell: str) -> bool:
    scores, model = paths.cell_scores(cell), paths.model(cell) / "done.json"
    if not scores.is_file() or (model.is_file() and model.stat().st_mtime > scores.stat().st_mtime):
        return False
    return set(grid["benchmarks"]) <= {row.get("benchmark") for _, row in read_jsonl(scores)}


def _is_page_current(paths: RunPaths) -> bool:
    """Whether there is a page, and no score is newer than it."""
    page = paths.report / "index.html"
    if not page.is_file():
        return False
    score_times = [path.stat().st_mtime for path in visible_paths(paths.scores.with_suffix(""), "*.jsonl")]
    return page.stat().st_mtime >= max(score_times, default=0.0)


def _has_rows(paths: RunPaths, sizes: Mapping[str, int]) -> bool:
    folders = {paths.synthetic(task): rows for task, rows in sizes.items()}
    complete = all((folder / name).is_file() for folder in folders for name in ("train.jsonl", "stats.json"))
    return complete and all(read_json(folder / "stats.json").get("rows") == rows for folder, rows in folders.items())


def _is_marked(paths: RunPaths, grid: Json, name: str) -> bool:
    """Whether a shard, or the contexts, left the marker of enough rows."""
    path = done_marker(paths, name)
    rows = read_json(path).get("rows", {}) if path.is_file() else {}
    return all(rows.get(task, -1) >= size for task, size in grid["sizes"].items())


def array_tasks(paths: RunPaths, grid: Json, queue: Sequence[scheduler.QueuedJob] | None) -> list[ArrayTask]:
    """The state of every array task of the grid. If `queue` is None, SLURM is not available and the files alone decide."""
    queued_jobs = {(job.id, job.index or 0): job for job in queue or ()}
    latest = _latest_jobs(paths)
    tasks = []
    for job_name in JOBS:
        for name in grid["whole"].get(job_name, []):
            if is_done(paths, grid, job_name, name):
                tasks.append(ArrayTask(job_name, name, "done"))
            elif (job := latest.get((job_name, name))) is None:
                tasks.append(ArrayTask(job_name, name, "missing", "never submitted"))
            else:
                state, reason = _state(job, queued_jobs.get((job.array_id, job.index)), queue is not None)
                tasks.append(ArrayTask(job_name, name, state, reason, job.id, job.log))
    return tasks


def _latest_jobs(paths: RunPaths) -> dict[tuple[str, str], _LatestJob]:
    latest = {}
    for submission in submissions(paths):
        for job in submission.grid["jobs"]:
            if job["name"] in submission.ids:
                is_single = job["kind"] in SINGLE
                for index, element in enumerate(job["elements"]):
                    slots = {element: None} if isinstance(element, str) else {name: i for i, name in enumerate(element)}
                    for name, slot in slots.items():
                        latest[job["kind"], name] = _LatestJob(submission, job["name"], is_single, index, slot)
    return latest


def _state(job: _LatestJob, queued: scheduler.QueuedJob | None, has_slurm: bool) -> tuple[State, str]:
    """The state of an array task that was submitted and is not done, and the reason for it."""
    record = job.record()
    if job.slot is not None and record.get("outcome") == "failed":  # its array task goes on with the others
        return "failed", str(record.get("error"))
    if queued is not None and queued.state not in ENDED_STATES:
        if queued.state == "PENDING":
            return "queued", _pending_reason(record, queued.reason)
        return "running", queued.state.lower()
    if record.get("outcome") == "failed":
        return "failed", str(record.get("error"))
    if not has_slurm and record.get("outcome") not in (None, "done"):
        return "running", f"according to its file ({record['outcome']})"
    end_reason = f"SLURM says {queued.state}" if queued is not None else None
    if record or (queued is not None and queued.state not in ("CANCELLED", "COMPLETED")):
        return "failed", "; ".join(filter(None, (end_reason or SILENT_END, last_error(job.log))))
    return "missing", end_reason or "not in the queue"


def _pending_reason(record: Json, reason: str) -> str:
    if record.get("failures"):
        return f"{reason}; restarts after failure {record['failures']}: {record.get('error')}"
    return reason


def parts_to_submit(tasks: Iterable[ArrayTask]) -> Parts:
    """What is neither done nor in the queue, and a new report if anything before it will run."""
    tasks = list(tasks)
    lost = _by_job((task.job_name, task.name) for task in tasks if task.state in ("missing", "failed"))
    reports = [task for task in tasks if task.job_name == "report"]
    # a report in the queue only waits for the jobs that were submitted with it
    is_report_queued = any(task.state in ("running", "queued") for task in reports)
    return {**lost, "report": ("report",)} if lost and reports and not is_report_queued else lost


def ids_in_queue(tasks: Iterable[ArrayTask]) -> Parts:
    """The ids of jobs in the queue, for which later ones must wait; of cells that are scored those of their arrays."""
    ids = ((task.job_name, task.id) for task in tasks if task.id and task.state in ("running", "queued"))
    return _by_job((name, id.partition("_")[0] if name == "evaluate" else id) for name, id in ids)


def _by_job(pairs: Iterable[tuple[JobName, str]]) -> Parts:
    """The distinct values of each kind of job, in their order."""
    values_of: dict[JobName, dict[str, None]] = {}
    for job_name, value in pairs:
        values_of.setdefault(job_name, {})[value] = None
    return {job_name: tuple(values) for job_name, values in values_of.items()}


def status(root: Path) -> str:
    """The state of a grid as text. Raises: UserError if none was submitted."""
    paths = RunPaths(root)
    submitted = submissions(paths)
    if not submitted:
        raise UserError(
            f"run.dir: nothing was submitted from {root}, expected a folder {paths.slurm}. Submit the grid: {program('slurm/submit.sh', 'submit')} ... run.dir={shlex.quote(str(root))}"
        )
    newest = submitted[-1]
    queue = scheduler.queue()
    tasks = array_tasks(paths, newest.grid, queue)
    lines = [f"{root}: {newest.grid['run']}, {len(submitted)} submission{'s' * (len(submitted) > 1)}"]
    if queue is None:
        lines.append("SLURM is not available here: running and queued are inferred from the run's files alone.")
    lines += _table(tasks)
    for number, task in enumerate(task for task in tasks if task.state == "failed"):
        lines.append(f"failed: {task.job_name} {task.name} ({task.id}): {_line(task.reason)}")
        if number < MAX_LOGS:
            lines += [*(f"    {line}" for line in _tail(task.log)), f"    {task.log}"]
    if parts_to_submit(tasks):
        lost = sum(task.state in ("missing", "failed") for task in tasks)
        lines.append(
            f"To submit the {lost} that are missing or failed: {program('slurm/resubmit.sh', 'resubmit')} {shlex.quote(str(root))}"
        )
    return "\n".join(lines) + "\n"


def _table(tasks: Sequence[ArrayTask]) -> list[str]:
    """A line per kind of job: how many of its array tasks are in each state."""
    lines = [f"{'':10}" + "".join(f"{state:>9}" for state in STATES) + f"{'of':>9}"]
    for job_name in JOBS:
        job_tasks = [task for task in tasks if task.job_name == job_name]
        if not job_tasks:
            continue
        counts = Counter(task.state for task in job_tasks)
        line = f"{job_name:10}" + "".join(f"{counts[state]:>9}" for state in STATES) + f"{len(job_tasks):>9}"
        reasons = Counter(task.reason for task in job_tasks if task.state == "queued")
        lines.append(line + (f"   ({_line(reasons.most_common(1)[0][0])})" if reasons else ""))
    return lines


def _tail(log: Path | None) -> list[str]:
    try:
        text = log.read_bytes()[-20_000:].decode("utf-8", errors="replace") if log is not None else ""
    except OSError:
        return []
    return [_line(line) for line in text.splitlines() if line.strip()][-LOG_LINES:]


def _line(text: str) -> str:
    """One line, without control characters."""
    return "".join(char if char.isprintable() else "?" for char in one_line(text, 300))


def main(arguments: list[str]) -> int:
    """Prints the state of a grid; the exit code: 2 if nothing was submitted from the folder."""
    parser = argparse.ArgumentParser(
        program("slurm/status.sh"), description="Shows the state of a grid that was submitted to SLURM."
    )
    parser.add_argument("run_dir", metavar="RUN_DIR", help="the run.dir of the grid")
    root = parser.parse_args(arguments).run_dir.removeprefix("run.dir=")
    return exit_code_of(lambda: sys.stdout.write(status(Path(root))) and 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
