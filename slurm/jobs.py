"""The grid of a run as SLURM jobs: the tasks of each array, the dependencies, and the sbatch scripts. No I/O.

Five kinds of jobs: an array over the shards of the generation, the merge, an array over the cells to train, one over the
cells to score, and the report. The merge and the report are single jobs and count as arrays of one task. An array longer
than the cluster's MaxArraySize is split into several.
"""

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from targen.config.groups.cluster import Cluster, JobName, Resources
from targen.config.settings import Settings
from train.grid.cells import cells

# (afterok, aftercorr or afterany; name of a job of the same submission, or id of an earlier job)
Dependency = tuple[str, str]


@dataclass(frozen=True)
class GridWork:
    """Array tasks of a grid by name, in the order of the grid: all of them, or those to be submitted."""

    shards: tuple[str, ...]
    merge: bool
    train: tuple[str, ...]
    evaluate: tuple[str, ...]
    report: bool

    def __bool__(self) -> bool:
        return bool(self.shards or self.merge or self.train or self.evaluate or self.report)


@dataclass(frozen=True)
class Job:
    """One call of sbatch: an array whose task with index i is `array_tasks[i]`."""

    name: str
    job_name: JobName
    array_tasks: tuple[str, ...]
    after: tuple[Dependency, ...] = ()

    @property
    def is_single(self) -> bool:
        """Whether it is a single job instead of an array: the merge or the report."""
        return self.job_name in ("merge", "report")


@dataclass(frozen=True)
class JobPaths:
    """Where jobs run: absolute paths, and the interpreter. `folder` is that of the submission; `project` is None where the
    interpreter finds the program by itself."""

    cwd: Path
    project: Path | None
    python: str
    folder: Path


@dataclass(frozen=True)
class QueuedIds:
    """Ids of jobs of earlier submissions that are still queued: one per array task, but one per array for `evaluate`."""

    generate: tuple[str, ...] = ()
    merge: tuple[str, ...] = ()
    evaluate: tuple[str, ...] = ()


def shard_count(settings: Settings) -> int:
    """Number of shards into which generation on the cluster is split."""
    return settings.cluster.shards if settings.shard.count == 1 else settings.shard.count


def whole_grid(settings: Settings) -> GridWork:
    """All array tasks of the phases of the run."""
    phases = settings.phases
    shards = shard_count(settings)
    grid = cells(settings)
    return GridWork(
        shards=tuple(str(index) for index in range(shards)) if "generate" in phases else (),
        merge=shards > 1 and bool({"generate", "merge"} & set(phases)),
        train=tuple(cell.name for cell in grid if cell.trained) if "train" in phases else (),
        evaluate=tuple(cell.name for cell in grid) if "evaluate" in phases else (),
        report="report" in phases,
    )


def jobs(work: GridWork, longest: int, queued: QueuedIds | None = None) -> list[Job]:
    """The jobs in order of submission; no array is longer than `longest`."""
    queued = queued or QueuedIds()
    generation = _arrays("generate", "generate", work.shards, longest)
    after_shards = (*_each("afterok", generation), *(("afterok", id) for id in queued.generate))
    merge = [Job("merge", "merge", ("merge",), after_shards)] if work.merge else []
    after_rows = _each("afterok", merge) if merge else (*after_shards, *(("afterok", id) for id in queued.merge))
    training = _arrays("train", "train", work.train, longest, after_rows)
    scoring = []
    for job in training:  # a cell is scored as soon as it is trained
        scored = tuple(name for name in job.array_tasks if name in set(work.evaluate))
        dependency = "aftercorr" if scored == job.array_tasks else "afterok"
        if scored:
            name = job.name.replace("train", "evaluate")
            scoring.append(Job(name, "evaluate", scored, ((dependency, job.name),)))
    untrained = [name for name in work.evaluate if name not in set(work.train)]
    scoring += _arrays("evaluate-only" if scoring else "evaluate", "evaluate", untrained, longest, after_rows)
    before_report = [*generation, *merge, *training, *scoring]
    if not work.report:
        return before_report
    last = scoring or training or before_report[-1:]
    # afterany: the report shows the cells that exist, even if others failed
    after_all = (*_each("afterany", last), *(("afterany", id) for id in queued.evaluate))
    return [*before_report, Job("report", "report", ("report",), after_all)]


def _each(dependency: str, jobs: Iterable[Job]) -> tuple[Dependency, ...]:
    return tuple((dependency, job.name) for job in jobs)


def _arrays(
    name: str, job_name: JobName, array_tasks: Sequence[str], longest: int, after: tuple[Dependency, ...] = ()
) -> list[Job]:
    parts = [tuple(array_tasks[start : start + longest]) for start in range(0, len(array_tasks), longest)]
    names = [name] if len(parts) == 1 else [f"{name}-{number}" for number in range(1, len(parts) + 1)]
    return [Job(part_name, job_name, part, after) for part_name, part in zip(names, parts, strict=True)]


def log_pattern(job: Job) -> str:
    """The file name of a job's log for sbatch; %a stands for the index of the array task."""
    return f"{job.name}-0.log" if job.is_single else f"{job.name}-%a.log"


def sbatch_text(settings: Settings, job: Job, paths: JobPaths) -> str:
    """The script of one job. Every value that comes from the user is quoted."""
    cluster, resources = settings.cluster, settings.cluster.of(job.job_name)
    lines = ["#!/bin/bash", *(f"#SBATCH {option}" for option in _options(settings, job, paths)), ""]
    lines += [*cluster.setup, *_exports(cluster, resources, paths)]
    if job.job_name == "train" and resources.nodes > 1:
        lines += [
            'export MASTER_ADDR="$(hostname)"  # this script runs on the first node',
            'export MASTER_PORT="$((20000 + SLURM_JOB_ID % 40000))"',
        ]
    grid_file = shlex.quote(str(paths.folder / "grid.json"))
    lines += [
        f"if [ ! -r {grid_file} ]; then",
        f'  echo "error: run.dir: {_in_double_quotes(paths.folder)} cannot be seen from $(hostname). Choose a run.dir on a file system that all nodes share." >&2',
        "  exit 2",
        "fi",
    ]
    command = [paths.python, "-m", "slurm.worker", str(paths.folder), job.name]
    lines.append(f'exec {shlex.join(command)} "${{SLURM_ARRAY_TASK_ID:-0}}"')
    return "\n".join(lines) + "\n"


def _options(settings: Settings, job: Job, paths: JobPaths) -> list[str]:
    cluster, resources = settings.cluster, settings.cluster.of(job.job_name)
    options = [f"--job-name={_word(settings.name)}-{job.name}", *_array(job, resources)]
    partition = resources.partition or cluster.partition
    named = (("partition", partition), ("account", cluster.account), ("qos", cluster.qos))
    options += [f"--{name}={value}" for name, value in named if value is not None]
    options += [f"--time={resources.time}", f"--nodes={resources.nodes}", "--ntasks-per-node=1"]
    options += [f"--cpus-per-task={resources.cpus}"]
    options += [f"--mem={resources.memory}"] if resources.memory is not None else []
    options += [cluster.gpu_option.format(resources.gpus)] if resources.gpus else []
    options += ["--requeue", f"--signal=B:USR1@{cluster.warn}", "--open-mode=append", "--kill-on-invalid-dep=yes"]
    log = f"{_percent_escaped(paths.folder)}/{log_pattern(job)}"
    options += [f"--chdir={_quoted(str(paths.cwd))}", f"--output={_quoted(log)}"]
    return [*options, *cluster.options, *resources.options]


def _array(job: Job, resources: Resources) -> list[str]:
    if job.is_single:
        return []
    limit = f"%{resources.at_once}" if resources.at_once is not None else ""
    return [f"--array=0-{len(job.array_tasks) - 1}{limit}"]


def _exports(cluster: Cluster, resources: Resources, paths: JobPaths) -> list[str]:
    threads = max(1, resources.cpus // (resources.processes or max(resources.gpus, 1)))
    exports = [
        f'export OMP_NUM_THREADS="${{OMP_NUM_THREADS:-{threads}}}"',
        "export PYTHONSAFEPATH=1  # no train.py or slurm.py of the current folder in our place",
    ]
    if paths.project is not None:
        exports.append(f"export PYTHONPATH={shlex.quote(str(paths.project))}${{PYTHONPATH:+:$PYTHONPATH}}")
    if cluster.offline:
        exports.append("export HF_HUB_OFFLINE=1  # many jobs that download into one cache at a time corrupt it")
    return exports


def _percent_escaped(path: Path) -> str:
    """A path in sbatch's --output, where % begins a pattern."""
    return str(path).replace("%", "%%")


def _quoted(text: str) -> str:
    """A value in an #SBATCH line."""
    return text if _word(text) == text else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _word(text: str) -> str:
    return "".join(char if char.isalnum() or char in "-_.+=/%:," else "_" for char in text)


def _in_double_quotes(path: Path) -> str:
    """A path inside double quotes of the shell."""
    return "".join(f"\\{char}" if char in '\\"$`' else char for char in str(path))


def index_map(made: Sequence[Job]) -> str:
    """Lines `train[0]<tab>name`: which array task has which index."""
    return "".join(f"{job.name}[{index}]\t{name}\n" for job in made for index, name in enumerate(job.array_tasks))
