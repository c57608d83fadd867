"""The settings of finetuning: the model, how it is trained, and what fits together.

Whatever does not is told before anything is asked, paid for or trained.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, field_validator
from pydantic.dataclasses import dataclass as checked_dataclass

from targen.runtime.errors import did_you_mean
from targen.runtime.paths import CONF
from targen.tasks.task import STRICT, Count

if TYPE_CHECKING:
    from targen.config.settings import Settings

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


def needs_original(settings: "Settings") -> bool:
    """Whether training reads the original train split."""
    return settings.train.loss != "ce" or bool({"original", "mixed"} & set(settings.arms))


def shows_original(settings: "Settings") -> bool:
    """Whether models that are not finetuned are shown rows of the original train split."""
    instructed = settings.train.instruct and settings.train.instruct_examples > 0
    return "none" in settings.arms and (settings.eval.shots > 0 or instructed)


def contradictions(settings: "Settings") -> list[str]:
    """Settings of finetuning and of predictions that are fine alone and wrong together, a line each."""
    train = settings.train
    return [
        *_of_data(settings),
        *_of_instruction_data(settings),
        *_of_model(settings),
        *_of_losses(settings),
        *_of_the_course(train),
        *_of_predictions(settings),
    ]


def _of_predictions(settings: "Settings") -> list[str]:
    found = []
    asked, model = settings.eval, settings.model
    if asked.scoring != "rank" and model.family == "encoder":
        found.append(
            f"eval.scoring: got {asked.scoring} with the encoder {model.name}, which has a head over the labels and writes no "
            "words. Leave it out."
        )
    if asked.shots and "none" not in settings.arms:
        found.append(
            f"eval.shots: got {asked.shots} without the arm none; finetuned models are shown no solved examples. Add none to "
            "arms, or leave it out."
        )
    if asked.shots and settings.train.instruct:
        found.append(
            f"eval.shots: got {asked.shots} with train.instruct=true, whose layout shows train.instruct_examples examples. "
            "Leave one of them out."
        )
    if settings.data.source == "fixture" and shows_original(settings):
        key = "eval.shots" if asked.shots else "train.instruct_examples"
        count = asked.shots or settings.train.instruct_examples
        found.append(
            f"{key}: got {count} for the arm none with data.source=fixture, which has no train split to show rows of. "
            f"Set {key}=0, or data.source=local data.dir=..."
        )
    return found


def _of_data(settings: "Settings") -> list[str]:
    found = []
    train, arms, fixture = settings.train, settings.arms, settings.data.source == "fixture"
    real = [arm for arm in arms if arm in ("original", "mixed")]
    if fixture and real:
        found.append(
            f"arms: got {' and '.join(real)} with data.source=fixture, which has no train split. Set 'arms=[synthetic]'."
        )
    if fixture and train.loss != "ce":
        found.append(
            f"train.loss: got {train.loss} with data.source=fixture, which has no train split for its checker."
        )
    if train.equal_size and len({*arms} - {"none"}) == 1:
        found.append(
            f"train.equal_size: got true with the arms {arms}, expected at least two that are trained. Name them in arms."
        )
    if train.setting == "multi" and len(settings.tasks) == 1:
        found.append(
            f"train.setting: got multi with the one task {next(iter(settings.tasks))}, expected at least two. Add tasks, "
            "or set train.setting=single."
        )
    if train.mixture == "temperature" and train.mixture_temperature == 1:
        found.append(
            "train.mixture_temperature: got 1 with train.mixture=temperature, which is proportional. Take more than 1."
        )
    return found


def is_file(source: str) -> bool:
    """Whether instruction data are meant to lie in a file; else it is a name on the Hub."""
    return source.endswith((".jsonl", ".json")) or Path(source).is_file()


def _of_instruction_data(settings: "Settings") -> list[str]:
    if "self_instruct" not in settings.arms:
        return []
    train, source = settings.train, settings.data.self_instruct
    with_it = "with the arm self_instruct"
    found = []
    if source is None:
        found.append(
            f"data.self_instruct: got null {with_it}, expected a file or a data set on the Hub. Set data.self_instruct=..."
        )
    if train.setting == "single":
        found.append(f"train.setting: got single {with_it}, whose rows belong to no task. Set train.setting=multi.")
    if settings.model.family == "encoder":
        found.append(
            f"arms: got self_instruct with the encoder {settings.model.name}, which answers in no words. Leave it out."
        )
    if train.instruct:
        found.append(
            f"train.instruct: got true {with_it}, whose rows are instructions already and have no examples to show. Set "
            "train.instruct=false."
        )
    if train.validate_every is not None:
        found.append(
            f"train.validate_every: got {train.validate_every} {with_it}, whose rows have one answer each, which says nothing. "
            "Set train.validate_every=null."
        )
    if train.loss != "ce":
        found.append(f"train.loss: got {train.loss} {with_it}, whose rows no checker knows. Set train.loss=ce.")
    return found


def _of_model(settings: "Settings") -> list[str]:
    found = []
    train, model = settings.train, settings.model
    if (model.path is None) == (model.config is None):
        both = "neither" if model.path is None else "both"
        found.append(f"model.path: got {both} of model.path and model.config, expected one. Name a folder or a Hub id.")
    if model.config is not None and model.tokenizer is None:
        found.append("model.tokenizer: got null, expected one with model.config. Name a folder, a Hub id or `bytes`.")
    if "none" in settings.arms and model.family == "encoder":
        found.append(
            f"arms: got none with the encoder {model.name}, whose head is untrained and answers at random. Leave none out."
        )
    if train.instruct and model.family == "encoder":
        found.append(
            f"train.instruct: got true with the encoder {model.name}, which reads no instructions. Set train.instruct=false."
        )
    if train.quantize and train.lora is None:
        found.append("train.quantize: got 4bit without train.lora; quantised weights are frozen. Set train.lora.r=16.")
    if train.merge_export and train.lora is None:
        found.append("train.merge_export: got true without train.lora, so there is nothing to merge. Leave it out.")
    return found


def _of_losses(settings: "Settings") -> list[str]:
    found = []
    train = settings.train
    if train.loss != "ce" and "original" in settings.arms:
        found.append(
            f"train.loss: got {train.loss} with the arm original, whose rows need no weights. Set 'arms=[synthetic]'."
        )
    if train.checker_model is not None:
        known = sorted(path.stem for path in (CONF / "model").glob("*.yaml"))
        if train.loss == "ce":
            found.append("train.checker_model: got a model with train.loss=ce, which has no checker. Leave it out.")
        elif train.checker_model not in known:
            found.append(
                f"train.checker_model: got {train.checker_model!r}, expected a file of conf/model/. "
                f"{did_you_mean(train.checker_model, known)}"
            )
    return found


def _of_the_course(train: Train) -> list[str]:
    found = []
    if train.select == "best" and train.validate_every is None:
        found.append("train.select: got best, expected train.validate_every with it. Set train.validate_every=STEPS.")
    if train.select == "best" and train.validate_on == "evaluation":
        found.append(
            "train.validate_on: got evaluation with train.select=best, which would choose the weights on the rows that "
            "are reported. Set train.validate_on=held_out."
        )
    if train.launch is not None and not launch_file(train.launch).is_file():
        known = sorted(path.stem for path in (CONF / "accelerate").glob("*.yaml"))
        found.append(
            f"train.launch: got {train.launch!r}, expected a file of conf/accelerate/ or a path that ends in .yaml. "
            f"{did_you_mean(train.launch, known)}"
        )
    return found


def launch_file(name: str) -> Path:
    """The accelerate configuration of a name: a file of conf/accelerate/, or the path itself."""
    return Path(name) if name.endswith(".yaml") else CONF / "accelerate" / f"{name}.yaml"
