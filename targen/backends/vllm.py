"""vLLM in this process: requests stream into the engine, so that it never drains between steps or tasks."""

import json
from collections import deque
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from targen.config import Generator
from targen.errors import UserError, did_you_mean
from targen.llm import Answer, Failure, Request

# JSON allows blanks anywhere, and a weak model fills its answer with them. Only the engine's setting forbids it: in vLLM
# 0.32 the field of that name in a request's StructuredOutputsParams is read by nothing.
NO_BLANKS: dict[str, Any] = {"backend": "xgrammar", "disable_any_whitespace": True}


class VLLM:
    """One engine. Chat template, sampling, seed and JSON schema are those of each request.

    A prompt that leaves no room for an answer is given back at once, unasked, as `context_length`.
    """

    def __init__(self, settings: Generator) -> None:
        from vllm import EngineArgs, LLMEngine
        from vllm.config import StructuredOutputsConfig

        self._template = _template(settings.chat_template)
        known = {field.name for field in fields(EngineArgs)}
        for key in settings.engine:
            if key not in known or key in ("model", "tokenizer", "structured_outputs_config"):
                raise UserError(
                    f"generator.engine.{key}: no such setting of vLLM's EngineArgs. {did_you_mean(key, known)}"
                )
        path = settings.path or settings.model
        try:
            arguments = EngineArgs(
                model=path, structured_outputs_config=StructuredOutputsConfig(**NO_BLANKS), **settings.engine
            )
            self._engine: Any = LLMEngine.from_engine_args(arguments)
        except (OSError, ValueError) as err:
            said = " ".join(str(err).split())[:400]
            raise UserError(
                f"generator.model: {path} cannot be loaded by vLLM ({said}). Correct generator.*."
            ) from None
        self._model = settings.model
        self._tokenizer: Any = self._engine.get_tokenizer()
        if self._template is None and not getattr(self._tokenizer, "chat_template", None):
            raise UserError(
                f"generator.model: {path} has no chat template. Take an instruct model, or set generator.chat_template=FILE."
            )
        self._room = int(self._engine.model_config.max_model_len)
        self.window = 2 * int(self._engine.vllm_config.scheduler_config.max_num_seqs)
        self._done: deque[Answer] = deque()

    def submit(self, request: Request) -> None:
        from vllm import SamplingParams
        from vllm.sampling_params import StructuredOutputsParams

        body = json.loads(request.payload)
        prompt = self._tokenizer.apply_chat_template(
            body["messages"], chat_template=self._template, add_generation_prompt=True, tokenize=True, return_dict=False
        )
        if len(prompt) + body["max_tokens"] > self._room:
            self._done.append(Answer(request.id, "", "context_length", {}, self._model))
            return
        params = SamplingParams(
            temperature=body["temperature"],
            top_p=body["top_p"],
            max_tokens=body["max_tokens"],
            seed=body["seed"],
            structured_outputs=StructuredOutputsParams(json=request.schema),
        )
        self._engine.add_request(request.id, {"prompt_token_ids": prompt}, params)

    def collect(self) -> Iterator[Answer | Failure]:
        while not self._done:
            self._done.extend(self._answer(output) for output in self._engine.step() if output.finished)
        while self._done:
            yield self._done.popleft()

    def _answer(self, output: Any) -> Answer:
        completion = output.outputs[0]
        usage = {"prompt_tokens": len(output.prompt_token_ids), "completion_tokens": len(completion.token_ids)}
        return Answer(output.request_id, completion.text, completion.finish_reason or "", usage, self._model)

    def close(self) -> None:
        self._engine.engine_core.shutdown()


def _template(path: str | None) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8") if path else None
    except OSError as err:
        raise UserError(f"generator.chat_template: {path} cannot be read ({err.strerror}). Correct the path.") from None
