"""Submits the grid of a run to SLURM: `slurm/submit.sh +experiment=superglue_flant5 [overrides]`, or what is missing of it.

`--dry-run` prints what sbatch would get and which element has which index; nothing is written. What was done, or waits in
the queue, is left out.
"""

import json
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slurm.jobs import Job, Place, index_map, jobs, sbatch_text, whole
from slurm.shared_files import check_visible
from slurm.status import elements, live_of, submissions, todo_of
from targen.config.cluster import problems, shard_count
from targen.config.run_directory import open_run
from targen.config.settings import Settings
from targen.generate import recipes
from targen.run import check_evaluation_data
from targen.runtime import scheduler
from targen.runtime.cli import main
from targen.runtime.errors import UserError
from targen.runtime.jsonl import Json, write_text
from targen.runtime.paths import PROJECT, RunPaths
from targen.runtime.run_lock import locked
from train.grid.cells import cells, check_trained

log = logging.getLogger(__name__)
DRY = "TARGEN_DRY_RUN"
MOST = 999  # submissions of a run


@dataclass(frozen=True)
class Planned:
    """A submission before it is one."""

    settings: Settings
    place: Place
    grid: Json
    jobs: list[Job]

    def text(self, job: Job) -> str:
        return sbatch_text(self.settings, job, self.place)


def grid_of(settings: Settings, overrides: Sequence[str]) -> Json:
    """What grid.json says of the run, without its jobs: all that an element needs."""
    cluster, train = settings.cluster, settings.cluster.train
    todo = whole(settings)
    suite = settings.eval.openllm.suite
    return {
        "run": settings.name,
        "cwd": str(Path.cwd()),
        "overrides": list(overrides),
        "shards": shard_count(settings),
        "sizes": {task.name: settings.synth.size_of(task) for task in settings.tasks.values()},
        "benchmarks": ["superglue"] * settings.eval.superglue + [suite] * (suite is not None),
        "launch": settings.train.launch,
        "analyze": "analyze" in settings.phases,
        "nodes": train.nodes,
        "processes": train.nodes * (train.processes or max(train.gpus, 1)),
        "container": cluster.container,
        "python": cluster.python or (sys.executable if cluster.container is None else "python"),
        "max_failures": cluster.max_failures,
        "max_restarts": cluster.max_restarts,
        "whole": {
            "generate": list(todo.shards),
            "merge": ["merge"] * todo.merge,
            "train": list(todo.train),
            "evaluate": list(todo.evaluate),
            "report": ["report"] * todo.report,
        },
    }


def plan(settings: Settings, overrides: Sequence[str], longest: int, queue: Any) -> Planned:
    """What is to be submitted: all of the grid that is neither done nor in the queue."""
    paths = RunPaths(settings.paths.root.resolve())
    grid = grid_of(settings, overrides)
    found = elements(paths, grid, queue)
    todo, live = todo_of(found), live_of(found)
    made = jobs(todo, longest, live)
    if todo.shards and settings.generator.backend == "batch":
        raise UserError(
            "generator: got batch, whose requests are answered elsewhere, expected a generator that answers. Generate first: "
            "python -m targen.generate ..., then submit the rest."
        )
    python = grid["python"] if settings.cluster.container is None else "python3"
    place = Place(Path.cwd(), PROJECT, python, _next_folder(paths))
    of_jobs = [{"name": job.name, "kind": job.kind, "elements": list(job.elements)} for job in made]
    return Planned(settings, place, grid | {"jobs": of_jobs}, made)


def _next_folder(paths: RunPaths) -> Path:
    taken = [int(path.name) for path in paths.slurm.glob("*") if path.name.isdecimal()]
    return paths.slurm / f"{max(taken, default=0) + 1:03d}"


def submit(planned: Planned) -> dict[str, str]:
    """The ids of the jobs by their names. All are held until the last is accepted, so that none runs when one is refused."""
    folder, ids = planned.place.folder, dict[str, str]()
    folder.mkdir(parents=True)
    write_text(folder / "grid.json", json.dumps(planned.grid, indent=1) + "\n")
    held = []
    try:
        for job in planned.jobs:
            script = folder / f"{job.name}.sbatch"
            write_text(script, planned.text(job))
            after = [(kind, ids.get(other, other)) for kind, other in job.after]
            ids[job.name] = scheduler.submitted(str(script), after, hold=not after)
            held += [ids[job.name]] * (not after)
    except BaseException:
        scheduler.cancel(list(ids.values()))
        with suppress(OSError):
            for path in folder.iterdir():
                path.unlink()
            folder.rmdir()
        raise
    write_text(folder / "ids.json", json.dumps(ids, indent=1) + "\n")
    scheduler.release(held)
    return ids


def check(settings: Settings) -> None:
    """Raises: UserError with everything that would stop the grid later and can be known now."""
    found = problems(settings)
    if not {"train", "evaluate"}.isdisjoint(settings.phases):
        cells(settings)
    if found:
        raise UserError("\n".join(found))
    if "generate" in settings.phases and settings.cluster.container is None:
        recipes(settings)
    check_evaluation_data(settings)
    check_trained(settings)


def phase(cfg: Any, overrides: list[str]) -> int:
    dry = bool(os.environ.get(DRY))
    if not dry and not scheduler.available():
        raise UserError(scheduler.MISSING)
    settings = open_run(cfg, check, write=False)
    longest = _longest_array(dry)
    queue = scheduler.queue()
    planned = plan(settings, overrides, longest, queue)
    if not planned.jobs:
        log.info("slurm: nothing to submit: all of the grid is done or in the queue")
        return 0
    if dry:
        sys.stdout.write(shown(planned))
        return 0
    check_visible(settings, planned.place.folder)
    with locked(settings.paths.slurm, "submit"):
        open_run(cfg)  # writes config.yaml, once for all elements
        ids = submit(planned)
    for job in planned.jobs:
        log.info(
            "slurm: %s: job %s, %d element%s", job.name, ids[job.name], len(job.elements), "s" * (len(job.elements) > 1)
        )
    log.info("slurm: how it goes: slurm/status.sh %s", settings.run.dir)
    return 0


def _longest_array(dry: bool) -> int:
    try:
        return scheduler.longest_array()
    except UserError:
        if dry:
            return scheduler.LONGEST_ARRAY
        raise


def shown(planned: Planned) -> str:
    """What --dry-run prints: each text with what it waits for, then the map of the indices."""
    parts = []
    for job in planned.jobs:
        after = ",".join(
            f"{kind}:<{other}>" if not other[:1].isdigit() else f"{kind}:{other}" for kind, other in job.after
        )
        parts.append(f"# {job.name}.sbatch" + (f"   --dependency={after}" if after else "") + f"\n{planned.text(job)}")
    return "\n".join(parts) + "\n# index\telement\n" + index_map(planned.jobs)


def resubmit_arguments(root: str) -> list[str]:
    """The overrides of the newest submission of a run, in whose folder they mean the same.

    Raises: UserError where nothing was submitted.
    """
    paths = RunPaths(Path(root.removeprefix("run.dir=")).resolve())
    made = submissions(paths)
    if not made:
        raise UserError(
            f"run.dir: nothing was submitted from {root}. Submit the grid: slurm/submit.sh ... run.dir={root}"
        )
    os.chdir(made[-1].grid["cwd"])
    return list(made[-1].grid["overrides"])


if __name__ == "__main__":
    if "--dry-run" in sys.argv:
        sys.argv.remove("--dry-run")
        os.environ[DRY] = "1"
    if sys.argv[1:2] == ["--missing"]:
        try:
            if len(sys.argv) < 3:
                raise UserError("resubmit: got no run.dir, expected one: slurm/resubmit.sh <run.dir>")
            sys.argv[1:] = resubmit_arguments(sys.argv[2]) + sys.argv[3:]
        except (UserError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)  # noqa: T201
            sys.exit(2)
    main("slurm.submit", "submits the grid to SLURM; --dry-run only shows it", phase)
