"""Measures learnability at the end of generation, for stats.json and as a line per task in the terminal, with a warning."""

import json
import logging
from collections.abc import Iterator, Sequence

from targen.config.settings import Settings
from targen.quality.available import ENCODER, encoder_cache
from targen.quality.encoder import NoEncoder
from targen.quality.instances import instances_of
from targen.quality.learnability import (
    METRIC_NAMES,
    RowWithProvenance,
    best_student,
    learnability,
    sample_rows,
    why_too_few,
)
from targen.quality.students import BagOfWords, LinearOnEncoder, Student
from targen.runtime.jsonl import Json, read_json, read_jsonl, write_text
from targen.runtime.paths import RunPaths
from targen.tasks.task import Task

log = logging.getLogger(__name__)
SHOWN_TEXT = 300  # characters of a text of a hard row


def measure_learnability(settings: Settings, tasks: Sequence[Task]) -> None:
    """Adds `learnability` to the stats.json of finished data sets, and logs it in one line per task."""
    rows_by_task = {
        task.name: sample_rows(
            task, rows_with_provenance(settings.paths, task), settings.seed, settings.synth.learnability_rows
        )
        for task in tasks
    }
    students = _students(settings, tasks, rows_by_task)
    for task in tasks:
        entry = learnability(task, rows_by_task[task.name], students, settings.seed)
        path = settings.paths.synthetic(task.name) / "stats.json"
        write_text(path, json.dumps(read_json(path) | {"learnability": entry}, indent=2) + "\n")
        _log(task, entry)


def rows_with_provenance(paths: RunPaths, task: Task) -> list[RowWithProvenance]:
    """The rows of a finished data set with context and seed position from their provenance."""
    folder = paths.synthetic(task.name)
    rows = (row for _, row in read_jsonl(folder / "train.jsonl"))
    stories = (story for _, story in read_jsonl(folder / "provenance.jsonl"))
    return [
        RowWithProvenance(row, story.get("context") or None, story.get("seed_position"))
        for row, story in zip(rows, stories, strict=True)
    ]


def _students(
    settings: Settings, tasks: Sequence[Task], rows_by_task: dict[str, list[RowWithProvenance]]
) -> list[Student]:
    """The students that can be taught here. All texts are embedded at once, since starting the encoder takes seconds."""
    try:
        import sklearn  # noqa: F401
    except ImportError:
        log.warning("learnability: not measured, scikit-learn is not installed. Run: pip install scikit-learn")
        return []
    students: list[Student] = [BagOfWords()]
    cache = encoder_cache(settings.paths.embeddings)
    texts: list[str] = []
    for task in tasks:
        questions = instances_of(task, [item.row for item in rows_by_task[task.name]])
        if why_too_few(task, questions) is None:
            texts += [text for question in questions for option in question.options for text in option]
    if not texts:
        return students
    try:
        cache.embed(texts)
    except NoEncoder as err:
        log.warning("learnability: without the encoder %s: %s", ENCODER, err)
        return students
    return [*students, LinearOnEncoder(cache.embed)]


def _log(task: Task, entry: Json) -> None:
    if (reason := entry.get("not_measured")) is not None:
        log.info("learnability: %s is too small to tell: %s", task.name, reason)
        return
    metric = entry["metric"]
    scores = ", ".join(
        f"{name.replace('_', ' ')} {100 * score['value']:.1f} ({100 * score['low']:.1f} to {100 * score['high']:.1f})"
        for name, score in ((name, student[metric]) for name, student in entry["students"].items())
    )
    majority = f", majority {100 * entry['majority'][metric]:.1f}" if entry["majority"] else ""
    log.info(
        "learnability: %s: %s in percent of %s (chance %.1f%s)",
        task.name,
        METRIC_NAMES[metric],
        scores,
        100 * entry["chance"][metric],
        majority,
    )
    if entry["above_chance"] is False:
        log.warning(
            "learnability: %s is hardly above chance: a model may learn nothing from these rows. Read its hardest rows "
            "(stats.json), and see docs/generation.md, Learnability",
            task.name,
        )


def pilot_text(settings: Settings, tasks: Sequence[Task]) -> str:
    """The hardest rows of each label, for a person who judges a pilot, and how to go on."""
    rows = [line for task in tasks for line in _hard_rows(settings.paths, task)]
    ending = f"This was a pilot of {settings.synth.pilot} rows. To go on: the same command without synth.pilot."
    return "\n".join([*rows, "", ending]) + "\n"


def _hard_rows(paths: RunPaths, task: Task) -> Iterator[str]:
    entry = read_json(paths.synthetic(task.name) / "stats.json").get("learnability", {})
    if "students" not in entry or (best := best_student(entry)) is None:
        return
    by_idx = {item.row["idx"]: item.row for item in rows_with_provenance(paths, task)}
    for label, indices in entry["students"][best]["hardest"].items():
        yield f"\n{task.folder}, {label}: the rows whose label {best.replace('_', ' ')} finds least likely"
        for idx in indices:
            view = task.view(by_idx[idx])
            yield f"  row {idx}"
            yield from (f"    {name}: {_shortened(view[name])}" for name in task.row)


def _shortened(text: str) -> str:
    """The text on one line without control characters, which a terminal would interpret."""
    line = "".join(char if char.isprintable() else " " for char in text)
    return line if len(line) <= SHOWN_TEXT else line[: SHOWN_TEXT - 3] + "..."
