"""Runs that are hard on the page: hostile texts, many long rows; and what a browser measures of it, in milliseconds."""

import json
import re
from pathlib import Path
from random import Random
from typing import Any

from eval.reporting.report import report
from targen.config.settings import Settings
from targen.generate import generate
from targen.runtime.jsonl import write_jsonl
from tests.support.commands import lines, settings

HOSTILE = (
    "</script></style><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
    "<!--<script> ]]> {{ 7*7 }} ${7*7} \\u003c \" ' \\ & &lt; \u2028\u2029 \x00 \ud83d javascript:alert(1) "
) + "x" * 300
CHANGES = (("kind", "row"), ("task", "ReCoRD"), ("search", "the"), ("search", "zq"), ("search", ""))
FROM_CHANGE_TO_PAINT = """([id, value]) => new Promise((done) => {
  const control = document.getElementById(id), list = document.getElementById("list"), start = performance.now();
  new MutationObserver(() => requestAnimationFrame(() => setTimeout(() => done(performance.now() - start))))
    .observe(list, {childList: true});
  control.value = value;
  control.dispatchEvent(new Event("input", {bubbles: true}));
})"""


def hostile_run(folder: Path) -> Settings:
    """A reported run in which every text that the model wrote is the hostile one."""
    run = settings(f"run.dir={folder}", "task=rte")
    generate(run)
    synthetic = run.paths.synthetic("rte")
    hostile = {"context": HOSTILE, "instance_seed": {HOSTILE: HOSTILE}, "attributes": {"a": HOSTILE}}
    rows = [line | {"premise": HOSTILE, "hypothesis": HOSTILE} for line in lines(synthetic / "train.jsonl")]
    provenance = [line | hostile | {"explanation": HOSTILE} for line in lines(synthetic / "provenance.jsonl")]
    reject = hostile | dict.fromkeys(("slot", "step", "reason", "text", "label"), HOSTILE)
    reject |= {"attempt": 0, "variant": {}}
    rejects = [reject, reject | {"rows": rows[:1]}]
    for name, records in (("train", rows), ("provenance", provenance), ("rejects", rejects)):
        write_jsonl(synthetic / f"{name}.jsonl", records)
    stats = json.loads((synthetic / "stats.json").read_text())
    counts = {
        "attempts": 1_234_567,
        "rejects": 2,
        "rejects_per_reason": {HOSTILE: 2, f"generation: {HOSTILE}": 654_321},
    }
    (synthetic / "stats.json").write_text(json.dumps(stats | counts))
    report(run)
    return run


def many_rows(folder: Path, count: int) -> Settings:
    """A run of so many ReCoRD rows, the longest of all tasks, each with words of its own."""
    run = settings(f"run.dir={folder}", "task=record")
    generate(run)
    synthetic = run.paths.synthetic("record")
    for name in ("train", "provenance"):
        rows = lines(synthetic / f"{name}.jsonl")
        write_jsonl(synthetic / f"{name}.jsonl", (_varied(rows[number % len(rows)], number) for number in range(count)))
    return run


def _varied(line: dict[str, Any], number: int) -> dict[str, Any]:
    """Other words of the same length; offsets of entities still hold, and every row differs."""
    draws = Random(number)

    def varied(text: str) -> str:
        return re.sub(r"\b[a-z]{5}\b", lambda _: "".join(draws.choices("abcdefghijklmnopqrstuvwxyz", k=5)), text)

    if "passage" in line:
        passage = line["passage"] | {"text": varied(line["passage"]["text"])}
        return line | {"passage": passage, "idx": number, "qas": [line["qas"][0] | {"idx": number}]}
    seed = line["instance_seed"] | {"article": varied(line["instance_seed"]["article"])}
    return line | {"idx": number, "slot": f"c0-{number:05d}", "instance_seed": seed, "context": varied(line["context"])}


def first_paint(chromium: Any, page: Path) -> float:
    """From opening the page to its first text on the screen."""
    tab = chromium.new_page()
    tab.goto(page.as_uri())
    tab.screenshot()  # by which it is painted
    paint: float = tab.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    tab.close()
    return paint


def filter_times(chromium: Any, page: Path, tries: int) -> dict[str, float]:
    """From a change of a filter to its rows on the screen, each the best of `tries`."""
    tab = chromium.new_page()
    tab.goto(page.as_uri())
    times = {
        f"{id}={value}": min(tab.evaluate(FROM_CHANGE_TO_PAINT, [id, value]) for _ in range(tries))
        for id, value in CHANGES
    }
    tab.close()
    return times
