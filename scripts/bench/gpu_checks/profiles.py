"""What a profile says of a step."""

from collections.abc import Sequence
from typing import Any

from torch.autograd import DeviceType

Json = dict[str, Any]


def summary(recorded: Sequence[Any], cpu: bool, steps: int) -> Json:
    """Kernels a step, the share of the time in which one runs, the largest, those of attention.

    `recorded`: the events of a profiler. Regions that a program names (record_function, ProfilerStep, Optimizer.step) have
    events on the device as well, from their first kernel to their last: they are no work and would fill every gap.
    """
    device = DeviceType.CPU if cpu else DeviceType.CUDA
    events = [event for event in recorded if event.device_type == device and not event.is_user_annotation]
    spent: dict[str, float] = {}
    for event in events:
        duration = event.self_cpu_time_total if cpu else event.time_range.end - event.time_range.start
        spent[event.name] = spent.get(event.name, 0.0) + duration
    busy = ends = 0.0
    for event in sorted(events, key=lambda event: event.time_range.start):  # kernels of several streams may overlap
        busy += max(0.0, event.time_range.end - max(event.time_range.start, ends))
        ends = max(ends, event.time_range.end)
    span = ends - min(event.time_range.start for event in events)
    total = sum(spent.values())
    largest = sorted(spent.items(), key=lambda pair: -pair[1])
    attention = [
        name for name, _ in largest if any(word in name.lower() for word in ("flash", "fmha", "attention", "softmax"))
    ]
    return {
        "kernels_a_step" if not cpu else "operators_a_step": len(events) // steps,
        "busy_share": None if cpu else round(busy / span, 4),
        "largest": [[name[:90], round(value / total, 4)] for name, value in largest[:12]],
        "attention": [name[:90] for name in attention[:4]],
    }
