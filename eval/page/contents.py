"""What a run has of synthetic rows, gathered for the page: funnels, analyses, rows with their stories, and what is missing."""

from collections.abc import Sequence
from dataclasses import dataclass

from eval.analysis.sets import digest
from eval.analysis.summary import VERSION
from eval.page.funnel import Funnel, funnel
from eval.page.rows import Browser, Made, browser, made
from targen.config.settings import Settings
from targen.runtime.errors import UserError
from targen.runtime.jsonl import Json, read_json, read_jsonl
from targen.runtime.paths import RunPaths
from targen.tasks.task import Task

MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Contents:
    """`analyses` are those of the rows as they are now; `missing` says of everything else what it is, and what to do."""

    funnels: tuple[Funnel, ...]
    analyses: tuple[Json, ...]
    browser: Browser | None
    missing: tuple[str, ...]


def contents(settings: Settings) -> Contents:
    """All that can be read; what is damaged costs its own task only."""
    funnels: list[Funnel] = []
    analyses: list[Json] = []
    rows: list[Made] = []
    missing: list[str] = []
    not_made: list[str] = []
    not_analysed: list[str] = []
    has_seeds = settings.method.instance_seed is not None
    for task in settings.tasks.values():
        if not is_made(settings.paths, task):
            not_made.append(task.folder)
            continue
        analysis = None
        try:
            analysis = read_analysis(settings.paths, task)
            if analysis is None:
                not_analysed.append(task.folder)
        except UserError as err:
            missing.append(f"what is in the data of {task.folder}: {err}")
        try:
            own = funnel(task, settings.paths.synthetic(task.name) / "stats.json", has_seeds)
            rows.append(made(settings.paths, task, len(rows), analysis, has_seeds, bool(own.stats["checked"])))
            funnels.append(own)
        except UserError as err:
            missing.append(f"the rows of {task.folder}: {err}")
        if analysis is not None:
            analyses.append(analysis)
    if not_made:
        missing.append(f"synthetic rows of {', '.join(not_made)}: not generated. Run the phase generate")
    if not_analysed:
        missing.append(f"what is in the data of {', '.join(not_analysed)}: not analysed. Run the phase analyze")
    shown = browser(rows, int(settings.report.rows_megabytes * MEGABYTE)) if rows else None
    return Contents(tuple(funnels), tuple(analyses), shown, tuple(missing))


def is_made(paths: RunPaths, task: Task) -> bool:
    return (paths.synthetic(task.name) / "train.jsonl").is_file()


def read_analysis(paths: RunPaths, task: Task) -> Json | None:
    """analysis/<task>.json; None where there is none. Raises: UserError where it is not of this version and these rows."""
    path = paths.analysis / f"{task.name}.json"
    if not path.is_file():
        return None
    analysis = read_json(path)
    if analysis.get("version") != VERSION:
        raise UserError(f"{path} is of another version. Run python -m eval.analyze again.")
    rows = (row for _, row in read_jsonl(paths.synthetic(task.name) / "train.jsonl"))
    if analysis["sets"]["b"]["digest"] != digest(rows):
        raise UserError("the rows have changed since they were analysed. Run python -m eval.analyze again.")
    return analysis


def missing_scores(tasks: Sequence[Task], scored: set[str]) -> list[str]:
    """A line for the tasks that others have scores of."""
    without = [task.folder for task in tasks if task.name not in scored]
    return [f"scores of {', '.join(without)}: not evaluated. Run the phases train and evaluate"] if without else []
