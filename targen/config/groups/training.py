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
    given = {key: setting for key, setting in value.items() if setting is not None}
    if "r" not in given:
        return None
    default_alpha = {"alpha": 2 * given["r"]} if isinstance(given["r"], int) and given["r"] > 0 else {}
    return {**LORA_DEFAULT, **default_alpha, **given}


def file_name(name: str) -> str:
    """A name that can be part of a file's: `google/tiny` is a folder and a file."""
    return name.replace("/", "_")


@checked_dataclass(frozen=True, config=STRICT)
class Model:
    """The model that is finetuned: pretrained weights (`path`), or new weights of given sizes (`config`)."""

    name: str
    """Name of the model in cells, tables and figures; a slash becomes _."""
    family: Name
    """encoder, seq2seq or decoder: a family of train/families/."""
    path: PathText | None
    """A local folder, a Hub id, or package:<package>/<folder>; null: built from `config`."""
    sha256: str | None
    """Checksum of model.safetensors; null: not checked."""
    learning_rate: Positive
    """Default of train.learning_rate."""
    precision: Precision
    """Default of train.precision."""
    config: dict[str, Any] | None = None
    """Sizes of a model without pretrained weights, as transformers names them; its weights are drawn by the cell's seed."""
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
    """Modules with adapters, as a list; all-linear; or null: those that peft names for the architecture."""


@checked_dataclass(frozen=True, config=STRICT)
class Train:
    """How models are finetuned."""

    epochs: Positive
    """Passes over the training rows."""
    batch_size: Count
    """Examples per optimizer step."""
    device_batch_size: Count | None
    """Sequences in memory at once (an example of COPA has 2); larger batches are accumulated. null: on a GPU as many as fit,
    else 16."""
    learning_rate: Positive
    """Peak learning rate."""
    warmup_ratio: Annotated[float, Field(ge=0, le=1)]
    """Fraction of the steps over which the learning rate rises."""
    weight_decay: NotNegative
    """Weight decay of AdamW."""
    precision: Precision
    """fp32; bf16: arithmetic only, weights stay fp32; bf16_weights: weights too, for models that do not fit otherwise.
    fp16 is not offered because the activations of T5 exceed its range and become NaN."""
    max_length: Annotated[int, Field(ge=8)]
    """Tokens per sequence at most; the task says which text is truncated. Answers never are."""
    max_choices: Annotated[int, Field(ge=2)]
    """Choices per ReCoRD passage, the answer included; the wrong ones are drawn by the cell's seed."""
    max_rows: Count | None
    """Rows per arm at most (mixed: per source), drawn by the cell's seed; null: all."""
    equal_size: bool
    """true: all arms of a task get as many rows as its smallest arm, with the same share of each label (of MultiRC whole questions)."""
    mixed_original: Count | Annotated[str, Field(pattern=r"^[1-9][0-9]*%$")]
    """Arm mixed: original rows added to all synthetic rows, as a number or in percent of the synthetic rows."""
    setting: Literal["single", "multi"]
    """single: one model per task; multi: one model on a mixture of all tasks, scored per task."""
    mixture: Literal["proportional", "temperature", "equal"]
    """How often a task is drawn. proportional: by its size; temperature: by size^(1/mixture_temperature); equal."""
    mixture_temperature: Annotated[float, Field(ge=1)]
    """Temperature of mixture=temperature, above 1."""
    mixture_cap: Count | None
    """Rows per task in the mixture at most; null: all."""
    instruct: bool
    """true: inputs have a definition, positive examples and the question, as in Super-NaturalInstructions; not for
    encoders."""
    instruct_examples: CountOrZero
    """Positive examples per prompt: other training rows of the same task."""
    init_from: PathText | None
    """Start from a trained cell: its name in this run, or the folder <run.dir>/models/<cell> of another."""
    freeze: bool
    """true: only a linear layer is trained, on kept embeddings of the texts by the model as it is: seconds without a GPU; for
    encoders."""
    loss: LossName
    """ce: cross-entropy; imp, dimp: a checker trained on original rows weights synthetic ones (arXiv 2410.21526)."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    """Share of an example's target that is spread over its choices, or over the vocabulary if the model answers in
    words."""
    checker_rows: Count
    """Original rows per task that the checker of imp, dimp and select_rows is taught, with the split's share of each label."""
    checker_model: str | None
    """Model of the checker, a name in conf/model/; null: the model of the cell."""
    select_rows: Literal["checker", "pvi"] | None
    """Keeps the best synthetic rows. checker: by the probability of their labels to a small student of checker_rows original
    rows; pvi: by how much their texts tell a student of the other rows (arXiv 2110.08420); null: all."""
    select_share: Annotated[float, Field(gt=0, le=1)]
    """Share of a task's synthetic rows that select_rows keeps, whatever their labels."""
    select_student: Literal["encoder", "bag_of_words"]
    """Student of select_rows: encoder, logistic regression on the embeddings of the packaged MiniLM; bag_of_words."""
    lora: Lora | None
    """Adapters instead of all weights: train.lora.r=16, or train.lora=default."""
    quantize: Literal["4bit"] | None
    """4bit: QLoRA, frozen weights in 4 bits; needs CUDA and bitsandbytes."""
    merge_export: bool
    """true: also write the model with its adapters merged to models/<cell>/merged."""
    gradient_checkpointing: bool
    """true: less memory, about a third more time."""
    attention: Literal["sdpa", "eager", "flash_attention_2"] | None
    """sdpa, eager, or flash_attention_2 (needs CUDA and flash-attn); null: the model's default."""
    compile: bool
    """true: torch.compile, which takes minutes at the start and at new lengths; for long trainings on a GPU."""
    group_by_length: bool
    """true: batch examples of similar length, drawn again each epoch, for less padding."""
    save_every: Annotated[str, Field(pattern=r"^[1-9]\d*m$")] | Count | None
    """Checkpoint interval, in minutes (15m) or steps (200); null: only when the run is told to stop."""
    select: Literal["last", "best"]
    """Weights that are kept: last, or best by validation (accuracy, then log-loss)."""
    validate_every: Count | None
    """Steps between validations; null: no validation, and all rows are trained on."""
    validate_on: Literal["held_out", "evaluation"]
    """held_out: training rows that are held out; evaluation: the rows that are reported, only to watch the curve."""
    hold_out: Annotated[float, Field(gt=0, lt=1)]
    """Fraction of the training rows that is held out if train.validate_every is set."""
    launch: PathText | None
    """How training is launched: a file of conf/accelerate/ (ddp, fsdp, ...) or a path; null: one process."""

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
