"""The generate phase: `python -m targen.generate +experiment=quickstart`."""

import importlib.util
import logging
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from targen.backends.batch import AwaitingAnswers
from targen.calls import CallLog
from targen.cli import main
from targen.config import Settings
from targen.engine import Engine
from targen.errors import UserError
from targen.jsonl import Json, read_jsonl
from targen.llm import LLM, STEPS, Answer, Failure, Request, schema_problem
from targen.progress import Progress
from targen.prompts import checked_templates, file_seed_schema, seed_variant_keys
from targen.run_dir import open_run
from targen.run_lock import locked
from targen.slots import seed_groups
from targen.steps import Recipe
from targen.synthesis import Settled, Synthesis, synthesise, write_data_set
from targen.task import TaskSpec

log = logging.getLogger(__name__)
CHILD = "TARGEN_CHILD"  # set by targen.run for its phases
CHECK = "TARGEN_CHECK"  # set by targen.run for a phase that is only to check its settings
AWAITING = 75  # exit code of this phase to targen.run: answers are awaited, later phases have no input yet


def generate(settings: Settings) -> None:
    """Makes `synthetic/<task>/` for every task of the run.

    Raises: AwaitingAnswers (generator=batch) when requests have to be answered elsewhere first.
    """
    states = [Synthesis(recipe, settings.synth.size_of(recipe.task)) for recipe in recipes(settings)]
    usage = _Usage()
    with locked(settings.paths.root):
        for state, result in zip(states, _answer(settings, states, usage), strict=True):
            write_data_set(settings.paths, state, result, usage.of(state.recipe.task.name))
            log.info(
                "generate: %s has %d rows (%d attempts, %d rejects, %d labels corrected)",
                state.recipe.task.name,
                sum(len(candidate.rows) for candidate in result.accepted),
                sum(state.attempts.values()),
                len(state.rejects),
                sum(candidate.flipped for candidate in (*result.accepted, *result.surplus)),
            )


def _answer(settings: Settings, states: list[Synthesis], usage: "_Usage") -> list[Settled]:
    """All calls of all tasks, from the log or from the backend, and what comes of them."""
    calls = CallLog((task, settings.paths.calls(task)) for task in settings.tasks)
    with Progress("generate", "calls") as progress:

        def observe(request: Request, answer: Answer, asked: bool) -> None:
            usage.add(request, answer)
            progress.advance(request.step if asked else f"{request.step} (on record)")

        llm = _WhenNeeded(lambda: _backend(settings, calls))
        try:
            return Engine(llm, calls, observe).run([synthesise(state) for state in states])
        finally:
            llm.close()
            calls.close()


def recipes(settings: Settings) -> list[Recipe]:
    """What is asked for every task.

    Raises: UserError for what would stop the phase only after calls were paid for, or files written.
    """
    checked_templates(settings.method, list(settings.tasks.values()))
    if settings.generator.backend == "recorded":
        _recording(settings)
    if settings.generator.backend == "vllm" and importlib.util.find_spec("vllm") is None:
        raise UserError(
            "generator=vllm: the package vllm is not installed. Install it (pip install -e '.[vllm]'), or serve the model elsewhere "
            "and take generator=openai."
        )
    return [_recipe(settings, task) for task in settings.tasks.values()]


def _recording(settings: Settings) -> LLM:
    from targen.backends.recorded import SHIPPED, Recorded

    return Recorded(Path(settings.generator.path) if settings.generator.path else SHIPPED, list(settings.tasks))


def _recipe(settings: Settings, task: TaskSpec) -> Recipe:
    synth = settings.synth
    return Recipe(
        task=task,
        method=settings.method,
        model=settings.generator.model,
        sampling=synth.sampling,
        seed=settings.seed,
        contexts=synth.contexts,
        seeds_per_context=synth.seeds_per_context,
        self_correct=synth.self_correct,
        max_attempts=synth.max_attempts,
        max_slots=synth.max_slots,
        spare=synth.spare,
        file_seeds=_file_seeds(Path(synth.seed_dir), task) if synth.seed_dir else None,
    )


def _file_seeds(folder: Path, task: TaskSpec) -> tuple[tuple[Json, ...], ...]:
    """The instance seeds of a file, per group of label cells that share them.

    A line has the fields of the task's instance seed, and those keys of the variant on which it depends
    (AX-g: the referent). Raises: UserError with file and line of the first that does not fit.
    """
    path, keys = folder / f"{task.name}.jsonl", seed_variant_keys(task)
    schema = file_seed_schema(task)
    found: dict[tuple[str, ...], list[Json]] = defaultdict(list)
    for number, line in read_jsonl(path):
        if (problem := schema_problem(line, schema)) is not None:
            raise UserError(f"{path}:{number}: {problem}. Expected the fields {sorted(schema['properties'])}.")
        found[tuple(line[key] for key in sorted(keys))].append({k: v for k, v in line.items() if k not in keys})
    groups = []
    for group in seed_groups(task.cells, keys):
        variant = tuple(task.cells[group.cells[0]].fields[key] for key in sorted(keys))
        if variant not in found:
            raise UserError(
                f"{path}: got no line for {dict(zip(sorted(keys), variant, strict=True)) or task.name}, expected at least one."
            )
        groups.append(tuple(found[variant]))
    return tuple(groups)


def _backend(settings: Settings, calls: CallLog) -> LLM:
    generator = settings.generator
    if generator.backend == "recorded":
        return _recording(settings)
    if generator.backend == "batch":
        from targen.backends.batch import Batch

        return Batch(settings.paths, settings.tasks, calls.ids(), generator.model)
    if generator.backend == "vllm":
        from targen.backends.vllm import VLLM

        return VLLM(generator)
    from targen.backends.openai import OpenAIServer

    key = os.environ.get(generator.api_key_env, "").strip() or None
    return OpenAIServer(generator, key)


class _WhenNeeded:
    """A backend that is made for the first request: a run that has all its answers loads no model."""

    def __init__(self, make: Callable[[], LLM]) -> None:
        self._make = make
        self._llm: LLM | None = None

    @property
    def window(self) -> int:
        return self._llm.window if self._llm is not None else 1

    def submit(self, request: Request) -> None:
        if self._llm is None:
            self._llm = self._make()
        self._llm.submit(request)

    def collect(self) -> Iterator[Answer | Failure]:
        assert self._llm is not None
        return self._llm.collect()

    def close(self) -> None:
        if self._llm is not None:
            self._llm.close()


class _Usage:
    """Calls and tokens per task and step; equal for equal answers, however often the run was stopped."""

    def __init__(self) -> None:
        self._counts: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: {step: Counter() for step in STEPS})

    def add(self, request: Request, answer: Answer) -> None:
        counts = self._counts[request.task][request.step]
        counts["calls"] += 1
        counts.update(answer.usage)

    def of(self, task: str) -> Json:
        """Counts per step; tokens are null where the backend did not report them."""
        names = ("prompt_tokens", "completion_tokens")
        return {
            step: {"calls": counts["calls"]} | {name: counts.get(name) for name in names}
            for step, counts in self._counts[task].items()
        }


def phase(cfg: Any, overrides: list[str]) -> int:
    try:
        generate(open_run(cfg, recipes))
    except AwaitingAnswers as waiting:
        log.info("generate: %s", waiting)
        return AWAITING if os.environ.get(CHILD) else 0
    return 0


if __name__ == "__main__":
    main("targen.generate", "writes the synthetic data set of every task", phase)
