"""An analysis as plain values and as Markdown."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from eval.analysis.intervals import LEVEL
from eval.analysis.results import SHARE, SIDES, AnalysisResult, Interval, Measure
from eval.analysis.sets import SetPair, label_name, rows_digest
from targen.runtime.jsonl import Json
from targen.text.markdown import markdown_table

ABSENT = "--"
SHOWN_CUES = 6  # per label
VERSION = 2  # of the format of <run.dir>/analysis/<task>.json


def values(pair: SetPair, result: AnalysisResult, human: Json | None) -> Json:
    """The results of a task as in analysis/<task>.json; numbers that are not finite become null."""
    sets = {
        side: {
            "name": data_set.name,
            "origin": data_set.origin,
            "rows": len(data_set.rows),
            "digest": rows_digest(data_set.rows),
            "labels": _labels(pair, side),
        }
        for side, data_set in pair.sets.items()
    }
    plain = {
        "version": VERSION,
        "task": pair.task.name,
        "title": pair.task.folder,
        "sets": sets,
        "size": pair.size,
        "seed": pair.seed,
        "level": LEVEL,
        "measures": [asdict(measure) for measure in result.measures],
        "details": result.details | ({"human": human} if human is not None else {}),
        "missing": [asdict(missing) for missing in result.missing],
    }
    finite: Json = _finite(plain)
    return finite


def _labels(pair: SetPair, side: str) -> dict[str, int]:
    """Rows per label; empty if the task has no labels."""
    counts = {label.name: 0 for label in pair.task.labels}
    for row in pair.sets[side].rows:
        if (name := label_name(pair.task, row)) in counts:
            counts[name or ""] += 1
    return counts


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def markdown(pair: SetPair, result: AnalysisResult, human: Json | None) -> str:
    """The section of a task in summary.md. Of what models wrote it has single words only."""
    sets = pair.sets
    names = [f"{side}: {escaped(sets[side].name) if side in sets else ABSENT}" for side in SIDES]
    origins = [f"- {side} is {escaped(data_set.origin)}, {len(data_set.rows)} rows" for side, data_set in sets.items()]
    blocks = [
        f"## {pair.task.folder}",
        "\n".join([*origins, f"- {pair.size} rows of each are analysed; {LEVEL:.0%} intervals"]),
    ]
    if result.measures:
        header = ["measure", *names, "b - a", "n"]
        blocks.append(markdown_table(header, map(_cells, result.measures), numeric=range(1, len(header))))
    blocks += _fidelity(result.details.get("fidelity", {}))
    if human is not None:
        share = Interval(human["value"], human["low"], human["high"])
        blocks.append(f"People agree with {human['agree']} of {human['judged']} labels: {number_text(share, SHARE)} %.")
    if result.missing:
        blocks.append("\n".join(f"- missing: {missing.part}: {escaped(missing.why)}" for missing in result.missing))
    return "\n\n".join(blocks) + "\n"


def _fidelity(details: Json) -> list[str]:
    """The cues with the largest differences between both sets, and the words that tell them apart."""
    blocks = []
    for side, scores in details.get("baselines", {}).items():
        scores_text = ", ".join(f"{name.replace('_', ' ')} {score:.1%}" for name, score in scores.items())
        blocks.append(f"Without a model, in {side}: {scores_text}.")
    cues = details.get("cues", {"structures": {}, "words": {}})
    for label, structures in cues["structures"].items():
        header = [f"rows of {escaped(label)}" if label != "all" else "all rows", "a", "b", "z of b - a"]
        lines = [
            (escaped(cue["cue"]), cue_text(cue["a"], cue["unit"]), cue_text(cue["b"], cue["unit"]), f"{cue['z']:+.1f}")
            for cue in structures[:SHOWN_CUES]
        ]
        blocks.append(markdown_table(header, lines, numeric=range(1, len(header))))
    for label, words in cues["words"].items():
        word_texts = "; ".join(
            f"{escaped(word['word'])} {word['a']['share']:.0%} / {word['b']['share']:.0%} ({word['z']:+.1f})"
            for word in words[:SHOWN_CUES]
        )
        if word_texts:
            blocks.append(f"Words that go differently with {escaped(label)}, in a / in b (z): {word_texts}.")
    for side, terms in details.get("tells_apart", {}).items():
        term_texts = "; ".join(f"{escaped(term['term'])} {term['a']}/{term['b']}" for term in terms[: 2 * SHOWN_CUES])
        blocks.append(f"Gives away {side}, rows of a/b that have it: {term_texts}.")
    return blocks


def cue_text(values: Json, unit: str) -> str:
    """The share of rows with a structure, or mean and standard deviation of a number of words."""
    return f"{values['mean']:.0%}" if unit == SHARE else f"{values['mean']:.1f} ± {values['sd']:.1f}"


def _cells(measure: Measure) -> tuple[str, ...]:
    title = f"{escaped(measure.title)} ({unit_text(measure.unit)})" + (" [authors']" if measure.theirs else "")
    sizes = "/".join(str(size) for size in dict.fromkeys(measure.size.values()))
    a, b = number_text(measure.a, measure.unit), number_text(measure.b, measure.unit)
    return title, a, b, number_text(measure.difference, measure.unit, sign=True), sizes


def number_text(interval: Interval | None, unit: str, sign: bool = False) -> str:
    """A number and its bounds: shares in percent, other numbers to three decimals, or to one if they are 10 or more."""
    if interval is None:
        return ABSENT
    factor = 100 if unit == SHARE else 1
    value, *bounds = (factor * number for number in (interval.value, interval.low, interval.high) if number is not None)
    digits = 1 if unit == SHARE or max(map(abs, (value, *bounds))) >= 10 else 3
    text = f"{value:{'+' if sign else ''}.{digits}f}"
    return text if len(bounds) < 2 else f"{text} [{bounds[0]:.{digits}f}, {bounds[1]:.{digits}f}]"


def unit_text(unit: str) -> str:
    """The unit as tables show it."""
    return "%" if unit == SHARE else unit


def escaped(text: str) -> str:
    """Text without anything that Markdown takes for markup."""
    plain = " ".join(text.split())
    for character in "\\`*_{}[]<>|#":
        plain = plain.replace(character, f"\\{character}")
    return plain


def document(sections: Sequence[str], title: str) -> str:
    """The whole summary."""
    return f"# {escaped(title)}\n\n" + "\n".join(sections)
