"""The settings of finetuning: the model, and how it is trained."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator
from pydantic.dataclasses import dataclass as checked_dataclass

from targen.runtime.paths import CONF
from targen.tasks.task import STRICT, Count

Precision = Literal["fp32", "bf16", "bf16_weights"]
LORA_DEFAULT = {"r": 16, "alpha": 32, "dropout": 0.05, "targets": "default"}


def lora_from(value: object) -> object:
    """The adapters' settings: none without a rank, the default ones by name."""
    if value == "default":
        return LORA_DEFAULT
    if not isinstance(value, dict):
        return value
    given = {key: setting for key, setting in value.items() if setting is not None}
    if "r" not in given:
        return None
    twice = {"alpha": 2 * given["r"]} if isinstance(given["r"], int) and given["r"] > 0 else {}
    return {**LORA_DEFAULT, **twice, **given}


@checked_dataclass(frozen=True, config=STRICT)
class Model:
    """What is finetuned: pretrained weights (`path`), or a model built from its sizes (`config`)."""

    name: str
    family: Literal["encoder", "seq2seq", "decoder"]
    path: str | None
    sha256: str | None
    learning_rate: Annotated[float, Field(gt=0)]
    precision: Precision
    config: dict[str, Any] | None = None
    tokenizer: str | None = None
    pickle: bool = False
    remote_code: bool = False


@checked_dataclass(frozen=True, config=STRICT)
class Lora:
    """Low-rank adapters beside frozen weights. Source: arXiv 2106.09685."""

    r: Count
    alpha: Count
    dropout: Annotated[float, Field(ge=0, lt=1)]
    targets: Literal["default", "all-linear"] | list[str]


@checked_dataclass(frozen=True, config=STRICT)
class Train:
    """How models are finetuned."""

    epochs: Annotated[float, Field(gt=0)]
    batch_size: Count
    device_batch_size: Count
    learning_rate: Annotated[float, Field(gt=0)]
    warmup_ratio: Annotated[float, Field(ge=0, le=1)]
    weight_decay: Annotated[float, Field(ge=0)]
    precision: Precision
    max_length: Annotated[int, Field(ge=8)]
    max_choices: Annotated[int, Field(ge=2)]
    max_rows: Count | None
    equal_size: bool
    mixed_original: Count | Annotated[str, Field(pattern=r"^[1-9][0-9]*%$")]
    setting: Literal["single", "multi"]
    mixture: Literal["proportional", "temperature", "equal"]
    mixture_temperature: Annotated[float, Field(ge=1)]
    mixture_cap: Count | None
    instruct: bool
    instruct_examples: Annotated[int, Field(ge=0)]
    init_from: str | None
    loss: Literal["ce", "imp", "dimp"]
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    checker_rows: Count
    checker_model: str | None
    lora: Lora | None
    quantize: Literal["4bit"] | None
    merge_export: bool
    gradient_checkpointing: bool
    attention: Literal["sdpa", "eager", "flash_attention_2"] | None
    group_by_length: bool
    save_every: Annotated[str, Field(pattern=r"^[1-9]\d*m$")] | Count | None
    select: Literal["last", "best"]
    validate_every: Count | None
    validate_on: Literal["held_out", "evaluation"]
    hold_out: Annotated[float, Field(gt=0, lt=1)]
    launch: str | None

    @field_validator("lora", mode="before")
    @classmethod
    def _lora(cls, value: object) -> object:
        return lora_from(value)


def launch_file(name: str) -> Path:
    """The accelerate configuration of a name: a file of conf/accelerate/, or the path itself."""
    return Path(name) if name.endswith(".yaml") else CONF / "accelerate" / f"{name}.yaml"
