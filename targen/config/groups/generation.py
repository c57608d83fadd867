"""The settings of generation: the backend, the knobs of the four steps, shards, prices."""

from dataclasses import field
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator
from pydantic.dataclasses import dataclass as checked_dataclass

from targen.runtime.jsonl import Json
from targen.tasks.task import STRICT, Count, Task

Step = Literal["contexts", "instance_seed", "generation", "self_correction"]


STEPS: tuple[Step, ...] = ("contexts", "instance_seed", "generation", "self_correction")


@checked_dataclass(frozen=True, config=STRICT)
class Sampling:
    temperature: Annotated[float, Field(ge=0)]
    top_p: Annotated[float, Field(gt=0, le=1)]
    max_tokens: Annotated[int, Field(ge=1)]

    @property
    def body(self) -> Json:
        """As a chat completion has it."""
        return {"temperature": self.temperature, "top_p": self.top_p, "max_tokens": self.max_tokens}


@checked_dataclass(frozen=True, config=STRICT)
class Generator:
    """A backend and its settings; only `model` is part of a call's identity."""

    backend: str  # a module or folder of targen/llm/backends
    model: Annotated[str, Field(min_length=1)]
    path: str | None = None
    base_url: str | Annotated[list[str], Field(min_length=1)] = ""
    api_key_env: str = ""
    concurrency: Count = 64
    max_retries: Annotated[int, Field(ge=0)] = 8
    retry_pause: Annotated[float, Field(gt=0)] = 0.5
    timeout: Annotated[float, Field(gt=0)] = 300
    max_lines: Count = 50_000
    max_bytes: Count = 200_000_000
    chat_template: str | None = None
    chat_template_kwargs: dict[str, Any] = field(default_factory=dict)
    batch_size: Count = 8
    device: str = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    engine: dict[str, Any] = field(default_factory=dict)

    @property
    def base_urls(self) -> list[str]:
        """The servers that answer, one or several."""
        return [self.base_url] if isinstance(self.base_url, str) else self.base_url


@checked_dataclass(frozen=True, config=STRICT)
class Synth:
    """The knobs of the four steps."""

    size: Count | Literal["original"]
    max_size: Count
    contexts: Count
    seeds_per_context: Count
    seed_source: Literal["llm", "file"]
    seed_dir: str | None
    self_correct: Literal["off", "paper", "drop", "vote"]
    votes: Count
    vote_temperature: Annotated[float, Field(gt=0)]
    near_duplicates: Annotated[float, Field(gt=0, le=1)] | None
    contamination: Literal["off", "auto", "measure", "filter"]
    max_attempts: Count
    max_slots: Count
    spare: Annotated[float, Field(ge=0)]
    sampling: dict[Step, Sampling]

    @field_validator("self_correct", mode="before")
    @classmethod
    def _from_bool(cls, value: object) -> object:
        return {True: "paper", False: "off"}.get(value, value) if isinstance(value, bool) else value

    def size_of(self, task: Task) -> int:
        """Rows to make: whole instances, so AX-g's odd one is left out."""
        if self.size != "original":
            return self.size
        original = task.sizes["train"] or task.sizes[task.eval_split]
        return min(original, self.max_size) // task.rows_per_slot * task.rows_per_slot


@checked_dataclass(frozen=True, config=STRICT)
class ShardOf:
    """The share of generation that this process makes."""

    index: Annotated[int, Field(ge=0)]
    count: Count


@checked_dataclass(frozen=True, config=STRICT)
class Price:
    """What generation costs, per million tokens, and how fast tokens are written; null: not shown."""

    prompt: Annotated[float, Field(ge=0)] | None
    completion: Annotated[float, Field(ge=0)] | None
    currency: Annotated[str, Field(min_length=1)]
    tokens_per_second: Annotated[float, Field(gt=0)] | None
