"""transformers in this process, for machines without vLLM: batches of prompts of similar length.

Every request draws with its own random generator, so its answer does not depend on the rest of its batch, up to the
rounding of the model.
"""

import importlib.util
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)

from targen.config.groups.generation import Generator
from targen.llm.chat_template import Chat
from targen.llm.context_check import require_room
from targen.llm.messages import Answer, Failure, Request
from targen.runtime.errors import UserError, one_line
from targen.runtime.jsonl import Json

log = logging.getLogger(__name__)
BATCHES_AHEAD = 8  # number of batches held back, to group prompts of similar length


@dataclass(frozen=True)
class _Prompt:
    request: Request
    tokens: list[int]
    body: Json


class Transformers:
    """One model, loaded from safetensors, without remote code.

    A prompt that leaves no room for its answer is not sent; its answer has the finish_reason `context_length`.
    Raises: UserError before the model is loaded if not even the `shortest` prompts fit.
    """

    def __init__(self, settings: Generator, shortest: Sequence[Request]) -> None:
        self.window = BATCHES_AHEAD * settings.batch_size
        self._batch_size, self._model_name = settings.batch_size, settings.model
        path = settings.path or settings.model
        try:
            config = AutoConfig.from_pretrained(path)
            tokenizer = AutoTokenizer.from_pretrained(path)
            self._chat = Chat(settings, tokenizer)
            self._room = int(config.get_text_config().max_position_embeddings)
            require_room(shortest, lambda messages: len(self._chat.tokens(messages)), self._room, "")
            model = AutoModelForCausalLM.from_pretrained(path, use_safetensors=True, dtype=settings.dtype)
            self._device = torch.device(_device(settings.device))
            self._model: Any = model.eval().to(self._device)
        except (OSError, ValueError, RuntimeError) as err:
            reason = one_line(err, 400)
            raise UserError(
                f"generator.model: {path} cannot be loaded by transformers ({reason}). Correct generator.*."
            ) from None
        self._stops = _stop_tokens(self._model, tokenizer)
        self._tokenizer: Any = tokenizer
        # Otherwise the checkpoint's own sampling (a temperature, a repetition penalty) would mix with ours.
        self._model.generation_config = GenerationConfig(eos_token_id=self._stops, pad_token_id=self._stops[0])
        self._grammars = _grammars(tokenizer, config.get_text_config().vocab_size, self._stops)
        self._unguided: set[str] = set()
        self._waiting: list[_Prompt] = []
        self._done: list[Answer] = []

    def submit(self, request: Request) -> None:
        """Adds a request to those that wait for a batch."""
        body = request.body
        tokens = self._chat.tokens(body["messages"])
        if len(tokens) + body["max_tokens"] > self._room:
            self._done.append(Answer(request.id, "", "context_length", {}, self._model_name))
        else:
            self._waiting.append(_Prompt(request, tokens, body))

    def collect(self) -> Iterator[Answer | Failure]:
        """Runs one batch unless answers are ready, and yields all that are."""
        if not self._done:
            self._done += self._answer(self._next_batch())
        answers, self._done = self._done, []
        yield from answers

    def _next_batch(self) -> list[_Prompt]:
        """The prompt that has waited longest, with those nearest to it in length."""
        length = len(self._waiting[0].tokens)
        nearest = sorted(range(len(self._waiting)), key=lambda i: (abs(len(self._waiting[i].tokens) - length), i))
        chosen = set(nearest[: self._batch_size])
        batch = [prompt for i, prompt in enumerate(self._waiting) if i in chosen]
        self._waiting = [prompt for i, prompt in enumerate(self._waiting) if i not in chosen]
        return batch

    def _answer(self, batch: list[_Prompt]) -> list[Answer]:
        width = max(len(prompt.tokens) for prompt in batch)
        padded = [[self._stops[0]] * (width - len(prompt.tokens)) + prompt.tokens for prompt in batch]
        mask = [[0] * (width - len(prompt.tokens)) + [1] * len(prompt.tokens) for prompt in batch]
        limits = [int(prompt.body["max_tokens"]) for prompt in batch]
        rows = [_Row(prompt.body, self._grammar(prompt.request), self._device) for prompt in batch]
        with torch.inference_mode():
            output = self._model.generate(
                input_ids=torch.tensor(padded, device=self._device),
                attention_mask=torch.tensor(mask, device=self._device),
                do_sample=False,
                max_new_tokens=max(limits),
                logits_processor=LogitsProcessorList([_Draw(rows, width)]),
                stopping_criteria=StoppingCriteriaList([_Limits(width, limits)]),
            )
        texts = zip(batch, output[:, width:].tolist(), limits, strict=True)
        return [self._answer_of(prompt, tokens[:limit]) for prompt, tokens, limit in texts]

    def _answer_of(self, prompt: _Prompt, tokens: list[int]) -> Answer:
        end = next((position for position, token in enumerate(tokens) if token in self._stops), None)
        answer_tokens = tokens if end is None else tokens[: end + 1]
        text = self._tokenizer.decode(answer_tokens, skip_special_tokens=True)
        usage = {"prompt_tokens": len(prompt.tokens), "completion_tokens": len(answer_tokens)}
        return Answer(prompt.request.id, text, "length" if end is None else "stop", usage, self._model_name)

    def _grammar(self, request: Request) -> Any:
        if self._grammars is None:
            return None
        schema = json.dumps(request.schema)
        try:
            return self._grammars.compile_json_schema(schema, any_whitespace=False, separators=(",", ":"))
        except RuntimeError as err:
            if (task_and_step := f"{request.task} {request.step}") not in self._unguided:
                self._unguided.add(task_and_step)
                words = "generate: xgrammar cannot enforce the JSON schema of %s (%s); its answers are read without it"
                log.warning(words, task_and_step, one_line(err))
            return None

    def close(self) -> None:
        """Nothing to free: the model goes with this object."""


class _Row:
    """How one request of a batch draws its next token."""

    def __init__(self, body: Json, grammar: Any, device: torch.device) -> None:
        self.temperature, self.top_p = float(body["temperature"]), float(body["top_p"])
        self._random = torch.Generator(device).manual_seed(int(body["seed"]))
        self._matcher: Any = None
        if grammar is not None:
            import xgrammar

            self._matcher = xgrammar.GrammarMatcher(grammar)
            self._mask: Any = xgrammar.allocate_token_bitmask(1, grammar.tokenizer_info.vocab_size)

    def take(self, token: int) -> None:
        """Advances the grammar by one token; tokens after its end are padding."""
        if self._matcher is not None and not self._matcher.is_terminated():
            self._matcher.accept_token(token)

    def draw(self, scores: torch.Tensor) -> int:
        """The next token for scores `(vocabulary,)`.

        Gumbel-max by exponential noise: argmax of p / e is a draw from p, with noise from the row's own generator.
        """
        if self._matcher is not None and not self._matcher.is_terminated():
            scores = self._allowed(scores)
        if self.temperature == 0:
            return int(scores.argmax())
        probabilities = _nucleus(torch.softmax(scores.float() / self.temperature, dim=-1), self.top_p)
        noise = torch.empty_like(probabilities).exponential_(generator=self._random)
        return int((probabilities / noise).argmax())

    def _allowed(self, scores: torch.Tensor) -> torch.Tensor:
        import xgrammar

        self._matcher.fill_next_token_bitmask(self._mask, 0)
        scores = scores.clone().unsqueeze(0)
        xgrammar.apply_token_bitmask_inplace(scores, self._mask.to(scores.device))
        return scores[0]


class _Draw(LogitsProcessor):  # type: ignore[misc]  # transformers is not typed
    """Draws each row's next token, then leaves greedy search only this token."""

    def __init__(self, rows: list[_Row], width: int) -> None:
        self._rows, self._width = rows, width

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if input_ids.shape[1] > self._width:
            for row, token in zip(self._rows, input_ids[:, -1].tolist(), strict=True):
                row.take(token)
        next_tokens = [row.draw(scores[number]) for number, row in enumerate(self._rows)]
        masked = torch.full_like(scores, float("-inf"))
        masked[torch.arange(len(next_tokens)), torch.tensor(next_tokens, device=scores.device)] = 0.0
        return masked


class _Limits(StoppingCriteria):  # type: ignore[misc]
    """Ends each row at its own max_tokens."""

    def __init__(self, width: int, limits: list[int]) -> None:
        self._width, self._limits = width, limits

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:  # noqa: ARG002
        new_tokens = input_ids.shape[1] - self._width
        return torch.tensor([new_tokens >= limit for limit in self._limits], device=input_ids.device)


def _nucleus(probabilities: torch.Tensor, top_p: float) -> torch.Tensor:
    """The probabilities `(vocabulary,)` with only the most probable tokens that together reach `top_p`; the others are zero."""
    if top_p >= 1:
        return probabilities
    ordered, tokens = probabilities.sort(descending=True, stable=True)
    beyond = ordered.cumsum(dim=-1) - ordered >= top_p
    return probabilities.index_fill(0, tokens[beyond], 0.0)


def _stop_tokens(model: Any, tokenizer: Any) -> list[int]:
    """All tokens that end an answer. Raises: UserError if the model has none."""
    configured = model.generation_config.eos_token_id
    stops = [configured] if isinstance(configured, int) else list(configured or [])
    if tokenizer.eos_token_id is not None:
        stops.append(int(tokenizer.eos_token_id))
    if not stops:
        raise UserError("generator.model: the model defines no token that ends an answer. Choose an instruct model.")
    return list(dict.fromkeys(stops))


def _device(name: str) -> str:
    if name != "auto":
        return name
    return "cuda" if torch.cuda.is_available() else "cpu"


def _grammars(tokenizer: Any, vocabulary: int, stops: list[int]) -> Any:
    """The compiler of JSON schemas for this tokenizer; None, with a warning, if xgrammar is not installed."""
    if importlib.util.find_spec("xgrammar") is None:
        log.warning(
            "generate: xgrammar is not installed, so JSON schemas are not enforced and answers are read without them "
            "(pip install -e '.[transformers]')"
        )
        return None
    import xgrammar

    info = xgrammar.TokenizerInfo.from_huggingface(tokenizer, vocab_size=vocabulary, stop_token_ids=stops)
    return xgrammar.GrammarCompiler(info)
