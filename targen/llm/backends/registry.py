"""The backend that a run has chosen, made when it is needed."""

import importlib.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from targen.config.settings import Settings
from targen.llm.call_log import CallLog
from targen.llm.messages import LLM, Answer, Failure, Request
from targen.runtime.errors import UserError
from targen.synthesis.context_check import shortest_requests
from targen.synthesis.recipe import Recipe


def check_backend(settings: Settings) -> None:
    """Raises: UserError for what would stop the backend only when it is made."""
    if settings.generator.backend == "recorded":
        _recording(settings)
    if settings.generator.backend == "vllm":
        from targen.llm.backends.vllm import check_engine

        check_engine(settings.generator)
        if not settings.plan and importlib.util.find_spec("vllm") is None:
            raise UserError(
                "generator=vllm: the package vllm is not installed. Install it (pip install -e '.[vllm]'), or serve the model "
                "elsewhere and take generator=openai."
            )


def backend_of(settings: Settings, recipes: list[Recipe], calls: CallLog, canary: str) -> LLM:
    """The backend. `canary` names the file in calls/ for the probe of a server: one that nobody else writes."""
    generator = settings.generator
    if generator.backend == "recorded":
        return _recording(settings)
    if generator.backend == "batch":
        from targen.llm.backends.batch import Batch

        return Batch(generator, settings.paths, settings.tasks, calls.ids())
    shortest = [request for recipe in recipes for request in shortest_requests(recipe)]
    if generator.backend == "vllm":
        from targen.llm.backends.vllm import VLLM

        return VLLM(generator, shortest)
    if generator.backend == "transformers":
        from targen.llm.backends.transformers import Transformers

        return Transformers(generator, shortest)
    from targen.llm.backends.openai.client import OpenAIServer

    key = os.environ.get(generator.api_key_env, "").strip() or None
    return OpenAIServer(generator, key, settings.paths.calls / f"{canary}.jsonl", calls.models)


def _recording(settings: Settings) -> LLM:
    from targen.llm.backends.recorded import SHIPPED, Recorded

    return Recorded(Path(settings.generator.path) if settings.generator.path else SHIPPED, list(settings.tasks))


class WhenNeeded:
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
