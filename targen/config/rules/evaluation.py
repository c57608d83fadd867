"""Settings of evaluation that are fine alone and wrong together."""

from targen.config.openllm import suite_from_file
from targen.config.settings import Settings
from targen.runtime.errors import did_you_mean


def contradictions(settings: Settings) -> list[str]:
    """Settings of the OpenLLM tasks that are fine alone and wrong together, a line each."""
    found, own, model = [], settings.eval.openllm, settings.model
    if own.suite is None:
        if not settings.eval.superglue:
            found.append(
                "eval.superglue: got false without eval.openllm.suite, so nothing would be scored. Name a suite, or leave it out."
            )
        return found
    if model.family == "encoder":
        found.append(
            f"eval.openllm.suite: got {own.suite} with the encoder {model.name}, which cannot continue a text. Take another "
            "model, or set eval.openllm.suite=null."
        )
    if own.backend == "vllm" and model.family != "decoder":
        found.append(
            f"eval.openllm.backend: got vllm with {model.name} ({model.family}), expected a decoder. Set eval.openllm.backend=hf."
        )
    if own.backend == "vllm" and settings.train.quantize is not None:
        found.append(
            "eval.openllm.backend: got vllm with train.quantize, whose weights vLLM does not read. Set eval.openllm.backend=hf."
        )
    known = list(suite_from_file(own.suite).tasks)
    for name in own.tasks or []:
        if name not in known:
            found.append(
                f"eval.openllm.tasks: got {name!r}, expected tasks of {own.suite}. {did_you_mean(name, known)}"
            )
    return found
