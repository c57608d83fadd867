"""Submits the grid of a run to SLURM, or the part that is missing: `slurm/submit.sh +experiment=superglue_flant5 [overrides]`.

With `--dry-run` it only prints the sbatch scripts and the index of each array task. Array tasks that are done or queued are
left out.
"""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from slurm.jobs import Dependency, Job, JobPaths, index_map, jobs, sbatch_text, whole_grid
from slurm.shared_files import check_shared
from slurm.status import array_tasks, ids_in_queue, parts_to_submit
from targen.config.groups.cluster import PACKED
from targen.config.rules.rule import broken_rules
from targen.config.rules.submission import SUBMISSION_RULES, shard_count
from targen.config.run_directory import open_run
from targen.config.settings import Settings
from targen.data.checks import check_local_rows
from targen.pipeline.start import log_start
from targen.runtime import scheduler
from targen.runtime.cli import main, program
from targen.runtime.errors import UserError
from targen.runtime.jsonl import Json, write_text
from targen.runtime.lock.run_lock import hold_lock
from targen.runtime.paths import CHECKOUT, RunPaths
from targen.synthesis.recipes import recipes
from train.grid.cells import cells, check_trained

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PlannedSubmission:
    """The jobs of a submission, before they are sent to SLURM."""

    settings: Settings
    paths: JobPaths
    grid: Json
    jobs: list[Job]

    def text(self, job: Job) -> str:
        """The batch script of a job."""
        return sbatch_text(self.settings, job, self.paths)


def grid_json(settings: Settings, overrides: Sequence[str]) -> Json:
    """The contents of grid.json without the jobs: everything about the run that a worker needs."""
    cluster, train, evaluate = settings.cluster, settings.cluster.of("train"), settings.cluster.of("evaluate")
    suite = settings.eval.openllm.suite
    return {
        "run": settings.name,
        "cwd": str(Path.cwd()),
        "overrides": list(overrides),
        "shards": shard_count(settings),
        "sizes": {task.name: settings.synth.size_of(task) for task in settings.tasks.values()},
        "benchmarks": ["superglue"] * settings.eval.superglue + [suite] * (suite is not None),
        "launch": settings.train.launch,
        "launch_evaluate": settings.eval.launch,
        "analyze": "analyze" in settings.phases,
        "nodes": train.nodes,
        "processes": train.nodes * (train.processes or max(train.gpus, 1)),
        "evaluate_processes": evaluate.processes or max(evaluate.gpus, 1),
        "cpus": train.cpus,
        "gpus": {job: cluster.of(job).gpus for job in PACKED},
        "container": cluster.container,
        "python": cluster.python or (sys.executable if cluster.container is None else "python"),
        "max_failures": cluster.max_failures,
        "max_restarts": cluster.max_restarts,
        "whole": {job_name: list(names) for job_name, names in whole_grid(settings).items()},
    }


def plan(
    settings: Settings, overrides: Sequence[str], longest: int, queue: Sequence[scheduler.QueuedJob] | None
) -> PlannedSubmission:
    """The part of the grid that is neither done nor in the queue. Raises: UserError if it cannot run as jobs."""
    paths = RunPaths(settings.paths.root.resolve())
    grid = grid_json(settings, overrides)
    tasks = array_tasks(paths, grid, queue)
    parts = parts_to_submit(tasks)
    planned_jobs = jobs(parts, longest, ids_in_queue(tasks), settings.cluster.side_by_side)
    if parts.get("generate") and settings.generator.backend == "batch":
        raise UserError(
            "generator: got batch, whose requests are answered elsewhere, expected a generator that answers at once. Generate first: "
            "python -m targen.generate ..., then submit the rest."
        )
    python = grid["python"]
    if settings.cluster.container is not None:  # the worker runs outside of it
        python = sys.executable if CHECKOUT is None else "python3"
    job_paths = JobPaths(Path.cwd(), CHECKOUT, python, _next_folder(paths))
    plain_jobs = [{"name": job.name, "kind": job.job_name, "elements": _elements(job)} for job in planned_jobs]
    return PlannedSubmission(settings, job_paths, grid | {"jobs": plain_jobs}, planned_jobs)


def _elements(job: Job) -> list[str] | list[list[str]]:
    """What each array task runs: one part, or several side by side."""
    if job.side_by_side > 1:
        return [list(names) for names in job.array_tasks]
    return [name for (name,) in job.array_tasks]


def _next_folder(paths: RunPaths) -> Path:
    numbers = [int(path.name) for path in paths.slurm.glob("*") if path.name.isdecimal()]
    return paths.slurm / f"{max(numbers, default=0) + 1:03d}"


def submit(planned: PlannedSubmission) -> dict[str, str]:
    """The ids of the jobs by name. All are held until SLURM has accepted the last, so that none runs if one is refused."""
    folder, ids = planned.paths.folder, dict[str, str]()
    folder.mkdir(parents=True)
    write_text(folder / "grid.json", json.dumps(planned.grid, indent=1) + "\n")
    held_ids = []
    try:
        for job in planned.jobs:
            script = folder / f"{job.name}.sbatch"
            write_text(script, planned.text(job))
            after = [(dependency, ids.get(job_or_id, job_or_id)) for dependency, job_or_id in job.after]
            ids[job.name] = scheduler.submit(str(script), after, hold=not after)
            held_ids += [ids[job.name]] * (not after)
    except BaseException:
        scheduler.cancel(list(ids.values()))
        with suppress(OSError):
            for path in folder.iterdir():
                path.unlink()
            folder.rmdir()
        raise
    write_text(folder / "ids.json", json.dumps(ids, indent=1) + "\n")
    scheduler.release(held_ids)
    return ids


def check(settings: Settings, is_dry_run: bool = False) -> None:
    """Raises: UserError with every foreseeable problem that would stop the grid later. A dry run needs none of the jobs' libraries."""
    cluster_problems = broken_rules(SUBMISSION_RULES, settings)
    if not {"train", "evaluate"}.isdisjoint(settings.phases):
        cells(settings)
    if cluster_problems:
        raise UserError("\n".join(cluster_problems))
    if "generate" in settings.phases and settings.cluster.container is None:
        recipes(settings, runs_here=not is_dry_run)
    check_local_rows(settings)
    check_trained(settings)


def phase(is_dry_run: bool, cfg: Any, overrides: list[str]) -> int:
    """Submits the grid, or prints it; the exit code."""
    if not is_dry_run and not scheduler.available():
        raise UserError(scheduler.MISSING)
    settings = open_run(cfg, partial(check, is_dry_run=is_dry_run), write=False)
    planned = plan(settings, overrides, _longest_array(is_dry_run), scheduler.queue())
    if not planned.jobs:
        log.info("slurm: nothing to submit: everything is done or in the queue")
        return 0
    if is_dry_run:
        sys.stdout.write(dry_run_text(planned))
        return 0
    check_shared(settings, planned.paths.folder)
    log_start(settings, settings.phases)
    with hold_lock(settings.paths.slurm, "submit"):
        open_run(cfg)  # writes config.yaml, once for all array tasks
        ids = submit(planned)
    for job in planned.jobs:
        count = len(job.array_tasks)
        log.info("slurm: %s: job %s, %d array task%s", job.name, ids[job.name], count, "s" * (count > 1))
    log.info("slurm: check its state with %s %s", program("slurm/status.sh", "status"), settings.run.dir)
    return 0


def _longest_array(is_dry_run: bool) -> int:
    try:
        return scheduler.longest_array()
    except UserError:
        if is_dry_run:
            return scheduler.LONGEST_ARRAY
        raise


def dry_run_text(planned: PlannedSubmission) -> str:
    """What --dry-run prints: the text of each job with its dependencies, then the index of each array task."""
    parts = []
    for job in planned.jobs:
        after = ",".join(map(_dependency_text, job.after))
        parts.append(f"# {job.name}.sbatch" + (f"   --dependency={after}" if after else "") + f"\n{planned.text(job)}")
    return "\n".join(parts) + "\n# index\tarray task\n" + index_map(planned.jobs)


def _dependency_text(dependency: Dependency) -> str:
    """The dependency as in sbatch's option; a job that has no id yet is shown in angle brackets."""
    name, job_or_id = dependency
    return f"{name}:{job_or_id}" if job_or_id[:1].isdigit() else f"{name}:<{job_or_id}>"


def run(is_dry_run: bool, overrides: list[str]) -> None:
    """Submits the grid of these overrides, and exits."""
    sys.argv[1:] = overrides
    summary = "submits the grid to SLURM; --dry-run only prints the jobs"
    main("slurm.submit", summary, partial(phase, is_dry_run))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)  # --help is that of the overrides
    parser.add_argument("--dry-run", action="store_true")
    options, overrides = parser.parse_known_args()
    run(options.dry_run, overrides)
