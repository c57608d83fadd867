"""vLLM in this process: requests stream into the engine, so it never runs empty between steps or tasks."""

import importlib.util
import logging
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import fields
from threading import Thread
from typing import Any

from targen.config.groups.generation import COPIES, Generator
from targen.config.settings import Settings
from targen.llm.chat_template import Chat
from targen.llm.context_check import require_room
from targen.llm.messages import LLM, Answer, Failure, Request
from targen.llm.registry import Backend, BackendInputs
from targen.runtime.errors import UserError, did_you_mean, one_line
from targen.runtime.jsonl import Json
from targen.runtime.signals import raise_if_being_stopped, raise_if_stopped

log = logging.getLogger(__name__)
# JSON allows blanks anywhere, and a weak model fills its answer with them. Only the engine's setting forbids this: vLLM
# 0.32 ignores the field of the same name in a request's StructuredOutputsParams.
NO_BLANKS: dict[str, Any] = {"backend": "xgrammar", "disable_any_whitespace": True}
# As in vLLM's own LLM class: no statistics in the log.
QUIET: dict[str, Any] = {"disable_log_stats": True}

# On a CPU vLLM 0.32 crashes when it splits the prompt of a request with a seed ("CPU Generator does not use offset").
WHOLE_PROMPTS: dict[str, Any] = {"enable_chunked_prefill": False}


def check(settings: Settings) -> None:
    """Raises: UserError if vLLM is not installed."""
    if not settings.plan and importlib.util.find_spec("vllm") is None:
        raise UserError(
            "generator=vllm: the package vllm is not installed. Install it (pip install -e '.[vllm]'), or serve the model "
            "elsewhere and set generator=openai."
        )


class VLLM:
    """One engine. Sampling, seed and JSON schema come from each request.

    A prompt that leaves no room for its answer is not sent; its answer has the finish_reason `context_length`.
    Raises: UserError before the model is loaded if not even the `shortest` prompts fit.
    """

    def __init__(self, settings: Generator, shortest: Sequence[Request]) -> None:
        from vllm import LLMEngine
        from vllm.exceptions import VLLMValidationError
        from vllm.tokenizers import cached_tokenizer_from_config
        from vllm.usage.usage_lib import UsageContext

        path = settings.path or settings.model
        arguments = _arguments(settings, path)
        try:
            config = arguments.create_engine_config(UsageContext.LLM_CLASS)  # larger batches than a server's
            tokenizer = cached_tokenizer_from_config(config.model_config)
        except (OSError, ValueError) as err:
            raise UserError(_cannot_load(path, err)) from None
        self._chat = Chat(settings, tokenizer)
        self._model = settings.model
        self._room = int(config.model_config.max_model_len)
        self._unguided: set[str] = set()
        require_room(
            shortest,
            lambda messages: len(self._chat.tokens(messages)),
            self._room,
            ", or raise generator.engine.max_model_len",
        )
        for request in shortest:
            try:
                _sampling(request).verify(config.model_config, None, config.structured_outputs_config, tokenizer)
            except (ValueError, VLLMValidationError) as err:
                self._warn_unguided(request, err)
        try:
            self._engine: Any = LLMEngine.from_vllm_config(config, disable_log_stats=arguments.disable_log_stats)
        except (OSError, ValueError, RuntimeError) as err:
            raise_if_being_stopped()
            raise UserError(_cannot_load(path, err)) from None
        _wake_when_dead(self._engine.engine_core)
        self.window = 2 * int(config.scheduler_config.max_num_seqs)
        self._done: deque[Answer] = deque()

    def submit(self, request: Request) -> None:
        """Adds a request to the engine. Raises: Stopped or UserError if the engine has ended."""
        from vllm.exceptions import VLLMValidationError
        from vllm.v1.engine.exceptions import EngineDeadError

        body = request.body
        prompt = {"prompt_token_ids": self._chat.tokens(body["messages"])}
        if len(prompt["prompt_token_ids"]) + body["max_tokens"] > self._room:
            self._done.append(Answer(request.id, "", "context_length", {}, self._model))
            return
        try:
            try:
                self._engine.add_request(request.id, prompt, _sampling(request, body))
            except (ValueError, VLLMValidationError) as err:  # only the schema can be refused here
                self._warn_unguided(request, err)
                self._engine.add_request(request.id, prompt, _sampling(request, body, guided=False))
        except EngineDeadError:
            raise_if_being_stopped()  # a stop ends the engine's processes too
            raise UserError(DEAD) from None

    def collect(self) -> Iterator[Answer | Failure]:
        """Runs the engine until a request is done, then yields all that are.

        Raises: Stopped after a signal; UserError if the engine has ended by itself.
        """
        from vllm.v1.engine.exceptions import EngineDeadError

        try:
            while not self._done:
                raise_if_stopped()
                self._done.extend(self._answer(output) for output in self._engine.step() if output.finished)
            if any(answer.finish_reason == "abort" for answer in self._done):
                raise_if_being_stopped()
        except EngineDeadError:
            raise_if_being_stopped()  # a stop ends the engine's processes too
            raise UserError(DEAD) from None
        while self._done:
            yield self._done.popleft()

    def _answer(self, output: Any) -> Answer:
        completion = output.outputs[0]
        usage = {"prompt_tokens": len(output.prompt_token_ids), "completion_tokens": len(completion.token_ids)}
        return Answer(output.request_id, completion.text, completion.finish_reason or "", usage, self._model)

    def _warn_unguided(self, request: Request, err: Exception) -> None:
        task_and_step = f"{request.task} {request.step}"
        if task_and_step not in self._unguided:
            self._unguided.add(task_and_step)
            words = "generate: vLLM cannot enforce the JSON schema of %s (%s); its answers are read without it"
            log.warning(words, task_and_step, one_line(err))

    def close(self) -> None:
        """Ends the engine."""
        self._engine.engine_core.shutdown()


def _wake_when_dead(core: Any) -> None:
    """Ends the wait for a core that was killed (out of memory, say): vLLM 0.32 would wait for its output forever."""
    from vllm.v1.engine.exceptions import EngineDeadError

    def watch() -> None:
        while not core.resources.engine_dead:
            time.sleep(1)
        core.outputs_queue.put(EngineDeadError())

    if hasattr(core, "outputs_queue"):  # the core is a process of its own
        Thread(target=watch, daemon=True).start()


DEAD = (
    "generator: vLLM's engine ended unexpectedly; see its messages above. If it ran out of memory, lower "
    "generator.engine.gpu_memory_utilization or max_num_seqs. All answers so far are saved; rerun the command to resume."
)


def _arguments(settings: Generator, path: str) -> Any:
    """vLLM's EngineArgs. Raises: UserError for a setting that they lack."""
    from vllm import EngineArgs
    from vllm.config import StructuredOutputsConfig
    from vllm.platforms import current_platform

    names = {field.name for field in fields(EngineArgs)}
    for key in settings.engine:
        if key not in names or key in ("model", "tokenizer", "structured_outputs_config"):
            raise UserError(f"generator.engine.{key}: no such setting of vLLM's EngineArgs. {did_you_mean(key, names)}")
    try:
        structured = StructuredOutputsConfig(**NO_BLANKS)
        defaults = QUIET | (WHOLE_PROMPTS if current_platform.is_cpu() else {})
        # targen.pipeline.copies runs several engines; without a value, vLLM decides by the GPU
        overrides = {key: value for key, value in settings.engine.items() if key != COPIES and value is not None}
        return EngineArgs(model=path, structured_outputs_config=structured, **defaults | overrides)
    except (OSError, ValueError) as err:
        raise UserError(_cannot_load(path, err)) from None


def _sampling(request: Request, body: Json | None = None, guided: bool = True) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    body = request.body if body is None else body
    return SamplingParams(
        temperature=body["temperature"],
        top_p=body["top_p"],
        max_tokens=body["max_tokens"],
        seed=body["seed"],
        structured_outputs=StructuredOutputsParams(json=request.schema) if guided else None,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def _cannot_load(path: str, err: Exception) -> str:
    reason = one_line(err, 400)
    return f"generator.model: {path} cannot be loaded by vLLM ({reason}). Correct generator.*."


def _make(inputs: BackendInputs) -> LLM:
    return VLLM(inputs.settings.generator, inputs.shortest_requests())


BACKEND = Backend(_make, check)
