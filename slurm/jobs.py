"""The grid of a run as SLURM jobs: the tasks of each array, the dependencies, and the sbatch scripts. No I/O.

Six kinds of jobs: the contexts that all shards share, an array over the shards of the generation, the merge, an array over the
cells to train, one over the cells to score, and the report. Contexts, merge and report are single jobs and count as arrays of
one task. An array task may run several shards or cells side by side (cluster.per_node). An array longer than the cluster's
MaxArraySize is split into several.
"""

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from targen.config.groups.cluster import Cluster, JobName, Resources, memory_share
from targen.config.rules.submission import shard_count
from targen.config.settings import Settings
from train.grid.cells import cells

# (afterok, aftercorr or afterany; name of a job of the same submission, or id of an earlier job)
Dependency = tuple[str, str]
# the parts of a grid, all or those to be submitted, by the kind of their job in the order of JobName; a single job is one part
Parts = Mapping[JobName, tuple[str, ...]]
SINGLE: tuple[JobName, ...] = ("contexts", "merge", "report")
HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Job:
    """One call of sbatch: an array whose task with index i runs the parts `array_tasks[i]` side by side."""

    name: str
    job_name: JobName
    array_tasks: tuple[tuple[str, ...], ...]
    after: tuple[Dependency, ...] = ()

    @property
    def is_single(self) -> bool:
        """Whether it is a single job instead of an array."""
        return self.job_name in SINGLE

    @property
    def side_by_side(self) -> int:
        """The parts that an array task runs at the same time, at most."""
        return max(map(len, self.array_tasks))


@dataclass(frozen=True)
class JobPaths:
    """Where jobs run: absolute paths, and the interpreter. `folder` is that of the submission; `project` is None where the
    interpreter finds the program by itself."""

    cwd: Path
    project: Path | None
    python: str
    folder: Path


def whole_grid(settings: Settings) -> Parts:
    """All parts of the phases of the run."""
    phases, shards, grid = settings.phases, shard_count(settings), cells(settings)
    return {
        "contexts": ("contexts",) if "generate" in phases and shards > 1 else (),
        "generate": tuple(map(str, range(shards))) if "generate" in phases else (),
        "merge": ("merge",) if shards > 1 and not {"generate", "merge"}.isdisjoint(phases) else (),
        "train": tuple(cell.name for cell in grid if cell.trained) if "train" in phases else (),
        "evaluate": tuple(cell.name for cell in grid) if "evaluate" in phases else (),
        "report": ("report",) if "report" in phases else (),
    }


def jobs(
    parts: Parts,
    longest: int,
    queued: Parts | None = None,
    side_by_side: Callable[[JobName], int] = lambda _: 1,
) -> list[Job]:
    """The jobs in order of submission; no array is longer than `longest`, and no array task runs more than `side_by_side`.

    `queued`: ids of jobs of earlier submissions that are still in the queue, one per array task, but one per array for `evaluate`.
    """

    def arrays(name: str, job_name: JobName, names: Sequence[str], after: tuple[Dependency, ...]) -> list[Job]:
        return _arrays(name, job_name, _chunks(names, side_by_side(job_name)), longest, after)

    def single(job_name: JobName, after: tuple[Dependency, ...] = ()) -> list[Job]:
        return [Job(job_name, job_name, ((job_name,),), after)] if parts.get(job_name) else []

    def in_queue(dependency: str, job_name: JobName) -> tuple[Dependency, ...]:
        return tuple((dependency, id) for id in (queued or {}).get(job_name, ()))

    contexts = single("contexts")
    after_contexts = (*_after("afterok", contexts), *in_queue("afterok", "contexts"))
    generation = arrays("generate", "generate", parts.get("generate", ()), after_contexts)
    after_shards = (*_after("afterok", generation), *in_queue("afterok", "generate"))
    merge = single("merge", after_shards)
    after_rows = _after("afterok", merge) if merge else (*after_shards, *in_queue("afterok", "merge"))
    to_train, to_score = parts.get("train", ()), parts.get("evaluate", ())
    training = arrays("train", "train", to_train, after_rows)
    scoring = []
    for job in training:  # a cell is scored as soon as it is trained
        trained = [name for names in job.array_tasks for name in names]
        scored = tuple(name for name in trained if name in set(to_score))
        if scored:
            array_tasks = _chunks(scored, side_by_side("evaluate"))
            dependency = "aftercorr" if array_tasks == job.array_tasks else "afterok"
            # of cells that were trained side by side, those that succeeded are scored even if another failed
            dependency = "afterany" if job.side_by_side > 1 else dependency
            name = job.name.replace("train", "evaluate")
            scoring.append(Job(name, "evaluate", array_tasks, ((dependency, job.name),)))
    untrained = [name for name in to_score if name not in set(to_train)]
    scoring += arrays("evaluate-only" if scoring else "evaluate", "evaluate", untrained, after_rows)
    before_report = [*contexts, *generation, *merge, *training, *scoring]
    final_jobs = scoring or training or before_report[-1:]
    # afterany: the report shows the cells that exist, even if others failed
    return [*before_report, *single("report", (*_after("afterany", final_jobs), *in_queue("afterany", "evaluate")))]


def _after(dependency: str, jobs: Iterable[Job]) -> tuple[Dependency, ...]:
    return tuple((dependency, job.name) for job in jobs)


def _chunks(parts: Sequence[str], size: int) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(parts[start : start + size]) for start in range(0, len(parts), size))


def _arrays(
    name: str,
    job_name: JobName,
    array_tasks: Sequence[tuple[str, ...]],
    longest: int,
    after: tuple[Dependency, ...],
) -> list[Job]:
    parts = [tuple(array_tasks[start : start + longest]) for start in range(0, len(array_tasks), longest)]
    names = [name] if len(parts) == 1 else [f"{name}-{number}" for number in range(1, len(parts) + 1)]
    return [Job(part_name, job_name, part, after) for part_name, part in zip(names, parts, strict=True)]


def log_pattern(job: Job) -> str:
    """The file name of a job's log for sbatch; %a stands for the index of the array task."""
    return f"{job.name}-0.log" if job.is_single else f"{job.name}-%a.log"


def sbatch_text(settings: Settings, job: Job, paths: JobPaths) -> str:
    """The script of one job. Every value that comes from the user is quoted."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    cluster, resources = settings.cluster, settings.cluster.of(job.job_name)
    environment = Environment(
        loader=FileSystemLoader(HERE), undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True
    )
    environment.filters |= {"quote": shlex.quote, "in_double_quotes": _in_double_quotes}
    return environment.get_template("job.sbatch.j2").render(
        options=_options(settings, job, paths),
        setup=cluster.setup,
        threads=max(1, (resources.cpus or 1) // (resources.processes or max(resources.gpus, 1))),
        project=None if paths.project is None else str(paths.project),
        offline=cluster.offline,
        nodes_meet=job.job_name == "train" and resources.nodes > 1,
        folder=str(paths.folder),
        command=shlex.join([paths.python, "-m", "slurm.worker", str(paths.folder), job.name]),
    )


def _options(settings: Settings, job: Job, paths: JobPaths) -> list[str]:
    cluster, resources = settings.cluster, _requested_resources(settings.cluster, job)
    options = [f"--job-name={_plain_word(settings.name)}-{job.name}", *_array(job, resources)]
    partition = resources.partition or cluster.partition
    optional = (("partition", partition), ("account", cluster.account), ("qos", cluster.qos))
    options += [f"--{name}={value}" for name, value in optional if value is not None]
    options += [f"--time={resources.time}", f"--nodes={resources.nodes}", "--ntasks-per-node=1"]
    options += [f"--cpus-per-task={resources.cpus}"]
    options += [f"--mem={resources.memory}"] if resources.memory is not None else []
    options += [cluster.gpu_option.format(resources.gpus)] if resources.gpus else []
    options += ["--requeue", f"--signal=B:USR1@{cluster.warn}", "--open-mode=append", "--kill-on-invalid-dep=yes"]
    log = f"{_percent_escaped(paths.folder)}/{log_pattern(job)}"
    options += [f"--chdir={_quoted(str(paths.cwd))}", f"--output={_quoted(log)}"]
    return [*options, *cluster.options, *resources.options]


def _requested_resources(cluster: Cluster, job: Job) -> Resources:
    """What an array task asks for: the sum over its shards or cells."""
    part, count = cluster.of(job.job_name), job.side_by_side
    memory = part.memory and memory_share(part.memory, count)
    return replace(part, cpus=part.cpus and part.cpus * count, memory=memory, gpus=part.gpus * count)


def _array(job: Job, resources: Resources) -> list[str]:
    if job.is_single:
        return []
    limit = f"%{resources.at_once}" if resources.at_once is not None else ""
    return [f"--array=0-{len(job.array_tasks) - 1}{limit}"]


def _percent_escaped(path: Path) -> str:
    """A path in sbatch's --output, where % begins a pattern."""
    return str(path).replace("%", "%%")


def _quoted(text: str) -> str:
    """A value in an #SBATCH line."""
    return text if _plain_word(text) == text else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _plain_word(text: str) -> str:
    """The text with _ for every character that is special in an #SBATCH line."""
    return "".join(char if char.isalnum() or char in "-_.+=/%:," else "_" for char in text)


def _in_double_quotes(text: str) -> str:
    """A text inside double quotes of the shell."""
    return "".join(f"\\{char}" if char in '\\"$`' else char for char in text)


def index_map(planned: Sequence[Job]) -> str:
    """Lines `train[0]<tab>name`: what the array task with this index runs."""
    return "".join(
        f"{job.name}[{index}]\t{name}\n"
        for job in planned
        for index, names in enumerate(job.array_tasks)
        for name in names
    )
