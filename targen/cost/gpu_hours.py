"""GPU-hours of a phase, a line each; a plan of several phases ends with these lines."""

import re
from typing import TYPE_CHECKING

from targen.config.groups.gpus import GPUS
from targen.config.settings import Settings

if TYPE_CHECKING:
    from targen.cost.plan import Planned

PREFIX = "GPU-hours, "
DECODING = 0.05  # share of the bf16 peak that a generating engine reaches; memory bounds it. Assumed, not measured
IN_PROCESS = ("vllm", "transformers")  # backends that take GPUs of the run


def hours_line(phase: str, hours: float, at_most: bool, rests_on: str) -> str:
    """One line of a plan."""
    return f"{PREFIX}{phase}: {'at most ' * at_most}{_rounded(hours)} ({rests_on})"


def total_line(lines: list[str]) -> str:
    """The sum over the phases that are known."""
    found = [re.match(rf"{PREFIX}\w+: (?:at most )?([\d,.]+) ", line) for line in lines]
    return f"{PREFIX}in all: {_rounded(sum(float(match[1].replace(',', '')) for match in found if match))}"


def _rounded(hours: float) -> str:
    return f"{hours:,.1f}" if hours >= 10 else f"{hours:.3f}"


def generation_hours(settings: Settings, planned: "Planned") -> list[str]:
    """The line of the generate phase; none unless price.gpu names a GPU."""
    if settings.price.gpu is None:
        return []
    gpu, price, generator = GPUS[settings.price.gpu], settings.price, settings.generator
    if generator.backend not in IN_PROCESS:
        return [hours_line("generate", 0.0, False, f"generator={generator.backend} takes no GPU of this run")]
    gpus = generator.gpus
    if price.tokens_per_second:
        hours = gpus * planned.completion_tokens / price.tokens_per_second / 3600
        rests_on = f"price.tokens_per_second={price.tokens_per_second:g} on {gpus} GPU{'s' * (gpus > 1)}"
        return [hours_line("generate", hours, False, rests_on)]
    size = re.search(r"(\d+(?:\.\d+)?)b\b", generator.model.lower())
    if size is None:
        return [
            f"{PREFIX}generate: unknown, since {generator.model} does not say its size. Set price.tokens_per_second."
        ]
    tokens = planned.prompt_tokens + planned.completion_tokens
    hours = 2 * float(size[1]) * 1e9 * tokens / (DECODING * gpu.flops) / 3600
    rests_on = f"2 operations for each of {size[1]}B parameters and {tokens:,} tokens; {DECODING:.0%} of {gpu.flops / 1e12:.0f} "
    return [
        hours_line("generate", hours, False, f"{rests_on}TFLOP/s, assumed, not measured: set price.tokens_per_second")
    ]
