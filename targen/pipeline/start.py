"""What a run is about to do, in a line, and a line for each setting that makes it use fewer rows than there are."""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping

from targen.config.arms import ArmName
from targen.config.settings import Phase, Settings
from targen.data.arm_sizes import Amount, arm_examples, arms_of_tasks, source_examples
from targen.runtime.cli import CHILD
from targen.tasks.task import Task

log = logging.getLogger(__name__)


def log_start(settings: Settings, phases: Iterable[Phase]) -> None:
    """Logs what these phases do. A phase that `targen.run` started is silent, because the run has logged it."""
    if not os.environ.get(CHILD):
        for line in start_lines(settings, phases):
            log.info("%s", line)


def start_lines(settings: Settings, phases: Iterable[Phase]) -> list[str]:
    """The size of the data set and what is trained, then the limits that take effect."""
    names = set(phases)
    parts = []
    if "generate" in names:
        sizes = ", ".join(f"{settings.synth.size_of(task):,} of {task.name}" for task in settings.tasks.values())
        parts.append(f"synthetic rows (synth.size): {sizes}, by {settings.generator.model}")
    if "train" in names:
        parts.append(f"{settings.model.name} finetuned on {' and on '.join(settings.arms)} rows")
    summary = [f"run: {settings.run.dir}: {'; '.join(parts)}"] if parts else []
    return [*summary, *limits(settings, names)]


def limits(settings: Settings, phases: set[Phase]) -> Iterator[str]:
    """A line for each limit on rows that takes effect, or may where the number of rows is not known yet."""
    tasks, synth = list(settings.tasks.values()), settings.synth
    if "generate" in phases and synth.size == "original":
        sizes = {task.name: Amount(task.published_rows or 0) for task in tasks}
        yield from _limit("synth.max_size", synth.max_size, sizes, "rows")
    if "train" in phases:
        sizes = _examples(settings, source_examples)
        yield from _limit("train.max_rows", settings.train.max_rows, sizes, "training rows")
        if settings.train.setting == "multi":
            sizes = _examples(settings, arm_examples)
            yield from _limit("train.mixture_cap", settings.train.mixture_cap, sizes, "rows in the mixture")
    if "evaluate" in phases and settings.eval.superglue:
        sizes = {task.name: Amount(task.sizes.get(task.eval_split, 0)) for task in tasks}
        yield from _limit("eval.max_rows", settings.eval.max_rows, sizes, "evaluation rows")
    if "evaluate" in phases and settings.eval.openllm.suite is not None and settings.eval.openllm.limit is not None:
        most = settings.eval.openllm.limit
        yield f"limit: eval.openllm.limit={most}: at most {most:,} documents of each OpenLLM task, so no score is comparable"


def _examples(settings: Settings, count: Callable[[Settings, ArmName, Task], Amount | None]) -> dict[str, Amount]:
    """Examples of each task in the largest arm of the run, before a limit; with train.equal_size in the smallest. 0: unknown."""
    choose, arms = min if settings.train.equal_size else max, arms_of_tasks(settings)
    counts = {task.name: [count(settings, arm, task) for arm in arms] for task in settings.tasks.values()}
    return {name: choose(filter(None, amounts), default=Amount(0)) for name, amounts in counts.items() if amounts}


def _limit(key: str, limit: int | None, sizes: Mapping[str, Amount], unit: str) -> Iterator[str]:
    """The line of a limit; `sizes` are the rows or examples of each task, 0 where they are not known."""
    if limit is None:
        return
    tasks = [
        f"{task} {size}" if size.number else f"perhaps {task}"
        for task, size in sizes.items()
        if not 0 < size.number <= limit
    ]
    if tasks:
        yield f"limit: {key}={limit}: at most {limit:,} {unit} a task, of which there would be more ({', '.join(tasks)})"
