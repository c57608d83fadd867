"""An analysis as plain values and as Markdown."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from eval.analysis.intervals import LEVEL
from eval.analysis.results import SIDES, Found, Interval, Measure
from eval.analysis.sets import Pair, digest, label_name
from targen.runtime.jsonl import Json

NOTHING = "--"
VERSION = 2  # of the form of <run.dir>/analysis/<task>.json


def values(pair: Pair, found: Found, human: Json | None) -> Json:
    """All that was found of a task, without a number that JSON has not."""
    sets = {
        side: {
            "name": own.name,
            "origin": own.origin,
            "rows": len(own.rows),
            "digest": digest(own.rows),
            "labels": _labels(pair, side),
        }
        for side, own in pair.sets.items()
    }
    plain = {
        "version": VERSION,
        "task": pair.task.name,
        "title": pair.task.folder,
        "sets": sets,
        "size": pair.size,
        "seed": pair.seed,
        "level": LEVEL,
        "measures": [asdict(one) for one in found.measures],
        "details": found.details | ({"human": human} if human is not None else {}),
        "missing": [asdict(one) for one in found.missing],
    }
    cleaned: Json = _without_nan(plain)
    return cleaned


def _labels(pair: Pair, side: str) -> dict[str, int]:
    """Rows per label, of a task with labels."""
    counts = {label.name: 0 for label in pair.task.labels}
    for row in pair.sets[side].rows:
        if (name := label_name(pair.task, row)) in counts:
            counts[name or ""] += 1
    return counts


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _without_nan(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(one) for one in value]
    return value


def markdown(pair: Pair, found: Found, human: Json | None) -> str:
    """The numbers of a task. Nothing in it was written by a model."""
    sets = pair.sets
    heads = [f"{name}: {escaped(own.name)}" if (own := sets.get(name)) else f"{name}: {NOTHING}" for name in SIDES]
    lines = [
        f"## {pair.task.folder}",
        "",
        *(f"- {side} is {escaped(own.origin)}, {len(own.rows)} rows" for side, own in sets.items()),
        f"- {pair.size} rows of each are looked at; intervals of {LEVEL:.0%}",
        "",
    ]
    if found.measures:
        lines += [f"| measure | {heads[0]} | {heads[1]} | b - a | on |", "| --- | ---: | ---: | ---: | ---: |"]
        lines += [_line(one) for one in found.measures]
        lines.append("")
    if human is not None:
        share = Interval(human["value"], human["low"], human["high"])
        lines += [f"People agree with {human['agree']} of {human['judged']} labels: {shown(share)}.", ""]
    lines += [f"- missing: {one.part}: {escaped(one.why)}" for one in found.missing]
    return "\n".join(lines).rstrip() + "\n"


def _line(one: Measure) -> str:
    title = (
        escaped(one.title) + (f" ({one.unit})" if one.unit != "share" else "") + (" [authors']" if one.theirs else "")
    )
    sizes = "/".join(str(size) for size in dict.fromkeys(one.size.values()))
    return f"| {title} | {shown(one.a)} | {shown(one.b)} | {shown(one.difference, sign=True)} | {sizes} |"


def shown(one: Interval | None, sign: bool = False) -> str:
    """A number and its bounds, with as many digits as make sense."""
    if one is None:
        return NOTHING
    digits = 3 if max(abs(one.value), abs(one.low or 0.0), abs(one.high or 0.0)) < 10 else 1
    plus = "+" if sign else ""
    value = f"{one.value:{plus}.{digits}f}"
    return value if one.low is None or one.high is None else f"{value} [{one.low:.{digits}f}, {one.high:.{digits}f}]"


def escaped(text: str) -> str:
    """Text that no Markdown reader takes for markup."""
    plain = " ".join(text.split())
    for sign in "\\`*_{}[]<>|#":
        plain = plain.replace(sign, f"\\{sign}")
    return plain


def document(parts: Sequence[str], title: str) -> str:
    return f"# {escaped(title)}\n\n" + "\n".join(parts)
