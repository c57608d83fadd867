"""Rules for the settings of finetuning."""

from functools import cache

import yaml

from targen.config.arms import ARMS
from targen.config.groups.training import launch_file
from targen.config.original_data import source_words, without_original
from targen.config.rules.rule import Rule
from targen.config.settings import Settings
from targen.runtime.errors import did_you_mean
from targen.runtime.paths import CONF, group_choices, visible_paths
from targen.tasks.single_labels import why_not_single


@cache
def _families() -> list[str]:
    """The families of the models in conf/model/."""
    files = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in visible_paths(CONF / "model", "*.yaml")]
    return sorted({values["family"] for values in files if "family" in values})


def _original_arms(settings: Settings) -> list[str]:
    """Arms that train on rows of the original train split."""
    return [name for name in settings.arms if ARMS[name].uses_original]


def _tasks_not_single(settings: Settings) -> list[str]:
    """Tasks whose rows cannot be scored one by one, each with the reason."""
    reasons = ((name, why_not_single(task)) for name, task in settings.tasks.items())
    return [f"{name}, {why}" for name, why in reasons if why is not None]


def _has_instruction_data(settings: Settings) -> bool:
    return "self_instruct" in settings.arms


TRAINING_DATA = (
    Rule(
        "arms",
        lambda s: without_original(s) and bool(_original_arms(s)),
        got=lambda s: f"{' and '.join(_original_arms(s))} with {source_words(s)}, which has no train split",
        what_to_do="Set 'arms=[synthetic]'.",
    ),
    Rule(
        "train.loss",
        lambda s: without_original(s) and "original" in s.train.checkers,
        got=lambda s: f"{s.train.loss} with {source_words(s)}, which has no train split for its checker",
        what_to_do="Set train.loss=ce.",
    ),
    Rule(
        "train.equal_size",
        lambda s: s.train.equal_size and sum(ARMS[name].trained for name in set(s.arms)) == 1,
        got="true with the arms {arms}",
        expected="at least two that are trained",
        what_to_do="Name them in arms.",
    ),
    Rule(
        "train.setting",
        lambda s: s.train.setting == "multi" and len(s.tasks) == 1,
        got=lambda s: f"multi with one task, {next(iter(s.tasks))}",
        expected="at least two tasks",
        what_to_do="Add tasks, or set train.setting=single.",
    ),
    Rule(
        "train.mixture_temperature",
        lambda s: s.train.mixture == "temperature" and s.train.mixture_temperature == 1,
        got="1 with train.mixture=temperature, which is train.mixture=proportional",
        expected="more than 1",
        what_to_do="Set a higher temperature, or train.mixture=proportional.",
    ),
)

INSTRUCTION_DATA = (
    Rule(
        "data.self_instruct",
        lambda s: _has_instruction_data(s) and s.data.self_instruct is None,
        got="null with the arm self_instruct",
        expected="a file or a data set on the Hub",
        what_to_do="Set data.self_instruct=...",
    ),
    Rule(
        "train.setting",
        lambda s: _has_instruction_data(s) and s.train.setting == "single",
        got="single with the arm self_instruct, whose rows belong to no task",
        what_to_do="Set train.setting=multi.",
    ),
    Rule(
        "arms",
        lambda s: _has_instruction_data(s) and s.model.has_head,
        got="self_instruct with the encoder {model.name}, which cannot answer in words",
        what_to_do="Leave it out.",
    ),
    Rule(
        "train.instruct",
        lambda s: _has_instruction_data(s) and s.train.instruct,
        got="true with the arm self_instruct, whose rows are instructions already and have no examples to show",
        what_to_do="Set train.instruct=false.",
    ),
    Rule(
        "train.validate_every",
        lambda s: _has_instruction_data(s) and s.train.validate_every is not None,
        got="{train.validate_every} with the arm self_instruct, whose rows have only one answer to choose from",
        what_to_do="Set train.validate_every=null.",
    ),
    Rule(
        "train.loss",
        lambda s: _has_instruction_data(s) and bool(s.train.checkers),
        got="{train.loss} with the arm self_instruct, whose rows no checker can judge",
        what_to_do="Set train.loss=ce.",
    ),
)

MODEL = (
    Rule(
        "model.family",
        lambda s: s.model.family not in _families(),
        got="{model.family!r}",
        expected="a family that a file of conf/model/ names",
        what_to_do=lambda s: did_you_mean(s.model.family, _families()),
    ),
    Rule(
        "model.path",
        lambda s: (s.model.path is None) == (s.model.config is None),
        got=lambda s: f"{'neither' if s.model.path is None else 'both'} of model.path and model.config",
        expected="one of them",
        what_to_do="Set model.path to a folder or a Hub id.",
    ),
    Rule(
        "model.tokenizer",
        lambda s: s.model.config is not None and s.model.tokenizer is None,
        got="null",
        expected="a tokenizer with model.config",
        what_to_do="Name a folder, a Hub id or `bytes`.",
    ),
    Rule(
        "arms",
        lambda s: "none" in s.arms and s.model.has_head,
        got="none with the encoder {model.name}, whose untrained head answers at random",
        what_to_do="Leave none out.",
    ),
    Rule(
        "train.instruct",
        lambda s: s.train.instruct and s.model.has_head,
        got="true with the encoder {model.name}, which reads no instructions",
        what_to_do="Set train.instruct=false.",
    ),
    Rule(
        "train.quantize",
        lambda s: s.train.quantize is not None and s.train.lora is None,
        got="4bit without train.lora, but quantised weights cannot be trained",
        what_to_do="Set train.lora.r=16.",
    ),
    Rule(
        "train.attention",
        lambda s: s.train.attention == "flash_attention_2" and s.train.precision == "fp32",
        got="flash_attention_2 with train.precision=fp32, but it computes with 16 bits",
        what_to_do="Set train.precision=bf16, or train.attention=sdpa.",
    ),
    Rule(
        "train.merge_export",
        lambda s: s.train.merge_export and s.train.lora is None,
        got="true without train.lora, so there is nothing to merge",
        what_to_do="Leave it out.",
    ),
)

FREEZE = (
    Rule(
        "train.freeze",
        lambda s: s.train.freeze and not s.model.has_head,
        got="true with {model.name} ({model.family}), which answers in words and has no head to train",
        expected="an encoder",
        what_to_do="Set model=minilm, or train.freeze=false.",
    ),
    Rule(
        "train.lora.r",
        lambda s: s.train.freeze and s.train.lora is not None,
        got="{train.lora.r} with train.freeze=true, which trains nothing inside the model",
        what_to_do="Leave train.lora out, or set train.freeze=false.",
    ),
    Rule(
        "train.loss",
        lambda s: s.train.freeze and bool(s.train.checkers),
        got="{train.loss} with train.freeze=true, whose weights would change while the layer is fitted",
        expected="ce",
        what_to_do="Set train.loss=ce.",
    ),
    Rule(
        "train.init_from",
        lambda s: s.train.freeze and s.train.init_from is not None,
        got="{train.init_from} with train.freeze=true, which starts from the model as it was pretrained",
        what_to_do="Leave it out.",
    ),
    Rule(
        "train.validate_every",
        lambda s: s.train.freeze and s.train.validate_every is not None,
        got="{train.validate_every} with train.freeze=true, whose layer has one best fit and no steps to choose from",
        what_to_do="Set train.validate_every=null.",
    ),
    Rule(
        "train.gradient_checkpointing",
        lambda s: s.train.freeze and s.train.gradient_checkpointing,
        got="true with train.freeze=true, which computes no gradients inside the model",
        what_to_do="Leave it out.",
    ),
    Rule(
        "train.launch",
        lambda s: s.train.freeze and s.train.launch is not None,
        got="{train.launch!r} with train.freeze=true, whose layer one process fits in seconds",
        what_to_do="Leave it out.",
    ),
)

LOSSES = (
    Rule(
        "train.loss",
        lambda s: bool(s.train.checkers) and "original" in s.arms,
        got="{train.loss} with the arm original, whose rows need no weights",
        what_to_do="Set 'arms=[synthetic]'.",
    ),
    Rule(
        "train.checker_model",
        lambda s: s.train.checker_model is not None and not s.train.checkers,
        got="{train.checker_model!r} with train.loss={train.loss}, which has no checker",
        what_to_do="Leave it out.",
    ),
    Rule(
        "train.checker_model",
        lambda s: bool(s.train.checkers) and s.train.checker_model not in (None, *group_choices("model")),
        got="{train.checker_model!r}",
        expected="a file of conf/model/",
        what_to_do=lambda s: did_you_mean(s.train.checker_model or "", group_choices("model")),
    ),
)

SELECTION = (
    Rule(
        "train.select_rows",
        lambda s: s.train.select_rows is not None and not any(ARMS[name].uses_synthetic for name in s.arms),
        got="{train.select_rows} with the arms {arms}",
        expected="one with synthetic rows",
        what_to_do="Leave it out.",
    ),
    Rule(
        "train.select_rows",
        lambda s: s.train.select_rows is not None and bool(_tasks_not_single(s)),
        got=lambda s: f"{s.train.select_rows} with {_tasks_not_single(s)[0]}",
        expected="tasks of single rows with a label each",
        what_to_do="Leave the task out.",
    ),
    Rule(
        "train.select_rows",
        lambda s: s.train.select_rows == "checker" and without_original(s),
        got=lambda s: f"checker with {source_words(s)}, which has no train split for the checker",
        what_to_do="Leave it out, or set train.select_rows=pvi.",
    ),
    Rule(
        "train.select_rows",
        lambda s: s.train.select_rows is not None and bool(s.train.checkers),
        got="{train.select_rows} with train.loss={train.loss}, which weights all rows",
        expected="one of them",
        what_to_do="Set train.loss=ce, or leave it out.",
    ),
)

TRAINING_RUN = (
    Rule(
        "train.select",
        lambda s: s.train.select == "best" and s.train.validate_every is None,
        got="best without train.validate_every",
        what_to_do="Set train.validate_every=STEPS.",
    ),
    Rule(
        "train.validate_on",
        lambda s: s.train.select == "best" and s.train.validate_on == "evaluation",
        got="evaluation with train.select=best, which would choose the weights on the rows that are reported",
        what_to_do="Set train.validate_on=held_out.",
    ),
    Rule(
        "train.launch",
        lambda s: s.train.launch is not None and not launch_file(s.train.launch).is_file(),
        got="{train.launch!r}",
        expected="a file of conf/accelerate/ or a path that ends in .yaml",
        what_to_do=lambda s: did_you_mean(s.train.launch or "", group_choices("accelerate")),
    ),
)
