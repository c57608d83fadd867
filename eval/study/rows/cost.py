"""The cost of a synthetic set: tokens where the server counted them, and the characters of prompts and answers, a proxy."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from targen.config.settings import Settings
from targen.llm.call_log import call_files
from targen.llm.messages import LLM, Answer, Failure, Request
from targen.llm.registry import Backend, BackendInputs, backend_named
from targen.runtime.jsonl import AppendLog, read_jsonl
from targen.runtime.paths import RunPaths


@dataclass(frozen=True)
class Cost:
    """The cost of all calls of a set, including rejected attempts and lists of contexts. `tokens`: None if a call has no count."""

    calls: int
    tokens: int | None
    characters: int

    def paid(self, in_tokens: bool) -> int:
        """Tokens, or characters."""
        return self.tokens if in_tokens and self.tokens is not None else self.characters


def prompt_file(paths: RunPaths, task: str) -> Path:
    """The file with the number of characters of each prompt of a task, which the log of calls does not have."""
    return paths.root / "prompts" / f"{task}.jsonl"


def cost_of(paths: RunPaths, task: str) -> Cost | None:
    """The cost of the calls on record; None if the length of a prompt is not."""
    path = prompt_file(paths, task)
    lengths = {line["id"]: int(line["characters"]) for _, line in read_jsonl(path)} if path.is_file() else {}
    calls, tokens, characters, counted = 0, 0, 0, True
    for log in call_files(paths.calls, task):
        for _, record in read_jsonl(log, surrogates=True):
            if record["id"] not in lengths:
                return None
            usage = record["usage"]
            counted = counted and {"prompt_tokens", "completion_tokens"} <= set(usage)
            tokens += usage.get("prompt_tokens", 0) + usage.get("completion_tokens", 0)
            calls, characters = calls + 1, characters + lengths[record["id"]] + len(record["text"])
    return Cost(calls, tokens if counted else None, characters) if calls else None


def metered_backend(settings: Settings) -> Backend:
    """The backend of the settings, which also notes how long each prompt is."""
    backend = backend_named(settings.generator.backend)
    return Backend(lambda inputs: _Metered(backend, inputs), backend.check)


class _Metered:
    """A language model whose requests are measured before they are asked."""

    def __init__(self, backend: Backend, inputs: BackendInputs) -> None:
        self._llm: LLM = backend.make(inputs)
        tasks = inputs.settings.tasks
        self._logs = {task: AppendLog(prompt_file(inputs.settings.paths, task)) for task in tasks}

    @property
    def window(self) -> int:
        return self._llm.window

    def submit(self, request: Request) -> None:
        characters = sum(len(message["content"]) for message in request.body["messages"])
        self._logs[request.task].append({"id": request.id, "characters": characters})
        self._llm.submit(request)

    def collect(self) -> Iterator[Answer | Failure]:
        return self._llm.collect()

    def close(self) -> None:
        for log in self._logs.values():
            log.close()
        self._llm.close()
