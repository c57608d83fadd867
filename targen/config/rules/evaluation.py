"""Rules for the settings of evaluation."""

from targen.config.openllm import suite_from_file
from targen.config.original_data import shows_original, source_words, without_original
from targen.config.rules.rule import Rule
from targen.config.settings import Settings
from targen.runtime.errors import did_you_mean


def _example_key(settings: Settings) -> str:
    """The key that asks for solved examples from the original train split."""
    return "eval.shots" if settings.eval.shots else "train.instruct_examples"


def _example_count(settings: Settings) -> int:
    return settings.eval.shots or settings.train.instruct_examples


def _suite_tasks(settings: Settings) -> list[str]:
    suite = settings.eval.openllm.suite
    return [] if suite is None else list(suite_from_file(suite).tasks)


def _unknown_suite_tasks(settings: Settings) -> list[str]:
    return [name for name in settings.eval.openllm.tasks or [] if name not in _suite_tasks(settings)]


PREDICTIONS = (
    Rule(
        "eval.scoring",
        lambda s: s.eval.scoring != "rank" and s.model.has_head,
        got="{eval.scoring} with the encoder {model.name}, which has a head over the labels and writes no text",
        what_to_do="Leave it out.",
    ),
    Rule(
        "eval.shots",
        lambda s: s.eval.shots > 0 and "none" not in s.arms,
        got="{eval.shots} without the arm none; finetuned models are shown no solved examples",
        what_to_do="Add none to arms, or leave it out.",
    ),
    Rule(
        "eval.shots",
        lambda s: s.eval.shots > 0 and s.train.instruct,
        got="{eval.shots} with train.instruct=true, whose layout shows train.instruct_examples examples",
        what_to_do="Leave one of them out.",
    ),
    Rule(
        _example_key,
        lambda s: without_original(s) and shows_original(s),
        got=lambda s: (
            f"{_example_count(s)} for the arm none with {source_words(s)}, which has no train split to show rows of"
        ),
        what_to_do=lambda s: f"Set {_example_key(s)}=0, or data.source=local data.dir=...",
    ),
)

OPENLLM = (
    Rule(
        "eval.superglue",
        lambda s: s.eval.openllm.suite is None and not s.eval.superglue,
        got="false without eval.openllm.suite, so nothing would be scored",
        what_to_do="Name a suite, or leave it out.",
    ),
    Rule(
        "eval.openllm.suite",
        lambda s: s.eval.openllm.suite is not None and s.model.has_head,
        got="{eval.openllm.suite} with the encoder {model.name}, which cannot continue a text",
        what_to_do="Choose another model, or set eval.openllm.suite=null.",
    ),
    Rule(
        "eval.openllm.backend",
        lambda s: s.eval.openllm.suite is not None and s.eval.openllm.backend == "vllm" and s.model.family != "decoder",
        got="vllm with {model.name} ({model.family})",
        expected="a decoder",
        what_to_do="Set eval.openllm.backend=hf.",
    ),
    Rule(
        "eval.openllm.backend",
        lambda s: (
            s.eval.openllm.suite is not None and s.eval.openllm.backend == "vllm" and s.train.quantize is not None
        ),
        got="vllm with train.quantize, whose weights vLLM cannot read",
        what_to_do="Set eval.openllm.backend=hf.",
    ),
    Rule(
        "eval.openllm.tasks",
        lambda s: s.eval.openllm.suite is not None and bool(_unknown_suite_tasks(s)),
        got=lambda s: ", ".join(map(repr, _unknown_suite_tasks(s))),
        expected="tasks of {eval.openllm.suite}",
        what_to_do=lambda s: " ".join(did_you_mean(name, _suite_tasks(s)) for name in _unknown_suite_tasks(s)),
    ),
)
