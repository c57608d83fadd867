"""Asks the run's generator the questions of the analyses, all tasks at once; every answer is logged before it is used."""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from eval.analysis.llm_measures import clusters, subjectivity
from eval.analysis.llm_measures.questions import Load, Questions
from eval.analysis.sets import SetPair
from targen.config.groups.analysis import Analysis
from targen.config.settings import Settings
from targen.cost.token_estimate import CHARACTERS_PER_TOKEN
from targen.llm.call_log import CallLog
from targen.llm.messages import Answer, Request
from targen.llm.registry import BackendInputs, LazyLLM, backend_named
from targen.runtime.errors import UserError
from targen.runtime.progress import Progress
from targen.synthesis.engine import Engine, Workflow

log = logging.getLogger(__name__)
PROMPT_CHARACTERS = 1200  # of a question without its rows
WRITER = "analysis"  # of calls/<task>.analysis.jsonl
LLMResults = Mapping[tuple[str, str], Any]  # the result of each workflow, by task and part


@dataclass(frozen=True)
class LLMMeasure:
    """How a part asks the generator: its load for a task, and its workflow."""

    load: Callable[[SetPair, Analysis], Load]
    workflow: Callable[[Questions, SetPair, Analysis], Workflow[Any]]


LLM_MEASURES = {
    "clusters": LLMMeasure(clusters.load, clusters.clustering),
    "subjectivity": LLMMeasure(subjectivity.load, subjectivity.ratings),
}


def generator_parts(settings: Settings) -> list[str]:
    """The parts of this analysis that ask the generator."""
    return [name for name in LLM_MEASURES if name in settings.analysis.parts]


def plan_line(settings: Settings, pairs: Sequence[SetPair]) -> str:
    """A line with the number of calls and their cost at most; answers on record count as if they were asked again."""
    calls_by_part: dict[str, int] = {}
    characters = 0.0
    for pair in pairs:
        if not pair.size:
            continue
        views = [pair.task.view(row) for row in pair.samples()["b"]]
        per_row = sum(len(text) for view in views for text in view.values()) / len(views)
        for name in generator_parts(settings):
            load = LLM_MEASURES[name].load(pair, settings.analysis)
            calls_by_part[name] = calls_by_part.get(name, 0) + load.calls
            characters += load.calls * PROMPT_CHARACTERS + load.rows * per_row
    prompt, calls = round(characters / CHARACTERS_PER_TOKEN), sum(calls_by_part.values())
    completion, price = calls * settings.analysis.sampling.max_tokens, settings.price
    parts = ", ".join(f"{name} {count:,}" for name, count in calls_by_part.items())
    line = f"analyze: at most {calls:,} calls to {settings.generator.model} ({parts or 'no part asks'})"
    line += f", about {prompt:,} prompt tokens, at most {completion:,} completion tokens"
    if price.prompt is not None and price.completion is not None:
        line += f", at most {(prompt * price.prompt + completion * price.completion) / 1e6:.2f} {price.currency}"
    return f"{line}. Answers on record are not asked for again"


def ask(settings: Settings, pairs: Sequence[SetPair]) -> LLMResults:
    """The results of all parts that ask the generator, for all tasks; questions on record are not asked again.

    Raises: UserError if calls stay unanswered; AwaitingAnswers (generator=batch) if they must be answered elsewhere first.
    """
    pairs = [pair for pair in pairs if pair.size]
    pair_parts = [(pair, name) for pair in pairs for name in generator_parts(settings)]
    if not pair_parts:
        return {}
    questions = {pair.task.name: Questions(settings, pair.task) for pair in pairs}
    log.info("%s", plan_line(settings, pairs))
    with (
        closing(CallLog(settings.paths.calls, settings.tasks, WRITER)) as calls,
        closing(_llm(settings, calls, list(questions.values()))) as llm,
        Progress("analyze", "calls") as progress,
    ):

        def observe(request: Request, answer: Answer, asked: bool) -> None:
            progress.advance(request.step if asked else f"{request.step} (on record)")

        workflows = [
            LLM_MEASURES[name].workflow(questions[pair.task.name], pair, settings.analysis) for pair, name in pair_parts
        ]
        results = Engine(llm, calls, observe).run(workflows)
    for result in results:
        if isinstance(result, UserError):
            raise result
    return {(pair.task.name, name): result for (pair, name), result in zip(pair_parts, results, strict=True)}


def _llm(settings: Settings, calls: CallLog, questions: Sequence[Questions]) -> LazyLLM:
    """The backend of the run, made at the first request."""

    def shortest() -> list[Request]:
        return [request for task_questions in questions for request in task_questions.shortest()]

    backend = backend_named(settings.generator.backend)
    return LazyLLM(lambda: backend.make(BackendInputs(settings, calls, shortest, f"canary.{WRITER}")))
