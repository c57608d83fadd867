"""A grid as SLURM jobs: which elements each array has, what waits for what, and the text that sbatch gets. No I/O.

Five kinds of jobs: an array over the shards of the generation, the merge, an array over the cells to train, one over the
cells to score, the report. An array longer than the cluster's MaxArraySize becomes several.
"""

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from targen.config.cluster import Cluster, JobName, Resources, shard_count
from targen.config.settings import Settings
from train.grid.cells import cells


@dataclass(frozen=True)
class Todo:
    """What of a grid is to be submitted: elements by their names, in the order of the grid."""

    shards: tuple[str, ...]
    merge: bool
    train: tuple[str, ...]
    evaluate: tuple[str, ...]
    report: bool

    def __bool__(self) -> bool:
        return bool(self.shards or self.merge or self.train or self.evaluate or self.report)


@dataclass(frozen=True)
class Job:
    """One call of sbatch: an array of `elements`, element i with index i.

    `after`: (kind of dependency, name of a job of the same submission or id of an earlier one).
    """

    name: str
    kind: JobName
    elements: tuple[str, ...]
    after: tuple[tuple[str, str], ...] = ()

    @property
    def single(self) -> bool:
        """Not an array: the merge and the report."""
        return self.kind in ("merge", "report")


@dataclass(frozen=True)
class Place:
    """Where jobs run: absolute paths, and the interpreter."""

    cwd: Path
    project: Path
    python: str
    folder: Path  # of this submission


def whole(settings: Settings) -> Todo:
    """Everything that the phases of the run ask for."""
    phases = settings.phases
    shards = shard_count(settings)
    grid = cells(settings)
    return Todo(
        shards=tuple(str(index) for index in range(shards)) if "generate" in phases else (),
        merge=shards > 1 and bool({"generate", "merge"} & set(phases)),
        train=tuple(cell.name for cell in grid if cell.trained) if "train" in phases else (),
        evaluate=tuple(cell.name for cell in grid) if "evaluate" in phases else (),
        report="report" in phases,
    )


@dataclass(frozen=True)
class Live:
    """Ids of what an earlier submission has in the queue still, elements of arrays one by one."""

    generate: tuple[str, ...] = ()
    merge: tuple[str, ...] = ()
    evaluate: tuple[str, ...] = ()


def jobs(todo: Todo, longest: int, live: Live | None = None) -> list[Job]:
    """The jobs in the order of their submission; no array is longer than `longest`."""
    live = live or Live()
    made = _arrays("generate", todo.shards, longest)
    shards = (*_all("afterok", made), *(("afterok", id) for id in live.generate))
    if todo.merge:
        made.append(Job("merge", "merge", ("merge",), shards))
    rows = _all("afterok", made[-1:]) if todo.merge else (*shards, *(("afterok", id) for id in live.merge))
    trained = _arrays("train", todo.train, longest, rows)
    scored = []
    for job in trained:  # a cell is scored as soon as it is trained
        own = tuple(name for name in job.elements if name in set(todo.evaluate))
        if own == job.elements:
            scored.append(Job(job.name.replace("train", "evaluate"), "evaluate", own, (("aftercorr", job.name),)))
        elif own:
            scored.append(Job(job.name.replace("train", "evaluate"), "evaluate", own, (("afterok", job.name),)))
    rest = [name for name in todo.evaluate if name not in set(todo.train)]
    scored += _arrays("evaluate-only" if scored else "evaluate", rest, longest, rows)
    made += [*trained, *scored]
    if todo.report:  # whatever became of the cells: what is there is shown
        ends = (*_all("afterany", scored or trained or made[-1:]), *(("afterany", id) for id in live.evaluate))
        made.append(Job("report", "report", ("report",), ends))
    return made


def _all(kind: str, jobs: Iterable[Job]) -> tuple[tuple[str, str], ...]:
    return tuple((kind, job.name) for job in jobs)


def _arrays(kind: str, elements: Sequence[str], longest: int, after: tuple[tuple[str, str], ...] = ()) -> list[Job]:
    parts = [tuple(elements[start : start + longest]) for start in range(0, len(elements), longest)]
    names = [kind] if len(parts) == 1 else [f"{kind}-{number}" for number in range(1, len(parts) + 1)]
    of: JobName = "evaluate" if kind == "evaluate-only" else kind  # type: ignore[assignment]
    return [Job(name, of, part, after) for name, part in zip(names, parts, strict=True)]


def log_pattern(job: Job) -> str:
    """The name of a job's log, as sbatch has it; %a is the index of the element."""
    return f"{job.name}-0.log" if job.single else f"{job.name}-%a.log"


def sbatch_text(settings: Settings, job: Job, place: Place) -> str:
    """The script of one job. Everything that is not of this program is quoted."""
    cluster, asked = settings.cluster, settings.cluster.of(job.kind)
    lines = ["#!/bin/bash", *(f"#SBATCH {option}" for option in _options(settings, job, place)), ""]
    lines += [*cluster.setup, *_exports(cluster, asked, place)]
    if job.kind == "train" and asked.nodes > 1:
        lines += [
            'export MASTER_ADDR="$(hostname)"  # this script runs on the first node',
            'export MASTER_PORT="$((20000 + SLURM_JOB_ID % 40000))"',
        ]
    marker = shlex.quote(str(place.folder / "grid.json"))
    lines += [
        f"if [ ! -r {marker} ]; then",
        f'  echo "error: run.dir: {_plain(place.folder)} cannot be seen from $(hostname). Take a run.dir on a file system that all nodes share." >&2',
        "  exit 2",
        "fi",
    ]
    own = place.python if cluster.container is None else "python3"
    command = [own, "-m", "slurm.worker", str(place.folder), job.name]
    lines.append(f'exec {shlex.join(command)} "${{SLURM_ARRAY_TASK_ID:-0}}"')
    return "\n".join(lines) + "\n"


def _options(settings: Settings, job: Job, place: Place) -> list[str]:
    cluster, asked = settings.cluster, settings.cluster.of(job.kind)
    found = [f"--job-name={_word(settings.name)}-{job.name}", *_array(job, asked)]
    partition = asked.partition or cluster.partition
    named = (("partition", partition), ("account", cluster.account), ("qos", cluster.qos))
    found += [f"--{key}={value}" for key, value in named if value is not None]
    found += [f"--time={asked.time}", f"--nodes={asked.nodes}", "--ntasks-per-node=1", f"--cpus-per-task={asked.cpus}"]
    found += [f"--mem={asked.memory}"] if asked.memory is not None else []
    found += [cluster.gpu_option.format(asked.gpus)] if asked.gpus else []
    found += ["--requeue", f"--signal=B:USR1@{cluster.warn}", "--open-mode=append", "--kill-on-invalid-dep=yes"]
    log = f"{_escaped(place.folder)}/{log_pattern(job)}"
    found += [f"--chdir={_quoted(str(place.cwd))}", f"--output={_quoted(log)}"]
    return [*found, *cluster.options, *asked.options]


def _array(job: Job, asked: Resources) -> list[str]:
    if job.single:
        return []
    limit = f"%{asked.at_once}" if asked.at_once is not None else ""
    return [f"--array=0-{len(job.elements) - 1}{limit}"]


def _exports(cluster: Cluster, asked: Resources, place: Place) -> list[str]:
    threads = max(1, asked.cpus // (asked.processes or max(asked.gpus, 1)))
    found = [
        f'export OMP_NUM_THREADS="${{OMP_NUM_THREADS:-{threads}}}"',
        f"export PYTHONPATH={shlex.quote(str(place.project))}${{PYTHONPATH:+:$PYTHONPATH}}",
    ]
    if cluster.offline:
        found.append("export HF_HUB_OFFLINE=1  # many jobs that fill one cache would tear it")
    return found


def _escaped(path: Path) -> str:
    """A path in sbatch's --output, where % begins a pattern."""
    return str(path).replace("%", "%%")


def _quoted(text: str) -> str:
    """A value in an #SBATCH line."""
    return text if _word(text) == text else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _word(text: str) -> str:
    return "".join(char if char.isalnum() or char in "-_.+=/%:," else "_" for char in text)


def _plain(path: Path) -> str:
    """A path inside double quotes of the shell."""
    return "".join(f"\\{char}" if char in '\\"$`' else char for char in str(path))


def index_map(made: Sequence[Job]) -> str:
    """Which element has which index, a line each."""
    return "".join(f"{job.name}[{number}]\t{name}\n" for job in made for number, name in enumerate(job.elements))
