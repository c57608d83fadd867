"""The card of a synthetic data set: `synthetic/README.md`, with which `datasets` and the Hub know its tasks as configurations.

Made from settings and counts alone, so that equal runs have equal cards. What a model wrote never goes into it.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from targen.config.group_files import task_from_file
from targen.config.groups.generation import STEPS
from targen.config.settings import Settings
from targen.runtime.jsonl import Json, read_json, read_jsonl, write_text
from targen.runtime.paths import CONF
from targen.tasks.task import Task

SELF_CORRECTION = {
    "off": "off: the label that was asked for stands, unchecked",
    "paper": "paper: one pass; the model keeps or corrects the label, the corrected label is final",
    "drop": "drop: one pass; rows whose label the model would change were dropped",
    "vote": "vote: several passes; the label of the majority is final",
}
CONTAMINATION = {
    "off": "off: rows were not held against the evaluation split of SuperGLUE",
    "auto": "auto: rows that repeat the evaluation split are counted in stats.json where that split was at hand, and were kept",
    "measure": "measure: rows that repeat the evaluation split are counted in stats.json, and were kept",
    "filter": "filter: rows were held against the evaluation split; those that repeat it were replaced. So this set **has seen** it",
}
PROVENANCE = (
    "`idx`; `slot` and `attempt` (which instance it was to be, and at which try); `context`, `instance_seed` and `variant` (from "
    "which it was written); `label_before` and `label_after` self-correction, with its `explanation`; `call_ids` of the completions"
)
CITATION = """```bibtex
@article{targen,
  title  = {TarGEN: Targeted Data Generation with Large Language Models},
  author = {Gupta, Himanshu and others},
  year   = {2023},
  eprint = {2310.17876},
  archivePrefix = {arXiv}
}
@article{superglue,
  title  = {SuperGLUE: A Stickier Benchmark for General-Purpose Language Understanding Systems},
  author = {Wang, Alex and others},
  year   = {2019},
  eprint = {1905.00537},
  archivePrefix = {arXiv}
}
```"""


def write_card(settings: Settings) -> None:
    """Writes the card of every data set that the run has by now, whole; none where it has none."""
    stats = found_stats(settings.paths.card.parent)
    if stats:
        write_text(settings.paths.card, card(settings, stats))


def found_stats(folder: Path) -> dict[str, Json]:
    """stats.json of every finished task below `synthetic/`, by its name."""
    files = sorted(folder.glob("*/stats.json"))
    return {path.parent.name: read_json(path) for path in files if (path.parent / "train.jsonl").is_file()}


def card(settings: Settings, stats: Mapping[str, Json]) -> str:
    """The whole text: YAML front matter, then Markdown."""
    parts = [
        "---\n" + _front_matter(settings, stats) + "---",
        "# Synthetic data in the form of SuperGLUE",
        _summary(settings, stats),
        "## How it was made",
        _origin(settings, stats),
        "## Tasks",
        _tasks(stats),
        "Rejected: answers that a check refused. Duplicates: rows that repeat an earlier one, made anew. Flips: labels that "
        "self-correction changed; the label counts are those after it.",
        "## Files and fields",
        _fields(settings, list(stats)),
        "## Balance",
        "Every row was asked for with a given label (and variant, such as cause or effect), equally many of each. What was rejected, "
        "was a duplicate or changed its label was replaced from the same label, and what was too many then was held back. The position "
        "of COPA's right alternative was drawn by the program, never by the model. Tasks whose answer is a text (ReCoRD) have no labels "
        "to balance.",
        "## Known limits",
        "- The text is a language model's. What it states may be false, dated or invented, and persons in it need not exist; it may "
        "carry the biases of the model.\n"
        "- The labels are the model's own. No person has checked them.\n"
        "- The program checked format and surface (spans, offsets, copies), not truth.\n"
        "- A small set shows that the path works and proves nothing else; more rows do not make it more varied than its contexts.\n"
        "- It is made to train and to study models, not to evaluate them.",
        "## Licence",
        "Left to whoever made this set, hence `license: other`: the terms of the model that wrote the text apply to it. Name them where "
        "you share it.",
        "## Citation",
        CITATION,
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(settings: Settings, stats: Mapping[str, Json]) -> str:
    configs: list[Json] = [
        {"config_name": name, "data_files": [{"split": "train", "path": f"{name}/train.jsonl"}]} for name in stats
    ]
    configs[0]["default"] = True
    infos = [_info(settings, name, stats[name]["rows"]) for name in stats]
    values = {
        "pretty_name": f"{' '.join(settings.name.split())}: synthetic data in the form of SuperGLUE",
        "license": "other",
        "language": ["en"],
        "tags": ["synthetic", "targen", "superglue"],
        "configs": configs,
        "dataset_info": infos,
    }
    return str(yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=10_000))


def _info(settings: Settings, name: str, rows: int) -> Json:
    """What `datasets` is told of a task, and what its cache goes by: it does not look at the file, so the digest stands here."""
    with (settings.paths.synthetic(name) / "train.jsonl").open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = file.tell()
    return {
        "config_name": name,
        "description": f"sha256 of train.jsonl: {digest}",
        "splits": [{"name": "train", "num_bytes": size, "num_examples": rows}],
        "download_size": size,
    }


def _summary(settings: Settings, stats: Mapping[str, Json]) -> str:
    rows = sum(counts["rows"] for counts in stats.values())
    return (
        f"{rows:,} rows for {len(stats)} task(s), written and labelled by a language model with the method "
        f"{code(settings.method.name)} of [TarGEN](https://arxiv.org/abs/2310.17876), reproduced. Rows have the official format of "
        "[SuperGLUE](https://arxiv.org/abs/1905.00537) and are no part of it.\n\n"
        f'```python\nfrom datasets import load_dataset\n\nrows = load_dataset("PATH_OR_NAME", "{next(iter(stats))}", split="train")\n```'
    )


def _origin(settings: Settings, stats: Mapping[str, Json]) -> str:
    synth = settings.synth
    table = [
        ("run", code(settings.name)),
        ("method", code(settings.method.name)),
        ("model", code(settings.generator.model)),
        ("seed of the random numbers", code(settings.seed)),
        ("contexts asked for", code(synth.contexts)),
        ("instance seeds a call", code(synth.seeds_per_context)),
        ("self-correction", SELF_CORRECTION.get(synth.self_correct, code(synth.self_correct))),
        *([("corrections of a row", code(synth.votes))] if synth.self_correct == "vote" else []),
        ("near-duplicates", _near_duplicates(synth.near_duplicates)),
        ("contamination", CONTAMINATION[synth.contamination]),
        ("language", "English, the language that the prompts ask for"),
        ("real examples", _real_examples(settings)),
    ]
    steps = []
    for step in STEPS:
        calls = sum(counts["calls"][step]["calls"] for counts in stats.values())
        sampling = synth.sampling[step]
        if calls:
            steps.append((step, f"{calls:,}", sampling.temperature, sampling.top_p, sampling.max_tokens))
    return "\n\n".join(
        [_table(("setting", "value"), table), _table(("step", "calls", "temperature", "top_p", "max_tokens"), steps)]
    )


def _near_duplicates(threshold: float | None) -> str:
    if threshold is None:
        return "kept; only equal rows were replaced"
    return f"rows that share {code(threshold)} of their character trigrams with an earlier one were replaced"


def _real_examples(settings: Settings) -> str:
    if settings.method.demonstrations is not None:
        return "shown in the prompts: this set is **not seedless**"
    if settings.synth.seed_source == "file":
        return "instance seeds come from files of the user, not from the model: this set is **not seedless**"
    return "none shown to the model (seedless, in the paper's word)"


def _tasks(stats: Mapping[str, Json]) -> str:
    lines = []
    for name, counts in stats.items():
        labels = ", ".join(f"{code(label)} {count:,}" for label, count in counts["rows_per_label"].items()) or "--"
        numbers = [counts[key] for key in ("contexts", "rejects", "duplicates", "flips")]
        lines.append((code(name), f"{counts['rows']:,}", labels, *numbers))
    return _table(("task", "rows", "per label", "contexts", "rejected", "duplicates", "flips"), lines)


def _fields(settings: Settings, names: Sequence[str]) -> str:
    lines = []
    for name in names:
        _, row = next(read_jsonl(settings.paths.synthetic(name) / "train.jsonl"), (0, {}))
        task = _task(settings, name)
        lines.append(
            (code(name), f"{task.title} ({task.folder})" if task else "--", ", ".join(code(key) for key in row))
        )
    return "\n\n".join(
        [
            _table(("task", "in SuperGLUE", "fields of a row"), lines),
            "- `<task>/train.jsonl`: the rows, in the official format: labels, offsets and spans as in SuperGLUE's own files.\n"
            f"- `<task>/provenance.jsonl`: the story of each row: {PROVENANCE}.\n"
            "- `<task>/stats.json`: counts per label, reason of rejection and step.",
        ]
    )


def _task(settings: Settings, name: str) -> Task | None:
    """The task; None for one that an earlier start had and that this project does not know."""
    if name in settings.tasks:
        return settings.tasks[name]
    return task_from_file(name) if (CONF / "task" / f"{name}.yaml").is_file() else None


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    return "\n".join(f"| {' | '.join(str(cell) for cell in row)} |" for row in (head, ["---"] * len(head), *rows))


def code(value: object) -> str:
    """A name as Markdown code, in one line and one table cell, whatever is in it."""
    text = " ".join(str(value).split()).replace("`", "'").replace("|", "\\|")
    return f"`{text}`"
