"""Rows of a task, generated as the command line does it: the same files, lock and resume."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from targen.config.run_directory import open_run
from targen.generate import generate
from targen.interface.composing import compose_in_program, hydra_text
from targen.interface.in_thread import run_in_thread
from targen.interface.rows import Rows, read_rows
from targen.interface.tasks import load_task
from targen.llm.backends.python import Function, FunctionLLM
from targen.llm.messages import LLM, Answer, Failure, Request
from targen.llm.registry import Backend
from targen.runtime.errors import UserError
from targen.runtime.paths import RunPaths
from targen.synthesis.recipes import recipes
from targen.tasks.task import Task

INSTEAD = {  # what to use in Python in place of a setting
    "task": "the argument `task`",
    "tasks": "dataclasses.replace on the task",
    "task_dir": "a path as `task`",
    "generator": "the argument `generator`",
    "run": "the argument `run_dir`",
    "phases": "the command line",
    "plan": "the command line",
    "shard": "the command line",
}


def generate_rows(
    task: Task | str | Path,
    generator: str | Function | LLM,
    *,
    size: int | None = None,
    run_dir: str | Path | None = None,
    settings: Mapping[str, object] | None = None,
) -> Rows:
    """The synthetic rows of a task, written into `run_dir` (default: outputs/<task>), where the same call resumes.

    `generator` is the name of a file in conf/generator, or a function that takes the body of an OpenAI chat completion and
    returns the text of the answer, or an object with the methods of `LLM`, which is not closed. `size` counts rows; None: the
    default of synth.size. `settings` has any other key of the command line: {"generator.model": "..."}.

    It works inside a running event loop. An interrupt stops it; the answers so far are kept.
    Raises: UserError with one line per mistake; AwaitingAnswers (generator "batch"); what a function of yours raised.
    """
    task = task if isinstance(task, Task) else load_task(task)
    folder = Path(run_dir) if run_dir is not None else Path("outputs") / task.name
    cfg = compose_in_program([*_overrides(generator, folder, size, settings or {})])
    OmegaConf.update(cfg, "tasks", {task.name: _literal(asdict(task))}, force_add=True)
    run_settings = open_run(cfg, recipes)
    backend = _backend(generator, run_settings.generator.concurrency)
    run_in_thread(lambda: generate(run_settings, backend))
    return read_rows(RunPaths(folder), task)


def _overrides(
    generator: str | Function | LLM, folder: Path, size: int | None, settings: Mapping[str, object]
) -> Iterator[str]:
    """The call as overrides of the command line. Raises: UserError for a setting that is an argument."""
    yield from ("task=[]", "phases=[generate]", f"run.dir={hydra_text(folder)}")
    if "experiment" in settings:
        yield f"+experiment={hydra_text(settings['experiment'])}"
    yield f"generator={generator if isinstance(generator, str) else 'python'}"
    if not isinstance(generator, str) and "generator.model" not in settings:
        yield f"generator.model={hydra_text(getattr(generator, '__name__', type(generator).__name__))}"
    if "arms" not in settings:
        yield "arms=[synthetic]"  # nothing is trained here, and there may be no original rows
    if size is not None:
        yield f"synth.size={size}"
    for key, value in settings.items():
        if key in INSTEAD or key.partition(".")[0] in ("tasks", "run", "shard"):
            raise UserError(f"settings: got {key}, expected another key. Use {INSTEAD[key.partition('.')[0]]} for it.")
        if key != "experiment":
            yield f"{key}={hydra_text(value)}"


def _literal(value: Any) -> Any:
    """The value with ${ escaped in every text, which OmegaConf would resolve as a reference."""
    if isinstance(value, str):
        return value.replace("${", "\\${")
    if isinstance(value, dict):
        return {name: _literal(item) for name, item in value.items()}
    return [_literal(item) for item in value] if isinstance(value, list) else value


def _backend(generator: str | Function | LLM, concurrency: int) -> Backend | None:
    """The backend for an object of the user's own; None: the settings name it."""
    if isinstance(generator, str):
        return None
    if callable(generator):
        function = generator
        return Backend(lambda _: FunctionLLM(function, concurrency))
    llm = generator
    return Backend(lambda _: _Unclosed(llm))


class _Unclosed:
    """A language model of the user's own, which stays open for the next call."""

    def __init__(self, llm: LLM) -> None:
        self._llm = llm

    @property
    def window(self) -> int:
        return self._llm.window

    def submit(self, request: Request) -> None:
        self._llm.submit(request)

    def collect(self) -> Iterator[Answer | Failure]:
        return self._llm.collect()

    def close(self) -> None:
        """Whoever made it closes it."""
