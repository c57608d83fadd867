"""A Python function of the user's own as language model: `generator.function=FILE.py:NAME`, or given to `generate_rows`."""

import copy
import runpy
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from pathlib import Path

from targen.config.settings import Settings
from targen.llm.messages import Answer, Failure, Request
from targen.llm.registry import Backend, BackendInputs
from targen.runtime.errors import UserError
from targen.runtime.jsonl import Json
from targen.runtime.signals import SECONDS_BETWEEN_CHECKS, raise_if_stopped

Function = Callable[[Json], str]  # the body of a chat completion -> the text of the answer
REQUESTS_PER_CALL = 4  # that are held for each call at once, so that none waits for the next request


class FunctionLLM:
    """The answers of a function, `concurrency` calls at once, each in a thread."""

    def __init__(self, function: Function, concurrency: int) -> None:
        self.window = REQUESTS_PER_CALL * concurrency
        self._function = function
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="generator")
        self._running: dict[Future[str], Request] = {}

    def submit(self, request: Request) -> None:
        """Calls the function as soon as a thread is free."""
        future = self._pool.submit(copy_context().run, self._function, copy.deepcopy(request.body))
        self._running[future] = request

    def collect(self) -> Iterator[Answer | Failure]:
        """The answers that have come. Raises: what the function raised, after the answers that came before."""
        while not (finished := wait(self._running, SECONDS_BETWEEN_CHECKS, FIRST_COMPLETED).done):
            raise_if_stopped()
        for future in sorted(finished, key=lambda future: future.exception() is not None):
            request = self._running.pop(future)
            yield Answer(request.id, self._text(future.result()), "stop", {}, request.body["model"])

    def _text(self, answer: object) -> str:
        if isinstance(answer, str):
            return answer
        name = getattr(self._function, "__name__", type(self._function).__name__)
        raise UserError(
            f"generator: got {type(answer).__name__} from {name}(), expected the text of the answer as str. Correct the function."
        )

    def close(self) -> None:
        """Lets go of calls under way."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _function(settings: Settings) -> Function:
    """The function that `generator.function` names. Raises: UserError if there is none; what its file raises."""
    reference = settings.generator.function
    file, _, name = (reference or "").rpartition(":")
    path = Path(file).expanduser()
    if not file or not path.is_file():
        raise UserError(
            f"generator.function: got {reference or 'null'}, expected FILE.py:NAME, the function that answers. Name it, call "
            "targen.generate_rows with it, or choose another generator."
        )
    function = runpy.run_path(str(path)).get(name)
    if not callable(function):
        raise UserError(f"generator.function: got {name}, expected a function of {path}. Correct the name.")
    answer: Function = function
    return answer


def _check(settings: Settings) -> None:
    """A run that a notebook began names no function; with all answers on record it needs none."""
    if settings.generator.function is not None:
        _function(settings)


def _make(inputs: BackendInputs) -> FunctionLLM:
    return FunctionLLM(_function(inputs.settings), inputs.settings.generator.concurrency)


BACKEND = Backend(_make, _check)
