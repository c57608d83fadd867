"""Runs the phases of a run, one after another.

Each phase is a separate process, so that its resources, such as GPU memory, are free before the next one starts.
"""

import json
import logging
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

from targen.config.group_files import task_from_file
from targen.config.groups.analysis import ASKING_PARTS
from targen.config.run_directory import open_run, read_record
from targen.config.settings import Phase, Settings
from targen.cost.gpu_hours import PREFIX, total_line
from targen.data.checks import check_rows, log_evaluation_rows
from targen.pipeline.start import log_start
from targen.runtime.cli import AWAITING, CHECK, INTERRUPTED, REQUEUE, USER_ERROR
from targen.runtime.command_line.version import __version__
from targen.runtime.jsonl import Json, write_text
from targen.runtime.paths import CHECKOUT, group_choices, visible_paths
from targen.runtime.signals import StopRequest
from targen.runtime.subprocesses import phase_environment, python_command, run_subprocess

log = logging.getLogger(__name__)
ORDER: tuple[Phase, ...] = ("generate", "merge", "train", "evaluate", "analyze", "report")
PLANNED: tuple[Phase, ...] = ("generate", "train")  # phases that print a plan for plan=true; analyze does if it asks
WITH_HOURS: tuple[Phase, ...] = (*PLANNED, "evaluate")  # those that do with price.gpu
LIBRARIES = ("torch", "transformers", "accelerate", "datasets", "hydra-core", "vllm")


def run(cfg: Any, overrides: list[str]) -> int:
    """Runs the phases of the composed configuration, and returns the exit code."""
    settings = open_run(cfg, check_rows, write=False)
    if settings.plan:
        log_start(settings, settings.phases)
        return _print_plans(settings, overrides)
    record = _record(settings, overrides)
    with StopRequest() as stop:
        if code := _check_phases(settings, overrides, stop):
            return REQUEUE if stop.requested and code != USER_ERROR else code
        log_start(settings, settings.phases)
        log_evaluation_rows(settings)
        return _run_phases(settings, overrides, record, stop)


def _check_phases(settings: Settings, overrides: list[str], stop: StopRequest) -> int:
    """Lets training and evaluation check their settings before the first phase; the exit code of the first check that fails."""
    for name in _checked_phases(settings):
        if code := run_subprocess(python_command(name, *overrides), phase_environment() | {CHECK: "1"}, stop):
            return code
    return 0


def _checked_phases(settings: Settings) -> list[Phase]:
    """Training if it may refuse existing models; evaluation if a task has a metric that no packaged task has."""
    phases: list[Phase] = []
    models = settings.paths.root / "models"
    if visible_paths(models, "*/done.json") or visible_paths(models, "*/checkpoint-*"):
        phases.append("train")
    packaged = map(task_from_file, group_choices("task"))
    metrics = {metric for task in settings.tasks.values() for metric in task.metrics}
    if "evaluate" in settings.phases and metrics - {metric for task in packaged for metric in task.metrics}:
        phases.append("evaluate")
    return phases


def _run_phases(settings: Settings, overrides: list[str], record: Json, stop: StopRequest) -> int:
    """Runs the phases and records the seconds of each in run.json; the exit code of the first that fails."""
    for name in (phase for phase in ORDER if phase in settings.phases):
        started = time.monotonic()
        log.info("%s: starts", name)
        try:
            code = run_subprocess(python_command(*_verb(settings, name), *overrides), phase_environment(), stop)
        except KeyboardInterrupt:
            return INTERRUPTED  # the phase has printed a message
        record["seconds"][name] = round(time.monotonic() - started, 1)
        record["end"] = _now()
        if code in (0, AWAITING):
            write_text(settings.paths.record, json.dumps(record, indent=2) + "\n")
        if code == AWAITING:
            return AWAITING
        if stop.requested and code != USER_ERROR:
            return REQUEUE
        if code:
            return code if code > 0 else 128 - code
        if name == "generate" and settings.shard.count > 1:
            return 0  # later phases need the merge of all shards
        if name == "generate" and settings.synth.pilot is not None:
            return 0
    log.info("Time of all phases: %s", _seconds_text(record["seconds"]))
    return 0


def _seconds_text(seconds: Mapping[str, float]) -> str:
    """`3 min 20 s (generate 12 s, train 188 s)`."""
    minutes, remainder = divmod(round(sum(seconds.values())), 60)
    total = f"{minutes} min {remainder} s" if minutes else f"{remainder} s"
    return f"{total} ({', '.join(f'{name} {value:.0f} s' for name, value in seconds.items())})"


def _print_plans(settings: Settings, overrides: list[str]) -> int:
    """Prints what each phase would do and cost; nothing is called or written."""
    planned = WITH_HOURS if settings.price.gpu else PLANNED
    if set(ASKING_PARTS) & set(settings.analysis.parts):
        planned = (*planned, "analyze")
    names = [name for name in planned if name in settings.phases]
    if not names:
        log.info(
            "plan: phases=[%s] has nothing to plan; only these phases do: %s, and analyze with the parts %s",
            ",".join(settings.phases),
            ", ".join(PLANNED),
            " or ".join(ASKING_PARTS),
        )
    hours: list[str] = []
    for name in names:
        result = subprocess.run(
            python_command(name, *overrides), env=phase_environment(), stdout=subprocess.PIPE, text=True, check=False
        )
        phase_hours = [line for line in result.stdout.splitlines() if line.startswith(PREFIX)]
        sys.stdout.writelines(line for line in result.stdout.splitlines(keepends=True) if not line.startswith(PREFIX))
        sys.stdout.flush()
        if result.returncode:
            return result.returncode
        hours += phase_hours
    if hours:
        sys.stdout.write("\n".join(["", *hours, total_line(hours), ""]))
    return 0


def _verb(settings: Settings, name: Phase) -> list[str]:
    """What runs a phase, with its first arguments; train.launch and eval.launch go through accelerate."""
    if name == "train" and settings.train.launch is not None:
        return ["launch", settings.train.launch]
    if name == "evaluate" and settings.eval.launch is not None:
        return ["launch", settings.eval.launch, "evaluate"]
    return [name]


def _record(settings: Settings, overrides: list[str]) -> Json:
    """The content of run.json at the start of a run."""
    return {
        "name": settings.name,
        "overrides": overrides,
        "version": __version__,
        "git_commit": _git_commit(),
        "python": platform.python_version(),
        "libraries": {name: version for name in LIBRARIES if (version := _version(name))},
        "host": platform.node(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "start": _now(),
        "end": None,
        "seconds": {},
        "earlier_starts": _earlier_starts(read_record(settings.paths.record)),
    }


def _earlier_starts(record: Json) -> list[Json]:
    """The records of earlier starts in this run.dir, oldest first. `record` is the content of run.json."""
    return [*record.pop("earlier_starts", []), record] if record else []


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _version(library: str) -> str | None:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """The commit of the checkout, with `+` if files have changed since; None outside a checkout."""

    def git(*arguments: str) -> str | None:
        command = ["git", "-C", str(CHECKOUT), *arguments]
        try:
            return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
        except (OSError, subprocess.SubprocessError):
            return None

    if CHECKOUT is None:
        return None
    commit = git("rev-parse", "HEAD")
    return commit and commit + ("+" if git("status", "--porcelain") else "")
