"""The generate phase: `python -m targen.generate +experiment=quickstart`."""

import logging
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from typing import Any

from targen.config.groups.generation import STEPS
from targen.config.original_data import rows_to_hold_out
from targen.config.run_directory import open_run
from targen.config.settings import Settings
from targen.cost.report import plan_text, write_cost
from targen.data.checks import check_local_rows
from targen.data.contamination import EvaluationRows, evaluation_rows
from targen.data.original import eval_split
from targen.dataset.card import write_card
from targen.dataset.held_out import split_held_out
from targen.dataset.writer import write_data_set
from targen.llm.call_log import CallLog
from targen.llm.messages import LLM, Answer, AwaitingAnswers, Request
from targen.llm.registry import Backend, BackendInputs, LazyLLM, backend_named
from targen.pipeline.copies import generate_shards
from targen.pipeline.start import log_start
from targen.quality.available import students_named
from targen.runtime.cli import AWAITING, CHILD, main
from targen.runtime.errors import UserError
from targen.runtime.jsonl import Json
from targen.runtime.lock.run_lock import hold_lock, refuse_if_locked
from targen.runtime.progress import Progress
from targen.runtime.signals import StopRequest
from targen.synthesis.candidate_store import CandidateStore
from targen.synthesis.engine import Engine, Workflow, rare_garbage_collection
from targen.synthesis.recipe import Recipe
from targen.synthesis.recipes import recipes
from targen.synthesis.shortest_requests import shortest_requests
from targen.synthesis.slots.assignment import Shard
from targen.synthesis.slots.shards import shard_name, write_done
from targen.synthesis.synthesis import Selection, Synthesis, synthesise, synthesise_shard, write_item_lists
from targen.tasks.task import Task

log = logging.getLogger(__name__)


def generate(settings: Settings, backend: Backend | None = None) -> None:
    """Makes `synthetic/<task>/` for every task of the run; with shard.count > 1, only the calls of this shard.

    A task that fails does not stop the others. Raises: UserError with the reason for each task that failed;
    AwaitingAnswers (generator=batch) if requests must be answered elsewhere first.

    `backend` replaces the one that the settings name.
    """
    if settings.shard.count > 1:
        generate_shard(settings, backend)
        return
    task_recipes = recipes(settings)
    with hold_lock(settings.paths.root), ExitStack() as stack:
        states = _states(settings, task_recipes, stack)
        usage = _Usage()
        calls = stack.enter_context(closing(CallLog(settings.paths.calls, settings.tasks)))
        llm = stack.enter_context(closing(_llm(settings, task_recipes, calls, "canary", backend)))
        results = _run_workflows([synthesise(state) for state in states], usage, calls, llm)
        finished = [pair for pair in zip(states, results, strict=True) if isinstance(pair[1], Selection)]
        if (
            len(finished) == len(states)
            and settings.generator.backend == "batch"
            and (spare := (answered := _answer_count(calls)) - usage.calls) > 0
        ):
            log.info("generate: %d of %d answered calls were asked for ahead and not needed", spare, answered)
        for state, result in finished:
            evaluation = state.evaluation or _evaluation(settings, state.task, "auto")
            training, held_out = split_held_out(state, result, rows_to_hold_out(settings, state.task))
            write_data_set(settings.paths, state, training, usage.of(state.task.name), evaluation, held_out)
            _log_result(state, training, held_out)
        if finished:
            _measure_learnability(settings, [state.task for state, _ in finished])
            write_card(settings)
            write_cost(settings, [state.recipe for state, _ in finished])
        _raise_together(results)


def _answer_count(calls: CallLog) -> int:
    """The number of answers on record, without those of analyses."""
    return sum(id.split("-")[1] in STEPS for id in calls.ids())


def generate_shard(settings: Settings, backend: Backend | None = None) -> None:
    """Makes the calls of this shard's slots. The first shard to start also makes those for the contexts that all share.

    Raises: UserError as `generate` does, and with generator=batch.
    """
    paths, shard = settings.paths, Shard(settings.shard.index, settings.shard.count)
    name, task_recipes = shard_name(shard), recipes(settings)
    if settings.generator.backend == "batch":
        raise UserError(
            "shard.count: got several shards with generator=batch, which writes all requests to its files anyway. Leave it out."
        )
    with hold_lock(paths.root, name), ExitStack() as stack:
        states = _states(settings, task_recipes, stack)
        llm = _shared_lists(settings, states, stack, name, backend)
        calls = stack.enter_context(closing(CallLog(paths.calls, settings.tasks, name)))
        _raise_together(_run_workflows([synthesise_shard(state, shard) for state in states], _Usage(), calls, llm))
        write_done(paths, name, {state.task.name: state.size for state in states})
        log.info(
            "generate: shard %d of %d is done (%d instances, %d rejects). Once all shards are, run phases=[merge]",
            shard.index,
            shard.count,
            sum(len(state.candidates) for state in states),
            sum(len(state.rejects) for state in states),
        )


def generate_contexts(settings: Settings) -> None:
    """Makes the calls for the contexts, and other lists, that all shards share, so that no shard waits for them with its GPUs.

    Raises: UserError as `generate` does.
    """
    refuse_if_locked(settings.paths.root)
    with ExitStack() as stack:
        states = _states(settings, recipes(settings), stack)
        _shared_lists(settings, states, stack, "contexts")
        write_done(settings.paths, "contexts", {state.task.name: state.size for state in states})


def _shared_lists(
    settings: Settings, states: list[Synthesis], stack: ExitStack, name: str, backend: Backend | None = None
) -> LazyLLM:
    """The backend, after the calls for what all shards share: made by the first process that arrives, while others wait."""
    paths = settings.paths
    with hold_lock(paths.root, "contexts", wait=True):
        shared = stack.enter_context(closing(CallLog(paths.calls, settings.tasks, "contexts")))
        task_recipes = [state.recipe for state in states]
        llm = stack.enter_context(closing(_llm(settings, task_recipes, shared, f"canary.{name}", backend)))
        _raise_together(_run_workflows([write_item_lists(state) for state in states], _Usage(), shared, llm))
    return llm


def _llm(settings: Settings, recipes: list[Recipe], calls: CallLog, canary: str, backend: Backend | None) -> LazyLLM:
    """The backend of the run, made at the first request."""

    def shortest() -> list[Request]:
        return [request for recipe in recipes for request in shortest_requests(recipe)]

    chosen = backend or backend_named(settings.generator.backend)
    return LazyLLM(lambda: chosen.make(BackendInputs(settings, calls, shortest, canary)))


def _measure_learnability(settings: Settings, tasks: list[Task]) -> None:
    """Measures the sets that are finished; after a pilot, also shows their hardest rows. Loads its libraries only now."""
    if settings.synth.learnability_rows:
        from targen.quality.report import measure_learnability

        measure_learnability(settings, tasks)
    if settings.synth.pilot is not None:
        from targen.quality.report import pilot_text

        sys.stdout.write(pilot_text(settings, tasks))


def _log_result(state: Synthesis, training: Selection, held_out: Selection) -> None:
    rows_per_slot, instances_held_out = state.task.rows_per_slot, len(held_out.accepted)
    log.info(
        "generate: %s has %d rows%s (%d attempts, %d rejects, %d labels corrected)",
        state.task.name,
        len(training.accepted) * rows_per_slot,
        f", and {instances_held_out * rows_per_slot} more are held out for evaluation" if instances_held_out else "",
        state.attempts_made,
        len(state.rejects),
        sum(state.candidates[slot].flipped for slot in (*training.accepted, *held_out.accepted, *training.surplus)),
    )


def _raise_together(results: list[Any]) -> None:
    """Raises: UserError with the reasons of all workflows that failed."""
    if problems := [str(result) for result in results if isinstance(result, UserError)]:
        raise UserError("\n".join(problems))


def _states(settings: Settings, task_recipes: list[Recipe], stack: ExitStack) -> list[Synthesis]:
    states = []
    for recipe in task_recipes:
        store = stack.enter_context(closing(CandidateStore(settings.paths.root)))
        # Before the first call, because the evaluation rows may be missing.
        evaluation = _evaluation(settings, recipe.task, "measure", "filter")
        may_repeat, rounds = settings.synth.contamination != "filter", settings.method.rounds
        names = rounds.students if rounds is not None else []
        students = partial(students_named, names, folder=settings.paths.embeddings)
        states.append(Synthesis(recipe, settings.synth.size_of(recipe.task), store, evaluation, may_repeat, students))
    return states


def _evaluation(settings: Settings, task: Task, *modes: str) -> EvaluationRows | None:
    """The evaluation rows if synth.contamination is one of these modes, else None; `auto` takes them only from a local folder.

    Raises: UserError if the mode requires them and they are not available.
    """
    mode, source = settings.synth.contamination, settings.data.source_of(task)
    if mode not in modes or (mode == "auto" and source != "local"):
        return None
    try:
        split = None if source == "none" else eval_split(settings.data, task)
    except UserError as err:
        if mode != "auto":
            raise
        log.warning("generate: the rows of %s are not compared with the evaluation split: %s", task.name, err)
        return None
    if split is None or split.is_fixture:
        raise UserError(
            f"synth.contamination: got {mode} and no rows of {task.folder} with data.source={source}, expected its evaluation "
            "split. Set data.dir=..., or synth.contamination=auto."
        )
    return evaluation_rows(task, split)


def _run_workflows(workflows: list[Workflow[Any]], usage: "_Usage", calls: CallLog, llm: LLM) -> list[Any]:
    """The results of the workflows, or their UserErrors; answers come from the log or the backend (see Engine.run)."""
    with Progress("generate", "calls") as progress, rare_garbage_collection():

        def observe(request: Request, answer: Answer, asked: bool) -> None:
            usage.add(request, answer)
            progress.advance(request.step if asked else f"{request.step} (on record)")

        return Engine(llm, calls, observe).run(workflows)


class _Usage:
    """Calls and tokens per task and step. Equal answers give equal counts, however often the run was stopped."""

    def __init__(self) -> None:
        self.calls = 0
        self._counts: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: {step: Counter() for step in STEPS})

    def add(self, request: Request, answer: Answer) -> None:
        counts = self._counts[request.task][request.step]
        self.calls += 1
        counts["calls"] += 1
        for name, number in answer.usage.items():
            counts[name] += number

    def of(self, task: str) -> Json:
        """Counts per step; tokens are None if the backend did not report them."""
        names = ("prompt_tokens", "completion_tokens")
        return {
            step: {"calls": counts["calls"]} | {name: counts.get(name) for name in names}
            for step, counts in self._counts[task].items()
        }


def _check(settings: Settings) -> None:
    """All that can be checked before the first call. A run and a grid of shards have read the rows of later phases already."""
    recipes(settings)
    if not os.environ.get(CHILD) and settings.shard.count == 1:
        check_local_rows(settings)


def phase_of(work: Callable[[Settings], None]) -> Callable[[Any, list[str]], int]:
    """The phase that runs all checks and then `work`; with plan=true it only prints the plan."""

    def phase(cfg: Any, overrides: list[str]) -> int:
        if cfg.plan:
            settings = open_run(cfg, write=False)
            log_start(settings, ["generate"])
            sys.stdout.write(plan_text(settings, recipes(settings)))
            return 0
        settings = open_run(cfg, _check)
        log_start(settings, ["generate"])
        try:
            with StopRequest() as stop:
                if settings.generator.copies > 1 and settings.synth.pilot is None and work is generate:
                    generate_shards(settings, overrides, stop)
                work(settings)
        except AwaitingAnswers as err:
            log.info("generate: %s", err)
            return AWAITING
        return 0

    return phase


if __name__ == "__main__":
    main("targen.generate", "writes the synthetic data set of every task", phase_of(generate))
