"""The backends by name. Each is a module or folder of `targen/llm/backends/` with a `BACKEND`, imported when it is chosen."""

import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module

from targen.config.settings import Settings
from targen.llm import backends
from targen.llm.call_log import CallLog
from targen.llm.messages import LLM, Answer, Failure, Request
from targen.runtime.errors import UserError, did_you_mean


@dataclass(frozen=True)
class BackendInputs:
    """What a run hands to its backend.

    `shortest_requests` gives the shortest request of every step and label cell, to check the context length with.
    `canary` names the file in calls/ that holds a server's answer to the probe; no other process writes it.
    """

    settings: Settings
    calls: CallLog
    shortest_requests: Callable[[], list[Request]]
    canary: str


@dataclass(frozen=True)
class Backend:
    """How to make a backend, and what to check before the first call.

    `check` raises UserError for mistakes that would otherwise stop `make` later. Neither the module nor `check` imports
    heavy libraries.
    """

    make: Callable[[BackendInputs], LLM]
    check: Callable[[Settings], None] = lambda _: None


def backend_names() -> list[str]:
    """The names of all backends: the modules and folders of targen/llm/backends."""
    return sorted(module.name for module in pkgutil.iter_modules(backends.__path__))


def backend_named(name: str) -> Backend:
    """The backend of this name. Raises: UserError if there is none."""
    names = backend_names()
    if name not in names:
        raise UserError(f"generator.backend: got {name!r}, which is not a backend. {did_you_mean(name, names)}")
    backend = vars(import_module(f"{backends.__name__}.{name}")).get("BACKEND")
    if not isinstance(backend, Backend):
        raise TypeError(f"targen/llm/backends/{name}: got no BACKEND, expected `BACKEND = Backend(make)`")
    return backend


class LazyLLM:
    """A backend that is made at the first request, so that a run with all answers on record loads no model."""

    def __init__(self, make: Callable[[], LLM]) -> None:
        self._make = make
        self._llm: LLM | None = None

    @property
    def window(self) -> int:
        """That of the backend; 1 before there is one."""
        return self._llm.window if self._llm is not None else 1

    def submit(self, request: Request) -> None:
        """Makes the backend if there is none yet, and submits the request to it."""
        if self._llm is None:
            self._llm = self._make()
        self._llm.submit(request)

    def collect(self) -> Iterator[Answer | Failure]:
        """The answers of the backend; a request must have been submitted before."""
        assert self._llm is not None
        return self._llm.collect()

    def close(self) -> None:
        """Closes the backend if one was made."""
        if self._llm is not None:
            self._llm.close()
