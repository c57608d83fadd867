"""The card of a synthetic data set, `synthetic/README.md`, which makes each task a configuration for `datasets` and the Hub.

It depends on settings and counts alone, so equal runs have equal cards. It holds no text written by a model.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from targen.config.group_files import task_from_file
from targen.config.groups.generation import STEPS
from targen.config.settings import Settings
from targen.runtime.jsonl import Json, read_json, read_jsonl, write_text
from targen.runtime.paths import CONF, visible_paths
from targen.tasks.registry import SUPERGLUE_TASKS
from targen.tasks.task import Task
from targen.text.markdown import inline_code, markdown_table

HERE = Path(__file__).resolve().parent
FOUR_STEPS = "the four steps of [TarGEN](https://arxiv.org/abs/2310.17876)"
IN_ROUNDS = ", in rounds that target the errors of small students"
SELF_CORRECTION = {
    "off": "off: the requested label is final, unchecked",
    "paper": "paper: one pass; the model keeps or corrects the label, the corrected label is final",
    "drop": "drop: one pass; rows whose label the model changed were replaced",
    "vote": "vote: several passes; the majority label is final",
}
CONTAMINATION = {
    "off": "off: rows were not compared with the evaluation split",
    "auto": "auto: rows that repeat the evaluation split are counted in stats.json if that split was available, and were kept",
    "measure": "measure: rows that repeat the evaluation split are counted in stats.json, and were kept",
    "filter": "filter: rows were compared with the evaluation split; those that repeat it were replaced. So this set **has seen** it",
}


def write_card(settings: Settings) -> None:
    """Writes one card for all data sets that the run has so far; none if there are none."""
    stats = stats_of_tasks(settings.paths.card.parent)
    if stats:
        write_text(settings.paths.card, card(settings, stats))


def stats_of_tasks(folder: Path) -> dict[str, Json]:
    """The content of stats.json of every finished task below `synthetic/`, by task name."""
    files = visible_paths(folder, "*/stats.json")
    return {path.parent.name: read_json(path) for path in files if (path.parent / "train.jsonl").is_file()}


def card(settings: Settings, stats: Mapping[str, Json]) -> str:
    """The text of the card: YAML front matter, then Markdown. `stats` is as from stats_of_tasks."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # slow to import

    options: Json = {"undefined": StrictUndefined, "keep_trailing_newline": True, "trim_blocks": True}
    template = Environment(loader=FileSystemLoader(HERE), **options).get_template("card.md.j2")
    superglue, is_targen = _superglue_tasks(stats), _is_targen(settings)
    specs = [_task_named(settings, name) for name in stats]
    steps = FOUR_STEPS + IN_ROUNDS * (settings.method.rounds is not None)
    return template.render(
        front_matter=_front_matter(settings, stats),
        title="Synthetic data in the form of SuperGLUE" if superglue == list(stats) else "Synthetic data",
        rows=sum(counts["rows"] for counts in stats.values()),
        has_held_out=any("held_out" in counts for counts in stats.values()),
        tasks=list(stats),
        method=steps if is_targen else f"the method {inline_code(settings.method.name)}",
        format=_format(stats),
        share="equally many of each" if settings.synth.label_share == "balanced" else "in the given proportions",
        balance_notes=[" ".join(note.split()) for task in specs if task is not None and (note := task.balance_note())],
        is_targen=is_targen,
        superglue=superglue,
        settings_table=_settings_table(settings, stats),
        steps_table=_steps_table(settings, stats),
        counts_table=_counts_table(stats),
        fields_table=_fields_table(settings, stats),
    )


def _is_targen(settings: Settings) -> bool:
    """Whether the rows are made in the four steps, in rounds or not."""
    return settings.method.name == "targen" or settings.method.rounds is not None


def _superglue_tasks(stats: Mapping[str, Json]) -> list[str]:
    """The tasks of the set that are SuperGLUE's."""
    return [name for name in stats if name in SUPERGLUE_TASKS]


def _format(stats: Mapping[str, Json]) -> str:
    """A sentence on the rows of SuperGLUE's tasks; empty if there are none."""
    superglue = _superglue_tasks(stats)
    if not superglue:
        return ""
    subject = "Rows" if superglue == list(stats) else f"Rows of {', '.join(map(inline_code, superglue))}"
    form = "the official format of [SuperGLUE](https://arxiv.org/abs/1905.00537)"
    return f" {subject} have {form}, with its labels, offsets and spans, but are not part of it."


def _front_matter(settings: Settings, stats: Mapping[str, Json]) -> str:
    from huggingface_hub.repocard_data import DatasetCardData  # slow to import

    configs = [
        {
            "config_name": name,
            "data_files": [{"split": split, "path": f"{name}/{split}.jsonl"} for split in _splits(stats[name])],
        }
        for name in stats
    ]
    superglue = _superglue_tasks(stats)
    form = " in the form of SuperGLUE" if superglue == list(stats) else ""
    data = DatasetCardData(
        pretty_name=f"{' '.join(settings.name.split())}: synthetic data{form}",
        license="other",
        language=["en"] if superglue == list(stats) else None,
        tags=["synthetic", *["targen"] * _is_targen(settings), *["superglue"] * bool(superglue)],
        configs=[{**configs[0], "default": True}, *configs[1:]],
        dataset_info=[_dataset_info(settings, name, _splits(stats[name])) for name in stats],
    )
    return str(data.to_yaml(original_order=["pretty_name", "license", "language"]))


def _splits(counts: Json) -> dict[str, int]:
    """The rows of each split of a task."""
    held_out = counts.get("held_out", {}).get("rows", 0)
    return {"train": counts["rows"]} | ({"held_out": held_out} if held_out else {})


def _dataset_info(settings: Settings, name: str, rows: Mapping[str, int]) -> Json:
    """The `dataset_info` of a task. `datasets` keys its cache by it, not by the files, so it includes their digests."""
    digests, splits = [], []
    for split, count in rows.items():
        with (settings.paths.synthetic(name) / f"{split}.jsonl").open("rb") as file:
            digests.append(f"sha256 of {split}.jsonl: {hashlib.file_digest(file, 'sha256').hexdigest()}")
            splits.append({"name": split, "num_bytes": file.tell(), "num_examples": count})
    return {
        "config_name": name,
        "description": "; ".join(digests),
        "splits": splits,
        "download_size": sum(split["num_bytes"] for split in splits),
    }


def _settings_table(settings: Settings, stats: Mapping[str, Json]) -> str:
    synth = settings.synth
    rows = [
        ("run", inline_code(settings.name)),
        ("method", inline_code(settings.method.name)),
        ("model", inline_code(settings.generator.model)),
        ("random seed", inline_code(settings.seed)),
        ("contexts requested", inline_code(synth.contexts)),
        ("instance seeds per call", inline_code(synth.seeds_per_context)),
        ("self-correction", SELF_CORRECTION.get(synth.self_correct, inline_code(synth.self_correct))),
        *([("corrections of a row", inline_code(synth.votes))] if synth.self_correct == "vote" else []),
        ("near-duplicates", _near_duplicates(synth.near_duplicates)),
        ("contamination", CONTAMINATION[synth.contamination]),
        *([("language", "English, as requested in the prompts")] * (_superglue_tasks(stats) == list(stats))),
        ("real examples", _real_examples(settings)),
    ]
    return markdown_table(("setting", "value"), rows)


def _near_duplicates(threshold: float | None) -> str:
    if threshold is None:
        return "kept; only equal rows were replaced"
    return f"rows that share {inline_code(threshold)} of their character trigrams with an earlier one were replaced"


def _real_examples(settings: Settings) -> str:
    if settings.method.demonstrations is not None:
        return "shown in the prompts: this set is **not seedless**"
    if settings.synth.seed_source == "file":
        return "instance seeds come from user files, not from the model: this set is **not seedless**"
    return "none shown to the model (seedless, in the paper's term)"


def _steps_table(settings: Settings, stats: Mapping[str, Json]) -> str:
    rows = []
    for step in STEPS:
        calls = sum(counts["calls"][step]["calls"] for counts in stats.values())
        sampling = settings.synth.sampling[step]
        if calls:
            rows.append((step, f"{calls:,}", sampling.temperature, sampling.top_p, sampling.max_tokens))
    return markdown_table(("step", "calls", "temperature", "top_p", "max_tokens"), rows)


def _counts_table(stats: Mapping[str, Json]) -> str:
    rows = []
    for name, counts in stats.items():
        per_label = [f"{inline_code(label)} {count:,}" for label, count in counts["rows_per_label"].items()]
        numbers = [counts[key] for key in ("contexts", "rejects", "duplicates", "flips")]
        rows.append((inline_code(name), f"{counts['rows']:,}", ", ".join(per_label) or "--", *numbers))
    return markdown_table(("task", "rows", "per label", "contexts", "rejected", "duplicates", "flips"), rows)


def _fields_table(settings: Settings, names: Mapping[str, Json]) -> str:
    rows = []
    for name in names:
        _, first_row = next(read_jsonl(settings.paths.synthetic(name) / "train.jsonl"), (0, {}))
        task = _task_named(settings, name)
        title = f"{task.title} ({task.folder})" if task else "--"
        rows.append((inline_code(name), title, ", ".join(inline_code(key) for key in first_row)))
    return markdown_table(("task", "title", "fields of a row"), rows)


def _task_named(settings: Settings, name: str) -> Task | None:
    """The task; None for one from an earlier start whose configuration is gone."""
    if name in settings.tasks:
        return settings.tasks[name]
    return task_from_file(name) if (CONF / "task" / f"{name}.yaml").is_file() else None
