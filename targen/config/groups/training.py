"""The settings of finetuning: the model, and how it is trained."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator
from pydantic.dataclasses import dataclass as checked_dataclass

from targen.config.groups.bounds import STRICT, Count, CountOrZero, Name, NotNegative, PathText, Positive
from targen.config.losses import LOSSES, Checker, LossName
from targen.runtime.paths import CONF

Precision = Literal["fp32", "bf16", "bf16_weights"]
HEAD_FAMILIES = {  # families whose models score labels with a head and write no text
    "encoder",
}
LORA_DEFAULT = {"r": 16, "alpha": 32, "dropout": 0.05, "targets": "default"}


def lora_from(value: object) -> object:
    """The settings of the adapters: None without a rank; `default` stands for the default rank."""
    if value == "default":
        return LORA_DEFAULT
    if not isinstance(value, dict):
        return value
    explicit = {key: setting for key, setting in value.items() if setting is not None}
    if "r" not in explicit:
        return None
    default_alpha = {"alpha": 2 * explicit["r"]} if isinstance(explicit["r"], int) and explicit["r"] > 0 else {}
    return {**LORA_DEFAULT, **default_alpha, **explicit}


def file_name(name: str) -> str:
    """A name that can be part of a file's: `google/tiny` is a folder and a file."""
    return name.replace("/", "_")


@checked_dataclass(frozen=True, config=STRICT)
class Model:
    """The model that is finetuned: pretrained weights (`path`), or new weights of given sizes (`config`)."""

    name: str
    """Model name in cells, tables and figures; a slash becomes _."""
    family: Name
    """Model family in train/families/: encoder, seq2seq or decoder."""
    path: PathText | None
    """A local folder, a Hub id, or package:<package>/<folder>; null: built from `config`."""
    sha256: str | None
    """Checksum of model.safetensors; null: not checked."""
    learning_rate: Positive
    """Default of train.learning_rate."""
    precision: Precision
    """Default of train.precision."""
    config: dict[str, Any] | None = None
    """transformers configuration of a model without pretrained weights; the cell's seed initialises its weights."""
    tokenizer: PathText | None = None
    """A local folder, a Hub id, package:<package>/<folder>, or bytes (one token per byte); null: the model's own."""
    pickle: bool = False
    """true: load pickled weights, which can run code, if the repository has no safetensors."""
    remote_code: bool = False
    """true: run code from the model's repository."""

    @field_validator("name")
    @classmethod
    def _is_part_of_file_names(cls, name: str) -> str:
        return file_name(name)

    @property
    def has_head(self) -> bool:
        """Whether it scores labels or choices with a head; otherwise it answers in words."""
        return self.family in HEAD_FAMILIES


@checked_dataclass(frozen=True, config=STRICT)
class Lora:
    """Low-rank adapters beside frozen weights. Source: arXiv 2106.09685."""

    r: Count
    """Rank; null: no adapters."""
    alpha: Count
    """Scale; null: 2r."""
    dropout: Annotated[float, Field(ge=0, lt=1)]
    """Dropout before the adapters; null: 0.05."""
    targets: Literal["default", "all-linear"] | list[str]
    """Modules with adapters: a list, or all-linear; null: peft's default for the architecture."""


@checked_dataclass(frozen=True, config=STRICT)
class Train:
    """How models are finetuned."""

    epochs: Positive
    """Passes over the training rows."""
    batch_size: Count
    """Examples per optimizer step."""
    device_batch_size: Count | None
    """Sequences per forward pass (a COPA example has 2); gradients are accumulated up to batch_size. null: as many as fit on a
    GPU, else 16."""
    learning_rate: Positive
    """Peak learning rate."""
    warmup_ratio: Annotated[float, Field(ge=0, le=1)]
    """Fraction of the steps used for learning rate warmup."""
    weight_decay: NotNegative
    """Weight decay of AdamW."""
    precision: Precision
    """fp32; bf16: mixed precision with fp32 weights; bf16_weights: bf16 weights too, for models that do not fit otherwise.
    fp16 is not offered because T5's activations overflow in it."""
    max_length: Annotated[int, Field(ge=8)]
    """Maximum tokens per sequence. The task defines which text is truncated; answers never are."""
    max_choices: Annotated[int, Field(ge=2)]
    """Choices per ReCoRD query in training, including the answer; wrong ones are sampled with the cell's seed."""
    max_rows: Count | None
    """Maximum training rows per arm (mixed: per source), sampled with the cell's seed; null: all."""
    equal_size: bool
    """true: sample all arms of a task to the size of its smallest arm, keeping label proportions (MultiRC: whole questions)."""
    mixed_original: Count | Annotated[str, Field(pattern=r"^[1-9][0-9]*%$")]
    """Arm mixed: original rows added to all synthetic rows, as a number or a percentage of the synthetic rows."""
    setting: Literal["single", "multi"]
    """single: one model per task; multi: one model on a mixture of all tasks, scored per task."""
    mixture: Literal["proportional", "temperature", "equal"]
    """Sampling weight of each task. proportional: its size; temperature: size^(1/mixture_temperature); equal."""
    mixture_temperature: Annotated[float, Field(ge=1)]
    """Temperature for mixture=temperature, above 1."""
    mixture_cap: Count | None
    """Maximum rows per task in the mixture; null: all."""
    instruct: bool
    """true: instruction prompts with a definition, positive examples and the input, as in Super-NaturalInstructions; not for
    encoders."""
    instruct_examples: CountOrZero
    """Positive examples per prompt: other training rows of the same task."""
    init_from: PathText | None
    """Start from a trained cell: its name in this run, or the folder <run.dir>/models/<cell> of another run."""
    freeze: bool
    """true: train only a linear layer on cached embeddings from the frozen model, in seconds without a GPU; encoders only."""
    loss: LossName
    """ce: cross-entropy; imp, dimp: weight synthetic rows with a checker trained on original rows (arXiv 2410.21526)."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    """Label smoothing over the choices, or over the vocabulary for models that answer in words."""
    checker_rows: Count
    """Original rows per task for training the checker of imp, dimp and select_rows, sampled in the split's label proportions."""
    checker_model: str | None
    """Model of the checker of imp and dimp, a name in conf/model/; null: the model of the cell."""
    select_rows: Literal["checker", "pvi"] | None
    """Keep the best synthetic rows. checker: by label probability under a small student trained on checker_rows original rows;
    pvi: by PVI under a student trained on the other rows (arXiv 2110.08420); null: keep all."""
    select_share: Annotated[float, Field(gt=0, le=1)]
    """Fraction of a task's synthetic rows that select_rows keeps, regardless of label."""
    select_student: Literal["encoder", "bag_of_words"]
    """Student of select_rows, a logistic regression on MiniLM embeddings (encoder) or on words (bag_of_words)."""
    lora: Lora | None
    """Adapters instead of all weights: train.lora.r=16, or train.lora=default."""
    quantize: Literal["4bit"] | None
    """4bit: QLoRA, frozen weights in 4 bits; needs CUDA and bitsandbytes."""
    merge_export: bool
    """true: also write the model with its adapters merged to models/<cell>/merged."""
    gradient_checkpointing: bool
    """true: less memory, about a third slower."""
    attention: Literal["sdpa", "eager", "flash_attention_2"] | None
    """sdpa, eager, or flash_attention_2 (needs CUDA and flash-attn); null: the model's default."""
    compile: bool
    """true: torch.compile, for long training on a GPU; compiling takes minutes at the start and for new sequence lengths."""
    group_by_length: bool
    """true: batch examples of similar length, reshuffled each epoch, to reduce padding."""
    save_every: Annotated[str, Field(pattern=r"^[1-9]\d*m$")] | Count | None
    """Checkpoint interval, in minutes (15m) or steps (200); null: only on a stop signal."""
    select: Literal["last", "best"]
    """Weights to keep: last, or best on validation (accuracy, then log-loss)."""
    validate_every: Count | None
    """Steps between validations; null: no validation, train on all rows."""
    validate_on: Literal["held_out", "evaluation"]
    """held_out: held-out training rows; evaluation: the reported evaluation rows, only to watch the curve."""
    hold_out: Annotated[float, Field(gt=0, lt=1)]
    """Fraction of the training rows held out if train.validate_every is set."""
    launch: PathText | None
    """accelerate configuration for several processes: a file in conf/accelerate/ (ddp, fsdp, ...) or a path; null: one process."""

    @property
    def checkers(self) -> tuple[Checker, ...]:
        """The rows that each checker of the loss is trained on; empty if the loss has no weights."""
        return LOSSES[self.loss].checkers

    @field_validator("lora", mode="before")
    @classmethod
    def _lora(cls, value: object) -> object:
        return lora_from(value)


def launch_file(name: str) -> Path:
    """The accelerate configuration: a file of conf/accelerate/ by its name, or a path that ends in .yaml."""
    return Path(name) if name.endswith(".yaml") else CONF / "accelerate" / f"{name}.yaml"
