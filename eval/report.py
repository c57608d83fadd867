"""The report phase: `python -m eval.report +experiment=quickstart`; one HTML page and the same table as Markdown."""

import logging
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from eval.tables import Line, evaluated_on, lines, markdown, warning
from targen.cli import main
from targen.config import Settings
from targen.errors import UserError
from targen.jsonl import Json, read_json, read_jsonl, write_text
from targen.paths import RunPaths
from targen.run_dir import open_run, read_record
from targen.task import TaskSpec
from train.cells import cells

log = logging.getLogger(__name__)
STORIES_PER_TASK, REJECTS_PER_TASK = 4, 5


@dataclass(frozen=True)
class Story:
    """One instance from context to correction, by name: what was shown for it, its seed, and its row as `texts`."""

    slot: str
    shown: dict[str, str]
    instance_seed: dict[str, str]
    variant: dict[str, str]
    texts: dict[str, str]
    label_before: str
    label_after: str
    explanation: str


@dataclass(frozen=True)
class TaskReport:
    """What the page shows of one task's synthesis."""

    name: str
    title: str
    long_title: str
    stats: Json
    stories: tuple[Story, ...]
    rejects: tuple[Json, ...]


def report(settings: Settings) -> Path:
    """Writes report/index.html and report/tables/scores.md; the page's path. Raises: UserError when there is nothing to show."""
    tasks = list(settings.tasks.values())
    names = {cell.name for cell in cells(settings)}
    found = read_jsonl(settings.paths.scores) if settings.paths.scores.is_file() else []
    scores = [row for _, row in found if row["cell"] in names]
    parts = [part for task in tasks if (part := task_report(settings.paths, task)) is not None]
    if not scores and not parts:
        raise UserError(
            f"{settings.run.dir}: got no scores and no synthetic rows, expected a run. Run the other phases first."
        )
    arms = [arm for arm in settings.arms if any(row["arm"] == arm for row in scores)] or list(settings.arms)
    table = lines(tasks, arms, scores)
    title = settings.report.title
    write_text(
        settings.paths.report / "tables" / "scores.md",
        markdown(title, warning(table), settings.report.note, arms, table),
    )
    page = settings.paths.report / "index.html"
    write_text(page, _html(settings, arms, table, parts))
    return page


def task_report(paths: RunPaths, task: TaskSpec) -> TaskReport | None:
    """The synthesis of a task as it lies on disk; None where it was not made."""
    folder = paths.synthetic(task.name)
    if not (folder / "train.jsonl").is_file():
        return None
    rows = [row for _, row in read_jsonl(folder / "train.jsonl")]
    provenance = [line for _, line in read_jsonl(folder / "provenance.jsonl")]
    stats = read_json(folder / "stats.json")
    rejects = tuple(line for _, line in read_jsonl(folder / "rejects.jsonl"))
    return TaskReport(
        task.name, task.folder, task.title, stats, tuple(_stories(task, rows, provenance)), rejects[:REJECTS_PER_TASK]
    )


def _stories(task: TaskSpec, rows: Sequence[Json], provenance: Sequence[Json]) -> list[Story]:
    """A few instances, those with a corrected label first; of a pair (AX-g) the first row."""
    firsts = list(zip(rows, provenance, strict=True))[:: task.rows_per_slot]
    flipped_first = sorted(firsts, key=lambda pair: pair[1]["label_before"] == pair[1]["label_after"])
    return [_story(task, row, story) for row, story in flipped_first[:STORIES_PER_TASK]]


def _story(task: TaskSpec, row: Json, story: Json) -> Story:
    seed = {
        name: value if isinstance(value, str) else "; ".join(map(str, value))
        for name, value in story["instance_seed"].items()
    }
    return Story(
        slot=story["slot"],
        shown=_shown(story),
        instance_seed=seed,
        variant=story["variant"],
        texts=task.code.view(task, row),
        label_before=story["label_before"],
        label_after=story["label_after"],
        explanation=story["explanation"],
    )


def _shown(story: Json) -> dict[str, str]:
    """The context, or what other methods than TarGEN show in its place."""
    shown: dict[str, str] = {**story.get("attributes", {})}
    if story["context"]:
        shown["context"] = story["context"]
    if "task_instruction" in story:
        shown["instruction"] = story["task_instruction"]
    if "demonstrations" in story:
        rows = story["demonstrations"]
        shown["demonstrations"] = f"{rows['task']} {rows['split']}, idx {', '.join(map(str, rows['idx']))}"
    return shown


def _html(settings: Settings, arms: Sequence[str], table: Sequence[Line], parts: Sequence[TaskReport]) -> str:
    """The page. Everything is escaped by the template engine: what a model wrote is text, never markup."""
    folder = Path(__file__).resolve().parent
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    record = read_record(settings.paths.record)
    return environment.get_template("report.html.j2").render(
        title=settings.report.title,
        note=settings.report.note,
        warning=warning(table),
        arms=arms,
        table=table,
        evaluated_on=evaluated_on,
        parts=parts,
        generator=f"{settings.generator.backend}, {settings.generator.model}",
        model=settings.model.name,
        command=shlex.join(["python", "-m", "targen.run", *record.get("overrides", [])]),
        record=record,
        config=settings.paths.config.read_text(encoding="utf-8") if settings.paths.config.is_file() else "",
    )


def phase(cfg: Any, overrides: list[str]) -> int:
    settings = open_run(cfg, write=False)
    page = report(settings)
    log.info("report: %s and %s", page, settings.paths.report / "tables" / "scores.md")
    return 0


if __name__ == "__main__":
    main("eval.report", "writes the tables and the page of a run", phase)
