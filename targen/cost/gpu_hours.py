"""GPU-hours of a phase, a line each; a plan of several phases ends with these lines."""

import re
from typing import TYPE_CHECKING

from targen.config.groups.gpus import GPUS
from targen.config.settings import Settings

if TYPE_CHECKING:
    from targen.cost.plan import PlannedStep

PREFIX = "GPU-hours, "
UNKNOWN = "unknown"
DECODING = 0.05  # share of the bf16 peak that a generating engine reaches; memory bounds it. Assumed, not measured
IN_PROCESS = ("vllm", "transformers")  # backends that take GPUs of the run


def hours_line(phase: str, hours: float, basis: str, *, at_most: bool = False, at_least: bool = False) -> str:
    """One line of a plan. `at_most`: something is counted as large as it may be; `at_least`: something is left out."""
    return f"{PREFIX}{phase}: {_bound(at_most, at_least)}{_rounded(hours)} ({basis})"


def unknown_line(phase: str, why: str) -> str:
    """The line of a phase of which nothing is known."""
    return f"{PREFIX}{phase}: {UNKNOWN} ({why})"


def total_line(lines: list[str]) -> str:
    """The sum over the phases whose hours are known, and the names of the others."""
    pattern = re.compile(rf"{PREFIX}(\w+): (at most |at least |about )?([\d,.]+|{UNKNOWN})")
    matches = [match for line in lines if (match := pattern.match(line))]
    left_out = [match[1] for match in matches if match[3] == UNKNOWN]
    counted = [match for match in matches if match[3] != UNKNOWN]
    if not counted:
        return f"{PREFIX}in all: {UNKNOWN}"
    bounds = {match[2] for match in counted}
    at_most, at_least = not bounds.isdisjoint(("at most ", "about ")), not bounds.isdisjoint(("at least ", "about "))
    hours = _rounded(sum(float(match[3].replace(",", "")) for match in counted))
    without = f", without {' and '.join(left_out)}" if left_out else ""
    return f"{PREFIX}in all: {_bound(at_most, at_least or bool(left_out))}{hours}{without}"


def _bound(at_most: bool, at_least: bool) -> str:
    return "about " if at_most and at_least else "at most " * at_most + "at least " * at_least


def _rounded(hours: float) -> str:
    return f"{hours:,.1f}" if hours >= 10 else f"{hours:.3f}"


def generation_hours(settings: Settings, planned: "PlannedStep") -> list[str]:
    """The line of the generate phase; none unless price.gpu names a GPU."""
    if settings.price.gpu is None:
        return []
    gpu, price, generator = GPUS[settings.price.gpu], settings.price, settings.generator
    if generator.backend not in IN_PROCESS:
        return [hours_line("generate", 0.0, f"generator={generator.backend} takes no GPU of this run")]
    gpus = generator.gpus
    if price.tokens_per_second:
        hours = gpus * planned.completion_tokens / price.tokens_per_second / 3600
        basis = f"price.tokens_per_second={price.tokens_per_second:g} on {gpus} GPU{'s' * (gpus > 1)}"
        return [hours_line("generate", hours, basis)]
    size = re.search(r"(\d+(?:\.\d+)?)b\b", generator.model.lower())
    if size is None:
        return [unknown_line("generate", f"{generator.model} does not say its size: set price.tokens_per_second")]
    tokens = planned.prompt_tokens + planned.completion_tokens
    hours = 2 * float(size[1]) * 1e9 * tokens / (DECODING * gpu.flops) / 3600
    basis = f"2 operations for each of {size[1]}B parameters and {tokens:,} tokens; {DECODING:.0%} of {gpu.flops / 1e12:.0f} "
    return [hours_line("generate", hours, f"{basis}TFLOP/s, assumed, not measured: set price.tokens_per_second")]
